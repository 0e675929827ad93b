//! Other dialects than OpenAI's chat: each asked and answered in its own words, streams and errors included.

use serde_json::{Value, json};

use super::http::{Caller, Reply, png};
use super::inprocess::{Running, serve, settings};
use super::peer::Peer;

/// Events of a stream: name, if it has one, and object.
pub fn events(reply: &Reply) -> Vec<(String, Value)> {
    assert_eq!(reply.status, 200, "{reply:?}");
    // The body is chunked; its frames end in an empty line, which no chunk's length is.
    let text = reply.body.replace('\r', "");
    let mut name = String::new();
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(event) = line.strip_prefix("event: ") {
            name = event.to_owned();
        } else if let Some(data) = line.strip_prefix("data: ").filter(|data| *data != "[DONE]") {
            found.push((std::mem::take(&mut name), serde_json::from_str(data).unwrap()));
        }
    }
    found
}

/// Lines of JSON of a stream.
pub fn lines(reply: &Reply) -> Vec<Value> {
    assert!(reply.head.contains("application/x-ndjson"), "{}", reply.head);
    reply
        .body
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn with(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}

pub fn last_request(server: &Running) -> illava::request::Request {
    server.peer.seen.requests.lock().unwrap().last().unwrap().clone()
}

const CALL: &str = "<tool_call>\n{\"name\": \"look\", \"arguments\": {\"at\": \"x y\"}}\n</tool_call>";

fn base64(uri: &str) -> String {
    use base64::Engine;
    let escaped = uri.strip_prefix("data:image/png,").unwrap();
    let hex = |i: usize| u8::from_str_radix(&escaped[i + 1..i + 3], 16).unwrap();
    base64::prelude::BASE64_STANDARD.encode((0..escaped.len()).step_by(3).map(hex).collect::<Vec<u8>>())
}

#[test]
fn llama_cpps_completion() {
    let server = serve(settings(), Peer::default());
    for path in ["/completion", "/completions"] {
        let body = json!({ "prompt": "one two\nthree", "n_predict": 9, "seed": 1, "samplers": ["top_k", "temperature"],
                           "return_tokens": true, "min_p": 0.5 });
        let answer = server.post(path, &body).json();
        assert_eq!((&answer["content"], &answer["stop"]), (&json!("one two\nthree"), &json!(true)));
        assert_eq!((&answer["stop_type"], &answer["has_new_line"]), (&json!("eos"), &json!(true)));
        assert_eq!((&answer["tokens"], &answer["prompt"]), (&json!([7, 7]), &json!("one two\nthree")));
        assert_eq!((&answer["tokens_evaluated"], &answer["timings"]["predicted_n"]), (&json!(40), &json!(2)));
        let how = &answer["generation_settings"];
        assert_eq!(
            (&how["n_predict"], &how["min_p"]),
            (&json!(9), &json!(0.0)),
            "min_p is no sampler of the list"
        );
    }
    let chosen = json!({ "prompt": "a", "response_fields": ["content", "generation_settings/n_predict"] });
    assert_eq!(server.post("/completion", &chosen).json(), json!({ "content": "a", "n_predict": -1 }));
    let several = server.post("/completion", &json!({ "prompt": ["a", [98, 99]] })).json();
    assert_eq!((&several[0]["content"], &several[1]["content"]), (&json!("a"), &json!("bc")));
    assert_eq!((&several[0]["index"], &several[1]["index"]), (&json!(0), &json!(1)));
    let probable = server.post("/completion", &json!({ "prompt": "a b", "n_probs": 2 })).json();
    assert_eq!(probable["completion_probabilities"][0]["top_logprobs"].as_array().unwrap().len(), 2);
    let picture = json!({ "prompt": { "prompt_string": "<__media__>pixels", "multimodal_data": [base64(&png(3, 2))] } });
    assert_eq!(server.post("/completion", &picture).json()["stop"], true);
    assert_eq!((last_request(&server).media[0].width, last_request(&server).raw.len()), (3, 2));

    let stream = server.post(
        "/completion",
        &json!({ "prompt": "one two", "stream": true, "return_progress": true,
                                                     "timings_per_token": true }),
    );
    let events = events(&stream);
    let text: String = events.iter().filter_map(|(_, event)| event["content"].as_str()).collect();
    assert_eq!(text, "one two");
    assert_eq!(events.iter().filter(|(_, event)| event["prompt_progress"].is_object()).count(), 2);
    assert!(
        events
            .iter()
            .any(|(_, event)| event["timings"]["predicted_per_second"].is_number() && event["stop"] == false)
    );
    let last = &events.last().unwrap().1;
    assert_eq!(
        (&last["stop"], &last["content"], &last["tokens_predicted"]),
        (&json!(true), &json!(""), &json!(2))
    );
    for (body, part) in [
        (json!({}), "prompt is missing"),
        (json!({ "prompt": [400] }), "token 400"),
        (json!({ "prompt": "a", "samplers": ["temperature", "top_k"] }), "samplers: give some of"),
        (json!({ "prompt": "a", "messages": [] }), "messages: there is no such field"),
    ] {
        server.post("/completion", &body).fails(400, part);
    }
}

#[test]
fn openais_older_completions() {
    let server = serve(settings(), Peer::default());
    let answer =
        server.post("/v1/completions", &json!({ "prompt": "one two", "logprobs": 1, "n": 2 })).json();
    assert_eq!((&answer["object"], &answer["choices"][1]["index"]), (&json!("text_completion"), &json!(1)));
    assert_eq!(
        (&answer["choices"][0]["text"], &answer["choices"][0]["finish_reason"]),
        (&json!("one two"), &json!("stop"))
    );
    assert_eq!(answer["choices"][0]["logprobs"]["tokens"], json!(["one ", "two"]));
    assert_eq!(answer["choices"][0]["logprobs"]["text_offset"], json!([0, 4]));
    assert_eq!(answer["usage"]["completion_tokens"], 4);
    let body = json!({ "prompt": "one two", "stream": true, "stream_options": { "include_usage": true } });
    let events = events(&server.post("/v1/completions", &body));
    let text: String = events.iter().filter_map(|(_, event)| event["choices"][0]["text"].as_str()).collect();
    assert_eq!((text.as_str(), &events.last().unwrap().1["usage"]["total_tokens"]), ("one two", &json!(42)));
}

#[test]
fn anthropics_messages() {
    let server = serve(settings(), Peer::default());
    let body = json!({ "model": "any", "max_tokens": 9, "system": [{ "type": "text", "text": "Be brief.", "cache_control": {} }],
        "stop_sequences": ["END"], "metadata": { "user_id": "x" },
        "messages": [
            { "role": "user", "content": "first" },
            { "role": "assistant", "content": [{ "type": "text", "text": "yes" }] },
            { "role": "user", "content": [
                { "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": base64(&png(3, 2)) } },
                { "type": "text", "text": "hello there" }] }] });
    let answer = server.post("/v1/messages", &body).json();
    assert_eq!(answer["content"], json!([{ "type": "text", "text": "hello there" }]));
    assert_eq!(
        (&answer["type"], &answer["role"], &answer["stop_reason"]),
        (&json!("message"), &json!("assistant"), &json!("end_turn"))
    );
    assert_eq!(
        (&answer["usage"]["input_tokens"], &answer["usage"]["cache_read_input_tokens"]),
        (&json!(30), &json!(10))
    );
    assert!(answer["id"].as_str().unwrap().starts_with("msg_") && answer.get("timings").is_none());
    let request = last_request(&server);
    assert_eq!((request.messages.len(), request.media[0].width), (4, 3));
    assert_eq!(
        (request.limits.stop.as_slice(), request.limits.max_tokens),
        (&["END".to_owned()][..], Some(9))
    );
    let cut = json!({ "max_tokens": 1, "messages": [{ "role": "user", "content": "cut" }] });
    assert_eq!(server.post("/v1/messages", &cut).json()["stop_reason"], "max_tokens");

    let events = events(&server.post("/v1/messages", &with(body.clone(), "stream", true.into())));
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "message_start",
            "ping",
            "content_block_start",
            "content_block_delta",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    assert!(events.iter().all(|(name, event)| event["type"] == name.as_str()));
    assert_eq!(events[3].1["delta"], json!({ "type": "text_delta", "text": "hello " }));
    assert_eq!(events[6].1["delta"]["stop_reason"], "end_turn");
    let counted = server.post("/v1/messages/count_tokens", &json!({ "messages": body["messages"] })).json();
    assert_eq!(counted, json!({ "input_tokens": "[0]hello there".len() + 100 }));
}

