use serde_json::json;

use super::*;
use crate::request::Grammar;

fn check(body: Value) -> std::result::Result<(Request<Reference>, Reply), String> {
    let defaults = Defaults { scope: Some(b"s".to_vec()), ..Defaults::default() };
    let map = object(body.to_string().as_bytes(), 64).map_err(|error| error.to_string())?;
    read(map, &defaults).map_err(|error| error.to_string())
}

fn with(field: &str, value: Value) -> Value {
    let mut body = json!({ "messages": [{ "role": "user", "content": "hi" }] });
    body[field] = value;
    body
}

#[test]
fn little_is_enough() {
    let (request, reply) = check(with("model", json!("any"))).unwrap();
    assert_eq!(reply, Reply { choices: 1, ..Reply::default() });
    assert_eq!((request.merge, request.logprobs, request.grammar), (None, None, None));
    assert_eq!((request.limits, request.sampling), (Limits::default(), Sampling::default()));
    assert_eq!(request.scope, Some(b"s".to_vec()));
}

#[test]
fn fields_are_found_and_those_that_change_nothing_pass() {
    let (request, reply) = check(json!({
        "messages": [{ "role": "user", "content": "hi", "name": "x" }],
        "stream": true, "stream_options": {"include_usage": true, "include_obfuscation": false},
        "n": 2.0, "max_tokens": 7, "max_completion_tokens": 5.0, "seed": 3.0, "temperature": 0,
        "logprobs": true, "top_logprobs": 4, "cache_prompt": false, "user": "me",
        "tools": [], "tool_choice": "auto", "mirostat": 0, "metadata": {"a": [1]}, "store": true,
        "service_tier": "auto", "prompt_cache_key": "k", "best_of": 1, "length_penalty": 1.0, "min_tokens": 0,
        "skip_special_tokens": true, "typical_p": 1.0, "chat_template_kwargs": {}, "image_data": [],
        "frequency_penalty": null, "never_heard_of": null, "speculative.n_max": 16,
    }))
    .unwrap();
    assert!(reply.stream && reply.include_usage && reply.logprobs && request.scope.is_none());
    assert_eq!((reply.choices, request.limits.max_tokens, request.logprobs), (2, Some(5), Some(4)));
    assert_eq!((request.sampling.seed, request.sampling.temperature), (Some(3), 0.0));
}

/// Bodies of clients, a picture left out. Sources: openai 3.54 (Python) with every field that changes
/// nothing, LangChain 1.7, litellm 1.110, the AI SDK; and Open WebUI, OpenRouter's and LM Studio's examples,
/// SGLang's client.
#[test]
fn bodies_of_clients() {
    for body in [
        json!({ "max_completion_tokens": 8, "temperature": 0, "user": "u", "store": false, "metadata": { "a": "b" },
                "service_tier": "auto", "parallel_tool_calls": true, "prompt_cache_key": "k",
                "prompt_cache_retention": "24h", "safety_identifier": "s", "seed": 1, "n": 1, "stop": null,
                "logit_bias": {}, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0,
                "response_format": { "type": "text" }, "modalities": ["text"], "verbosity": "medium",
                "reasoning_effort": "none", "tools": [{ "type": "function" }], "tool_choice": "none" }),
        json!({ "max_completion_tokens": 8, "n": 1, "top_p": 1.0, "seed": 3, "stop": ["a"], "logprobs": false,
                "stream": false, "store": false, "service_tier": "default", "metadata": { "a": "b" } }),
        json!({ "max_tokens": 8, "temperature": 0, "user": "me", "stream": true,
                "stream_options": { "include_usage": true } }),
        json!({ "stream": true, "chat_id": "c", "session_id": "s", "id": "m", "stream_options": { "include_usage": true } }),
        json!({ "provider": { "order": ["x"] }, "route": "fallback", "usage": { "include": true }, "transforms": [] }),
        json!({ "ttl": 300, "rid": "r", "separate_reasoning": true, "stream_reasoning": true, "regex": null }),
    ] {
        let mut whole = with("model", json!("m"));
        whole.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        check(whole).unwrap_or_else(|error| panic!("{body}: {error}"));
    }
    // An answer that is sent back as it came.
    let answer = json!({ "role": "assistant", "content": "a", "refusal": null, "annotations": null, "audio": null,
                         "function_call": null, "tool_calls": null });
    let messages =
        json!([{ "role": "user", "content": "hi" }, answer, { "role": "user", "content": "sure?" }]);
    check(json!({ "messages": messages })).unwrap();
}

