//! Thoughts of an answer, told apart from its text in the words of every dialect.

use illava::prompt::Part;
use illava::request::Thinking;
use illava::server::Settings;
use serde_json::{Value, json};

use super::dialects::{events, last_request, lines};
use super::inprocess::{Running, serve, settings};
use super::peer::Peer;

const TEMPLATE: &str = "{% if tools %}<tool_call>{% endif %}{{ content.split('</think>')[-1] }}";
const ANSWER: &str = "<think>\nI see  it.\n</think>\n\nA cat <b>.";
const THOUGHT: &str = "I see  it.";
const TEXT: &str = "A cat <b>.";

fn thinking() -> Peer {
    Peer { template: Some(TEMPLATE), ..Peer::default() }
}

fn asked(text: &str) -> Value {
    json!({ "messages": [{ "role": "user", "content": text }], "max_tokens": 99 })
}

fn with(mut body: Value, more: Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// Text of `name` in the deltas of a stream.
fn streamed(server: &Running, body: &Value, name: &str) -> String {
    let events = events(&server.post("/v1/chat/completions", &with(body.clone(), json!({ "stream": true }))));
    events.iter().filter_map(|(_, event)| event["choices"][0]["delta"][name].as_str()).collect()
}

#[test]
fn chat_completions() {
    let server = serve(settings(), thinking());
    for (body, thought, text) in [
        (asked(ANSWER), THOUGHT, TEXT),
        (with(asked(ANSWER), json!({ "reasoning_format": "none" })), "", ANSWER),
        (with(asked(ANSWER), json!({ "separate_reasoning": false })), "", ANSWER),
        (with(asked(ANSWER), json!({ "reasoning_format": "deepseek-legacy" })), THOUGHT, ANSWER),
        (asked("no thought </think> here"), "", "no thought </think> here"),
        (asked("<think>never closed"), "never closed", ""),
    ] {
        let answer = server.post("/v1/chat/completions", &body).json();
        let message = &answer["choices"][0]["message"];
        assert_eq!(message["content"], text, "{body}");
        assert_eq!(message["reasoning_content"].as_str().unwrap_or_default(), thought, "{body}");
        assert_eq!(message.get("reasoning_content").is_some(), !thought.is_empty());
        assert_eq!(
            (streamed(&server, &body, "content"), streamed(&server, &body, "reasoning_content")),
            (text.into(), thought.into()),
            "{body}"
        );
    }
    let answer = server.post("/v1/chat/completions", &asked(ANSWER)).json();
    // The words come one at a time; those of the thought and its marks are three of five.
    assert_eq!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 3);
    let probable = with(asked(ANSWER), json!({ "logprobs": true, "stream": true }));
    let events = events(&server.post("/v1/chat/completions", &probable));
    let told = events.iter().filter_map(|(_, event)| event["choices"][0]["logprobs"]["content"].as_array());
    assert_eq!(told.map(Vec::len).sum::<usize>(), ANSWER.split_inclusive(' ').count(), "each token once");
    server
        .post("/v1/chat/completions", &with(asked("a"), json!({ "reasoning_format": "x" })))
        .fails(400, "reasoning_format: `x`");
    // A prompt without template is continued as it is.
    let raw = server.post("/v1/completions", &json!({ "prompt": ANSWER })).json();
    assert_eq!(raw["choices"][0]["text"], ANSWER);
    let in_text = serve(Settings { reasoning: illava::request::Reasoning::InText, ..settings() }, thinking());
    let answer = in_text.post("/v1/chat/completions", &asked(ANSWER)).json();
    assert_eq!(answer["choices"][0]["message"]["content"], ANSWER);
}

#[test]
fn a_thought_that_the_prompt_began() {
    let server = serve(settings(), Peer { begun: true, ..thinking() });
    let body = asked("I see it. </think> A cat.");
    let message = server.post("/v1/chat/completions", &body).json()["choices"][0]["message"].take();
    assert_eq!((&message["reasoning_content"], &message["content"]), (&json!("I see it."), &json!("A cat.")));
    assert_eq!(streamed(&server, &body, "reasoning_content"), "I see it.");
}