#[test]
fn anthropics_errors() {
    let locked = illava::server::Settings { api_keys: vec!["secret".into()], ..settings() };
    let server = serve(locked, Peer::default());
    let ask = |key: &str, body: &Value| {
        server.send("POST", "/v1/messages", &[("x-api-key", key)], body.to_string().as_bytes())
    };
    let body = json!({ "max_tokens": 5, "messages": [{ "role": "user", "content": "hi" }] });
    let refused = ask("wrong", &body);
    assert_eq!(refused.status, 401);
    assert_eq!(
        refused.json(),
        json!({ "type": "error", "error": { "type": "authentication_error", "message": "Invalid API Key" } })
    );
    for (body, part) in [
        (json!({ "messages": body["messages"] }), "max_tokens is missing"),
        (with(body.clone(), "stop_sequences", json!(vec!["x"; 17])), "stop_sequences: 17 texts"),
        (with(body.clone(), "temprature", json!(1)), "did you mean temperature"),
        (
            with(body.clone(), "messages", json!([{ "role": "user", "content": [{ "type": "image" }] }])),
            "messages[0].content[0].source",
        ),
        (
            with(body.clone(), "messages", json!([{ "role": "user", "content": [{ "type": "document" }] }])),
            "`document`",
        ),
        (
            with(body.clone(), "thinking", json!({ "type": "enabled", "budget_tokens": "x" })),
            "thinking.budget_tokens",
        ),
        (with(body.clone(), "messages", json!([{ "role": "user", "content": "long" }])), "900 tokens"),
        (
            with(
                with(body.clone(), "stream", json!(true)),
                "messages",
                json!([{ "role": "user", "content": "long" }]),
            ),
            "900 tokens",
        ),
    ] {
        let reply = ask("secret", &body);
        let error = reply.json();
        assert_eq!(
            (reply.status, &error["type"], &error["error"]["type"]),
            (400, &json!("error"), &json!("invalid_request_error"))
        );
        assert!(error["error"]["message"].as_str().unwrap().contains(part), "{error}");
    }
}