#[test]
fn numbers_and_their_other_names() {
    let sampling = |body: Value| check(body).map(|(request, _)| request.sampling);
    let mut body = with("top_k", json!(1.0));
    for (name, value) in [
        ("top_p", json!(1)),
        ("min_p", json!(0)),
        ("seed", json!(4_000_000_000_u32)),
        ("repetition_penalty", json!(1.5)),
        ("repeat_last_n", json!(-1)),
        ("frequency_penalty", json!(-1)),
        ("presence_penalty", json!(2)),
        ("logit_bias", json!({ "5": -100, "7": 1.5 })),
    ] {
        body[name] = value;
    }
    let expected = Sampling {
        temperature: 0.2,
        top_k: 1,
        top_p: 1.0,
        min_p: 0.0,
        seed: Some(4_000_000_000),
        repeat_last_n: -1,
        repeat_penalty: 1.5,
        frequency_penalty: -1.0,
        presence_penalty: 2.0,
        logit_bias: vec![(5, -100.0), (7, 1.5)],
    };
    assert_eq!(sampling(body).unwrap(), expected);
    assert_eq!(sampling(with("seed", json!(-1))).unwrap().seed, None);
    assert!(sampling(with("seed", json!(i64::MAX))).unwrap().seed.is_some());
    let pairs = sampling(with("logit_bias", json!([[3, false], [4.0, 2]]))).unwrap().logit_bias;
    assert_eq!(pairs, [(3, f32::NEG_INFINITY), (4, 2.0)]);
    for mixed in [json!({ "5": 1, " x": false }), json!([[" x", false], [5, 1]])] {
        let (request, _) = check(with("logit_bias", mixed)).unwrap();
        assert_eq!(request.sampling.logit_bias, [(5, 1.0)]);
        assert_eq!(request.text_bias, [(" x".to_owned(), f32::NEG_INFINITY)]);
    }
    let slot = |slot| check(with("id_slot", json!(slot))).unwrap().0.slot;
    assert_eq!([slot(-1), slot(0), slot(7)], [None, Some(0), Some(7)]);
    let headless = |asked| check(with("add_generation_prompt", json!(asked))).unwrap().0.headless;
    assert_eq!([headless(true), headless(false)], [false, true]);
    let limits = |field, value| check(with(field, value)).unwrap().0.limits;
    assert_eq!(limits("max_tokens", json!(-1)).max_tokens, None);
    assert_eq!(limits("n_predict", json!(5)).max_tokens, Some(5));
    assert_eq!(limits("stop", json!(["a", ""])).stop, ["a"]);
    assert_eq!(check(with("n_probs", json!(3))).unwrap().0.logprobs, Some(3));
    let choice = check(with("guided_choice", json!(["yes", "no"]))).unwrap().0.grammar;
    assert_eq!(choice, Some(Grammar::Gbnf(r#"root ::= "yes" | "no""#.into())));
}

#[test]
fn what_would_change_the_answer_and_is_not_done_is_said() {
    for (field, value) in [
        ("tools", json!([{ "type": "function" }])),
        ("tool_choice", json!("required")),
        ("functions", json!([{}])),
        ("audio", json!({ "voice": "x" })),
        ("modalities", json!(["text", "audio"])),
        ("mirostat", json!(2)),
        ("dry_multiplier", json!(0.8)),
        ("image_data", json!([{ "data": "x", "id": 1 }])),
        ("stop_token_ids", json!([2])),
        ("min_tokens", json!(4)),
        ("bad_words", json!(["no"])),
        ("length_penalty", json!(0.5)),
        ("best_of", json!(3)),
        ("use_beam_search", json!(true)),
        ("skip_special_tokens", json!(false)),
        ("echo", json!(true)),
        ("options", json!({ "temperature": 0 })),
        ("format", json!("json")),
        ("top_n_sigma", json!(1)),
        ("regex", json!("yes|no")),
        ("ebnf", json!("root ::= x")),
        ("min_new_tokens", json!(4)),
    ] {
        let error = check(with(field, value)).unwrap_err();
        assert!(error.contains(field) && error.contains("not supported"), "{error}");
    }
    for (field, part) in [
        ("temprature", "did you mean temperature?"),
        ("max_new_tokens", "there is no such field"),
        ("repeat_penality", "did you mean repeat_penalty?"),
    ] {
        let error = check(with(field, json!(1))).unwrap_err();
        assert!(error.contains(field) && error.contains(part), "{error}");
    }
}

#[test]
fn wrong_values_name_the_field() {
    for (field, value) in [
        ("messages", json!("hi")),
        ("messages", json!([])),
        ("messages", json!(null)),
        ("messages", json!([1])),
        ("n", json!(0)),
        ("n", json!(9)),
        ("n", json!("x")),
        ("stream", json!("yes")),
        ("stream_options", json!(true)),
        ("max_tokens", json!(-7)),
        ("max_tokens", json!(1.5)),
        ("temperature", json!("hot")),
        ("temperature", json!(-1)),
        ("temperature", json!(1e30)),
        ("top_p", json!(1.5)),
        ("min_p", json!(-0.5)),
        ("top_k", json!(5_000_000_000_i64)),
        ("repeat_penalty", json!(0)),
        ("top_logprobs", json!(99)),
        ("top_logprobs", json!(2)),
        ("stop", json!([1])),
        ("stop", json!(vec!["x"; 17])),
        ("seed", json!("x")),
        ("merge", json!(7)),
        ("response_format", json!("json")),
        ("grammar", json!(1)),
        ("report", json!(1)),
        ("logit_bias", json!({ "x": true })),
        ("logit_bias", json!({ "": 1 })),
        ("logit_bias", json!([["x".repeat(257), 1]])),
        ("logit_bias", json!({ "-1": 1 })),
        ("logit_bias", json!([[1]])),
        ("logit_bias", json!([[1, true]])),
        ("logit_bias", json!(5)),
        ("guided_regex", json!(1)),
        ("continue_final_message", json!(true)),
    ] {
        let error = check(with(field, value.clone())).unwrap_err();
        assert!(error.contains(field), "{field} {value}: {error}");
    }
}

#[test]
fn a_conversation_that_ends_with_the_assistant_is_continued() {
    let ending = |more: Value| {
        let mut body = json!({ "messages": [{ "role": "user", "content": "hi" }, { "role": "assistant", "content": "I" }] });
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        check(body).map(|(request, _)| request.messages.last().unwrap().role)
    };
    for more in [json!({}), json!({ "continue_final_message": true, "add_generation_prompt": false })] {
        assert_eq!(ending(more), Ok(Role::Assistant));
    }
    for more in [
        json!({ "continue_final_message": false }),
        json!({ "add_generation_prompt": true }),
        json!({ "continue_final_message": true, "add_generation_prompt": true }),
    ] {
        let error = ending(more.clone()).unwrap_err();
        assert!(
            error.contains("continue") && error.contains("give one") || error.contains("leave"),
            "{more}: {error}"
        );
    }
}

#[test]
fn errors_of_a_body() {
    for (text, part) in [
        ("", "empty"),
        (" \n", "empty"),
        ("{", "EOF"),
        ("[]", "must be an object"),
        (r#"{"a": []} {}"#, "trailing"),
        (r#"{"a":[[[[1]]]]}"#, "deeper than 4"),
        ("{\"a\": \"\u{1}\"}", "control character"),
    ] {
        let error = object(text.as_bytes(), 4).unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
    assert!(object(br#"{"a": "[[[[[[[[[\"[["}"#, 4).is_ok());
    assert!(object("\u{feff}{}".as_bytes(), 4).is_ok());
    assert!(!deeper_than(br#"[][][][]{}[]"#, 1));
}