#[test]
fn calls_behind_a_thought() {
    let server = serve(settings(), thinking());
    let call = r#"<think>Look first.</think><tool_call>
{"name": "look", "arguments": {"at": "x y"}}
</tool_call>"#;
    let tool =
        json!({ "type": "function", "function": { "name": "look", "parameters": { "type": "object" } } });
    let body = with(asked(call), json!({ "tools": [tool] }));
    let choice = server.post("/v1/chat/completions", &body).json()["choices"][0].take();
    assert_eq!(
        (&choice["message"]["reasoning_content"], &choice["finish_reason"]),
        (&json!("Look first."), &json!("tool_calls"))
    );
    assert_eq!(choice["message"]["tool_calls"][0]["function"]["arguments"], r#"{"at": "x y"}"#);
    assert_eq!(choice["message"]["content"], Value::Null);
}

#[test]
fn responses() {
    let server = serve(settings(), thinking());
    let body = json!({ "input": ANSWER, "reasoning": { "effort": "low", "summary": "auto" }, "include": ["reasoning.encrypted_content"] });
    let answer = server.post("/v1/responses", &body).json();
    let [thought, message] = [&answer["output"][0], &answer["output"][1]];
    assert_eq!(
        (&thought["type"], &thought["content"][0]),
        (&json!("reasoning"), &json!({ "type": "reasoning_text", "text": THOUGHT }))
    );
    assert!(thought["id"].as_str().unwrap().starts_with("rs_"));
    assert_eq!(message["content"][0]["text"], TEXT);
    assert_eq!(answer["usage"]["output_tokens_details"]["reasoning_tokens"], 3);
    assert_eq!(
        (&answer["reasoning"]["effort"], last_request(&server).thinking.asked),
        (&json!("low"), Some(true))
    );
    let events = events(&server.post("/v1/responses", &with(body, json!({ "stream": true }))));
    let of = |kind: &str| {
        events.iter().filter(|(name, _)| name == kind).map(|(_, event)| event).collect::<Vec<_>>()
    };
    let text: String =
        of("response.reasoning_text.delta").iter().filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!((text.as_str(), &of("response.reasoning_text.done")[0]["text"]), (THOUGHT, &json!(THOUGHT)));
    assert_eq!(of("response.output_item.done").len(), 2);
    let last = &events.last().unwrap().1["response"];
    assert_eq!(
        (&last["output"][0]["type"], &last["output"][1]["content"][0]["text"]),
        (&json!("reasoning"), &json!(TEXT))
    );
    // The answer's items come back with the next question.
    let mut input = vec![json!({ "role": "user", "content": "?" })];
    input.extend(last["output"].as_array().unwrap().clone());
    input.push(json!({ "role": "user", "content": "sure?" }));
    server.post("/v1/responses", &json!({ "input": input })).json();
    let messages = last_request(&server).messages;
    assert_eq!((messages.len(), &messages[1].parts[0]), (3, &Part::Thought(THOUGHT.into())));
    server
        .post("/v1/responses", &json!({ "input": "a", "include": ["web_search_call.results"] }))
        .fails(400, "include");
}

#[test]
fn anthropics_blocks() {
    let server = serve(settings(), thinking());
    let body = with(asked(ANSWER), json!({ "thinking": { "type": "enabled", "budget_tokens": 7 } }));
    let answer = server.post("/v1/messages", &body).json();
    assert_eq!(answer["content"][0], json!({ "type": "thinking", "thinking": THOUGHT, "signature": "" }));
    assert_eq!(answer["content"][1], json!({ "type": "text", "text": TEXT }));
    assert_eq!(last_request(&server).thinking, Thinking { asked: Some(true), most: Some(7) });
    let events = events(&server.post("/v1/messages", &with(body.clone(), json!({ "stream": true }))));
    let blocks: Vec<_> = events
        .iter()
        .filter(|(name, _)| name == "content_block_start")
        .map(|(_, event)| &event["content_block"]["type"])
        .collect();
    assert_eq!(blocks, ["thinking", "text"]);
    let of = |field: &str| {
        events.iter().filter_map(|(_, event)| event["delta"][field].as_str()).collect::<String>()
    };
    assert_eq!((of("thinking").as_str(), of("text").as_str()), (THOUGHT, TEXT));
    assert!(
        events.iter().any(|(_, event)| event["delta"]["type"] == "signature_delta" && event["index"] == 0)
    );
    let history = json!({ "messages": [
        { "role": "user", "content": "?" },
        { "role": "assistant", "content": answer["content"] },
        { "role": "user", "content": "sure?" } ] });
    server.post("/v1/messages", &with(body.clone(), history)).json();
    assert_eq!(
        last_request(&server).messages[1].parts,
        [Part::Thought(THOUGHT.into()), Part::Text(TEXT.into())]
    );
    let off = with(body.clone(), json!({ "thinking": { "type": "disabled" } }));
    server.post("/v1/messages", &off).json();
    assert_eq!(last_request(&server).thinking.asked, Some(false));
    let wrong = server.post("/v1/messages", &with(body, json!({ "thinking": { "type": "maybe" } })));
    assert!(wrong.status == 400 && wrong.body.contains("thinking.type"), "{wrong:?}");
}

#[test]
fn ollamas_thinking() {
    let server = serve(settings(), thinking());
    let body = with(asked(ANSWER), json!({ "think": true }));
    let stream = lines(&server.post("/api/chat", &body));
    let of = |name: &str| stream.iter().filter_map(|line| line["message"][name].as_str()).collect::<String>();
    assert_eq!((of("thinking").as_str(), of("content").as_str()), (THOUGHT, TEXT));
    let whole = server.post("/api/chat", &with(body, json!({ "stream": false }))).json();
    assert_eq!(whole["message"], json!({ "role": "assistant", "content": TEXT, "thinking": THOUGHT }));
    assert_eq!(last_request(&server).thinking.asked, Some(true));
    let generated =
        server.post("/api/generate", &json!({ "prompt": ANSWER, "stream": false, "think": "high" })).json();
    assert_eq!((&generated["response"], &generated["thinking"]), (&json!(TEXT), &json!(THOUGHT)));
    assert_eq!(last_request(&server).variables["reasoning_effort"], "high");
    let shown = server.post("/api/show", &json!({ "model": "any" })).json();
    assert!(shown["capabilities"].as_array().unwrap().contains(&json!("thinking")));
}

/// A model that cannot think says so, to all but Anthropic's clients, which ask without knowing the model.
#[test]
fn models_without_thoughts() {
    let server = serve(settings(), Peer::default());
    for (path, more) in [
        ("/api/chat", json!({ "think": true })),
        ("/v1/chat/completions", json!({ "reasoning_effort": "high" })),
        ("/v1/chat/completions", json!({ "reasoning": { "effort": "low" } })),
    ] {
        let reply = server.post(path, &with(asked("hi"), more));
        assert!(reply.status == 400 && reply.body.contains("knows no thoughts"), "{reply:?}");
    }
    for (path, more) in [
        ("/api/chat", json!({ "think": false })),
        ("/v1/chat/completions", json!({ "reasoning_effort": "none", "thinking_budget_tokens": 5 })),
        ("/v1/messages", json!({ "thinking": { "type": "enabled", "budget_tokens": 50 } })),
    ] {
        assert_eq!(server.post(path, &with(asked("hi"), more)).status, 200, "{path}");
    }
    let answer = server.post("/v1/chat/completions", &asked(ANSWER)).json();
    assert_eq!(answer["choices"][0]["message"]["content"], ANSWER, "the marks mean nothing there");
    // The server's own `--reasoning on` asks nothing of such a model.
    let on = Thinking { asked: Some(true), most: None };
    let server = serve(Settings { thinking: on, ..settings() }, Peer::default());
    for path in ["/api/chat", "/v1/chat/completions", "/v1/messages"] {
        assert_eq!(server.post(path, &asked("hi")).status, 200, "{path}");
        assert_eq!(last_request(&server).thinking.asked, None, "{path}");
    }
    assert_eq!(server.post("/v1/responses", &json!({ "input": "hi" })).status, 200);
    let reply = server.post("/api/chat", &with(asked("hi"), json!({ "think": true })));
    assert!(reply.status == 400 && reply.body.contains("knows no thoughts"), "{reply:?}");
    let server = serve(Settings { thinking: on, ..settings() }, thinking());
    server.post("/v1/chat/completions", &asked("hi")).json();
    assert_eq!(last_request(&server).thinking, on);
}