#[test]
fn ollamas_chat_and_generate() {
    let server = serve(settings(), Peer::default());
    let body = json!({ "model": "any", "keep_alive": "5m", "options": { "num_predict": 7, "temperature": 0.5, "stop": ["END"], "num_ctx": 4096 },
        "messages": [{ "role": "user", "content": "hello there", "images": [base64(&png(3, 2))] }] });
    let stream = lines(&server.post("/api/chat", &body));
    let text: String = stream.iter().filter_map(|line| line["message"]["content"].as_str()).collect();
    assert_eq!((text.as_str(), stream.len()), ("hello there", 3));
    assert!(stream.iter().all(|line| line["model"] == "tiny.gguf" && line["created_at"].is_string()));
    let last = stream.last().unwrap();
    assert_eq!(
        (&last["done"], &last["done_reason"], &last["eval_count"]),
        (&json!(true), &json!("stop"), &json!(2))
    );
    let request = last_request(&server);
    assert_eq!(
        (request.limits.max_tokens, request.sampling.temperature, request.media[0].height),
        (Some(7), 0.5, 2)
    );
    let whole = server.post("/api/chat", &with(body.clone(), "stream", false.into())).json();
    assert_eq!((&whole["message"]["content"], &whole["done"]), (&json!("hello there"), &json!(true)));

    let asked = json!({ "prompt": "what is it", "system": "Be brief.", "images": [base64(&png(3, 2))], "stream": false, "format": "json" });
    let answer = server.post("/api/generate", &asked).json();
    assert_eq!((&answer["response"], &answer["prompt_eval_count"]), (&json!("what is it"), &json!(40)));
    let request = last_request(&server);
    assert_eq!((request.messages.len(), request.grammar.is_some()), (2, true));
    let raw = server.post("/api/generate", &json!({ "prompt": "raw words", "raw": true, "stream": false }));
    assert_eq!((&raw.json()["response"], last_request(&server).raw.len()), (&json!("raw words"), 1));
    for (path, body, part) in [
        ("/api/chat", with(body.clone(), "options", json!({ "temperature": -1 })), "options.temperature -1"),
        ("/api/chat", with(body.clone(), "options", json!({ "num_predict": -5 })), "options.num_predict -5"),
        (
            "/api/chat",
            with(body.clone(), "options", json!({ "mirostat": 2 })),
            "options.mirostat: not supported",
        ),
        ("/api/chat", with(body.clone(), "think", json!(true)), "think"),
        ("/api/chat", with(body.clone(), "format", json!("xml")), "format: give"),
        ("/api/generate", json!({ "prompt": "a", "suffix": "b" }), "suffix"),
    ] {
        let reply = server.post(path, &body);
        assert_eq!(reply.status, 400, "{body}");
        let error = reply.json()["error"].as_str().unwrap().to_owned();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn what_ollamas_clients_ask_of_models() {
    let server = serve(settings(), Peer::default());
    let tags = server.get("/api/tags").json();
    assert_eq!(
        (&tags["models"][0]["name"], &tags["models"][0]["details"]["format"]),
        (&json!("tiny.gguf"), &json!("gguf"))
    );
    assert!(server.get("/api/ps").json()["models"][0]["expires_at"].is_string());
    assert!(server.get("/api/version").json()["version"].as_str().unwrap().split('.').count() == 3);
    let shown = server.post("/api/show", &json!({ "model": "tiny.gguf" })).json();
    assert!(shown["capabilities"].as_array().unwrap().contains(&json!("vision")));
    assert_eq!(server.post("/api/embed", &json!({ "input": "a" })).status, 501);
    assert!(server.post("/api/show", &json!(5)).json()["error"].as_str().unwrap().contains("JSON"));
}

#[test]
fn openais_responses() {
    let server = serve(settings(), Peer::default());
    let body = json!({ "model": "any", "instructions": "Be brief.", "max_output_tokens": 9, "store": false,
        "input": [{ "role": "user", "content": [
            { "type": "input_image", "image_url": png(3, 2), "detail": "auto" },
            { "type": "input_text", "text": "hello there" }] }],
        "text": { "format": { "type": "json_schema", "name": "x", "schema": { "type": "object" } } } });
    let answer = server.post("/v1/responses", &body).json();
    assert_eq!((&answer["object"], &answer["status"]), (&json!("response"), &json!("completed")));
    assert_eq!(answer["output"][0]["content"][0]["text"], "hello there");
    assert!(
        answer["id"].as_str().unwrap().starts_with("resp_")
            && answer["output"][0]["id"].as_str().unwrap().starts_with("msg_")
    );
    assert_eq!(answer["usage"]["input_tokens_details"]["cached_tokens"], 10);
    let request = last_request(&server);
    assert_eq!(
        (request.messages.len(), request.grammar.is_some(), request.limits.max_tokens),
        (2, true, Some(9))
    );

    let events = events(&server.post("/responses", &json!({ "input": "hello there", "stream": true })));
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed"
        ]
    );
    for (i, (name, event)) in events.iter().enumerate() {
        assert_eq!((&event["type"], &event["sequence_number"]), (&json!(name), &json!(i)));
    }
    assert_eq!(events[9].1["response"]["output"][0]["content"][0]["text"], "hello there");
    let cut = server.post("/v1/responses", &json!({ "input": "cut" })).json();
    assert_eq!(
        (&cut["status"], &cut["incomplete_details"]["reason"]),
        (&json!("incomplete"), &json!("max_output_tokens"))
    );
    for (body, part) in [
        (json!({}), "input is missing"),
        (json!({ "input": "a", "max_output_tokens": -7 }), "max_output_tokens -7"),
        (json!({ "input": "a", "previous_response_id": "resp_1" }), "previous_response_id: not supported"),
        (json!({ "input": [{ "type": "computer_call" }] }), "input[0].type"),
        (
            json!({ "input": [{ "role": "user", "content": [{ "type": "input_file" }] }] }),
            "input[0].content[0].type",
        ),
    ] {
        server.post("/v1/responses", &body).fails(400, part);
    }
}

/// One tool, in OpenAI's form.
fn tool() -> Value {
    json!({ "type": "function", "function": { "name": "look", "description": "Looks.", "strict": true,
        "parameters": { "type": "object", "properties": { "at": { "type": "string" } }, "required": ["at"] } } })
}

fn asked(server: &Caller, stream: bool) -> Reply {
    let body = json!({ "messages": [{ "role": "user", "content": format!("I look. {CALL}\n{CALL}") }], "tools": [tool()], "stream": stream });
    server.chat(&body)
}

#[test]
fn tools_in_every_dialect() {
    let server = serve(settings(), Peer::default());
    let answer = asked(&server, false).json();
    let choice = &answer["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["content"]),
        (&json!("tool_calls"), &json!("I look."))
    );
    let calls = choice["message"]["tool_calls"].as_array().unwrap();
    assert_eq!(
        (calls.len(), &calls[1]["function"]),
        (2, &json!({ "name": "look", "arguments": "{\"at\": \"x y\"}" }))
    );
    assert_ne!(calls[0]["id"], calls[1]["id"]);
    let request = last_request(&server);
    assert!(
        request.tools.is_some()
            && request.grammar.is_some()
            && request.marks.contains(&"<tool_call>".to_owned())
    );

    let mut arguments = [String::new(), String::new()];
    for (_, event) in events(&asked(&server, true)) {
        if let Some(call) = event["choices"][0]["delta"]["tool_calls"].get(0) {
            let index = call["index"].as_u64().unwrap() as usize;
            arguments[index].push_str(call["function"]["arguments"].as_str().unwrap());
        }
    }
    assert_eq!(arguments, ["{\"at\": \"x y\"}", "{\"at\": \"x y\"}"]);

    let own = json!({ "name": "look", "description": "Looks.", "input_schema": { "type": "object" } });
    let body = json!({ "max_tokens": 99, "tools": [own], "tool_choice": { "type": "any" },
                       "messages": [{ "role": "user", "content": CALL }] });
    let answer = server.post("/v1/messages", &body).json();
    assert_eq!(
        (&answer["stop_reason"], &answer["content"][0]["type"]),
        (&json!("tool_use"), &json!("tool_use"))
    );
    assert_eq!(
        (&answer["content"][0]["name"], &answer["content"][0]["input"]),
        (&json!("look"), &json!({ "at": "x y" }))
    );
    let stream = events(&server.post("/v1/messages", &with(body.clone(), "stream", true.into())));
    let parts: String =
        stream.iter().filter_map(|(_, event)| event["delta"]["partial_json"].as_str()).collect();
    assert_eq!(parts, "{\"at\": \"x y\"}");
    // The result of a tool goes on in its own message.
    let history = json!({ "max_tokens": 9, "tools": body["tools"], "messages": [
        { "role": "user", "content": "look" },
        { "role": "assistant", "content": answer["content"] },
        { "role": "user", "content": [{ "type": "tool_result", "tool_use_id": answer["content"][0]["id"], "content": "seen" }] }] });
    assert_eq!(server.post("/v1/messages", &history).status, 200);
    let roles: Vec<&str> = last_request(&server).messages.iter().map(|message| message.role.name()).collect();
    assert_eq!(roles, ["user", "assistant", "tool"]);

    let body = json!({ "messages": [{ "role": "user", "content": CALL }], "tools": [tool()] });
    let stream = lines(&server.post("/api/chat", &body));
    let call = stream.iter().find_map(|line| line["message"]["tool_calls"].get(0)).unwrap();
    assert_eq!(call["function"]["arguments"], json!({ "at": "x y" }));
    let history = json!({ "stream": false, "messages": [{ "role": "user", "content": "look" },
        { "role": "assistant", "content": "", "tool_calls": [{ "function": { "name": "look", "arguments": { "at": "x" } } }] },
        { "role": "tool", "content": "seen", "tool_name": "look" }] });
    assert_eq!(server.post("/api/chat", &history).json()["message"]["content"], "seen");

    let flat =
        json!({ "type": "function", "name": "look", "parameters": { "type": "object" }, "strict": true });
    let body =
        json!({ "input": CALL, "tools": [flat], "tool_choice": { "type": "function", "name": "look" } });
    let answer = server.post("/v1/responses", &body).json();
    assert_eq!(
        (&answer["output"][0]["type"], &answer["output"][0]["arguments"]),
        (&json!("function_call"), &json!("{\"at\": \"x y\"}"))
    );
    let history = json!({ "input": [{ "role": "user", "content": "look" }, answer["output"][0],
        { "type": "function_call_output", "call_id": answer["output"][0]["call_id"], "output": "seen" }], "tools": body["tools"] });
    assert_eq!(server.post("/v1/responses", &history).json()["output"][0]["content"][0]["text"], "seen");

    for (field, value, part) in [
        ("tools", json!([{ "type": "function", "function": { "name": "" } }]), "tools[0].function.name"),
        ("tool_choice", json!("sometimes"), "tool_choice: use auto"),
        ("grammar", json!("root ::= \"a\""), "excludes calls"),
    ] {
        let body = json!({ "messages": [{ "role": "user", "content": "hi" }], "tools": [tool()] });
        server.chat(&with(body, field, value)).fails(400, part);
    }
}

#[test]
fn prompts_and_tokens() {
    let server = serve(settings(), Peer::default());
    assert_eq!(
        server.post("/detokenize", &json!({ "tokens": [104, 105] })).json(),
        json!({ "content": "hi" })
    );
    server.post("/detokenize", &json!({ "tokens": [400] })).fails(400, "tokens");
    server.post("/detokenize", &json!({ "tokens": "a" })).fails(400, "tokens \"a\"");
    let body = json!({ "messages": [{ "role": "user", "content": "hi" }], "chat_template_kwargs": { "enable_thinking": false } });
    assert_eq!(server.post("/apply-template", &body).json(), json!({ "prompt": "hi" }));
    assert_eq!(last_request(&server).variables["enable_thinking"], false);
    assert_eq!(server.post("/v1/chat/completions/input_tokens", &body).json()["input_tokens"], 2);
    assert_eq!(server.get("/v1/models/tiny.gguf").json()["id"], "tiny.gguf");
    server.get("/v1/models/other/name").fails(404, "other/name");
    for path in ["/v1/embeddings", "/embedding", "/infill", "/rerank"] {
        let reply = server.post(path, &json!({}));
        assert_eq!(
            (reply.status, &reply.json()["error"]["type"]),
            (501, &json!("not_supported_error")),
            "{path}"
        );
    }
}
