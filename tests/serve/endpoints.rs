//! Every endpoint, as llama.cpp's and OpenAI's clients use it.

use serde_json::{Value, json};

use illava::server::Settings;

use super::http::{Caller, about, png, question};
use super::inprocess::{serve, settings};
use super::peer::Peer;

#[test]
fn one_answer() {
    let server = serve(settings(), Peer::default());
    for path in ["/v1/chat/completions", "/chat/completions"] {
        let reply = server.post(path, &question("hello there you"));
        assert_eq!(reply.text(), "hello there you");
        assert!(reply.head.contains("content-type: application/json"), "{}", reply.head);
        let answer = reply.json();
        assert_eq!((&answer["object"], &answer["model"]), (&json!("chat.completion"), &json!("tiny.gguf")));
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
        assert_eq!(
            answer["usage"],
            json!({ "prompt_tokens": 40, "completion_tokens": 3, "total_tokens": 43,
                    "prompt_tokens_after_merge": 25,
                    "prompt_tokens_details": { "cached_tokens": 10, "image_tokens": 0, "image_tokens_unmerged": 0 },
                    "completion_tokens_details": { "reasoning_tokens": 0 } })
        );
        assert_eq!((&answer["timings"]["prompt_n"], &answer["timings"]["cache_n"]), (&json!(30), &json!(10)));
        assert!(answer.get("report").is_none() && answer.get("trace").is_none());
    }
    assert_eq!(server.ask("cut").json()["choices"][0]["finish_reason"], "length");
}

#[test]
fn an_answer_in_a_stream() {
    let server = serve(settings(), Peer::default());
    let mut body = question("hello there you");
    let objects = server.stream(&body).rest();
    assert_eq!(objects[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": null }));
    let text: String =
        objects.iter().filter_map(|object| object["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "hello there you");
    let last = objects.last().unwrap();
    assert_eq!(last["choices"][0]["finish_reason"], "stop");
    assert_eq!((last["timings"]["predicted_n"].as_u64(), last.get("usage")), (Some(3), None));
    assert!(objects.iter().all(|object| object["id"] == objects[0]["id"]));

    body["stream_options"] = json!({ "include_usage": true });
    body["report"] = true.into();
    body["trace"] = true.into();
    let objects = server.stream(&body).rest();
    let last = objects.last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["total_tokens"], 43);
    assert_eq!(last["report"]["text"], "hello there you");
    assert!(last["trace"]["steps"].is_array() && last["timings"].is_object());
}

#[test]
fn several_answers_to_one_request() {
    let server = serve(settings(), Peer::default());
    let mut body = question("a b");
    body["n"] = 3.into();
    body["seed"] = 5.into();
    let answer = server.chat(&body).json();
    let choices = answer["choices"].as_array().unwrap();
    assert_eq!(choices.iter().map(|choice| &choice["index"]).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(answer["usage"]["completion_tokens"], 6);
    let mut seeds: Vec<u32> =
        server.peer.seen.requests.lock().unwrap().iter().filter_map(|r| r.sampling.seed).collect();
    seeds.sort_unstable();
    assert_eq!(seeds, [5, 6, 7]);
    let objects = server.stream(&body).rest();
    let ends = objects.iter().filter(|object| object["choices"][0]["finish_reason"] == "stop").count();
    assert_eq!(ends, 3);
    assert_eq!(objects.iter().filter(|object| object.get("timings").is_some()).count(), 1);
    body["report"] = true.into();
    server.chat(&body).fails(400, "leave out n");
}

#[test]
fn pictures_come_through_in_order() {
    let server = serve(settings(), Peer::default());
    let (a, b, c) = (png(3, 2), png(5, 4), png(1, 1));
    let mut body = about(&[&a, &b, &c], "");
    body["messages"].as_array_mut().unwrap().push(question("pixels")["messages"][0].clone());
    assert_eq!(server.chat(&body).text(), "3x2 5x4 1x1 ");
    let requests = server.peer.seen.requests.lock().unwrap();
    let request = requests.last().unwrap();
    assert_eq!(request.messages.len(), 4);
    assert_eq!(request.messages[2].parts.len(), 4);
}

#[test]
fn log_probabilities() {
    let server = serve(settings(), Peer::default());
    let mut body = question("a b");
    body["logprobs"] = true.into();
    body["top_logprobs"] = 2.into();
    let answer = server.chat(&body).json();
    let content = answer["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!((content.len(), &content[0]["token"], &content[1]["token"]), (2, &json!("a "), &json!("b")));
    assert_eq!(content[0]["top_logprobs"].as_array().unwrap().len(), 2);
    let objects = server.stream(&body).rest();
    assert_eq!(objects[1]["choices"][0]["logprobs"]["content"][0]["logprob"], -0.25);
}

#[test]
fn what_is_asked_reaches_the_worker() {
    let server = serve(settings(), Peer::default());
    let mut body = question("x");
    for (field, value) in [
        ("merge", json!({ "keep": 0.35 })),
        ("temperature", json!(0)),
        ("max_tokens", json!(9)),
        ("stop", json!(["END"])),
        ("response_format", json!({ "type": "json_object" })),
        ("cache_prompt", json!(false)),
        ("trace", json!(true)),
        ("logit_bias", json!({ "299": -1 })),
    ] {
        body[field] = value;
    }
    assert_eq!(server.chat(&body).status, 200);
    let requests = server.peer.seen.requests.lock().unwrap();
    let request = requests.last().unwrap();
    assert_eq!(request.merge.as_ref().unwrap().keep, Some(0.35));
    assert_eq!((request.sampling.temperature, request.limits.max_tokens), (0.0, Some(9)));
    assert_eq!((request.limits.stop.as_slice(), request.scope.as_ref()), (&["END".to_owned()][..], None));
    assert!(request.grammar.is_some() && request.trace);
}

#[test]
fn errors_of_the_worker_keep_their_kind() {
    let server = serve(settings(), Peer::default());
    server.ask("fail schedule").fails(400, "it cannot be");
    server.ask("fail native").fails(500, "it cannot be");
    let reply = server.ask("long");
    reply.fails(400, "900 tokens");
    let error = &reply.json()["error"];
    assert_eq!(error["type"], "exceed_context_size_error");
    assert_eq!((&error["n_prompt_tokens"], &error["n_ctx"]), (&json!(900), &json!(512)));
    // Before the first word of a stream the status still tells.
    let mut body = question("long");
    body["stream"] = true.into();
    server.chat(&body).fails(400, "900 tokens");
}

#[test]
fn what_the_server_says_of_itself() {
    let server = serve(settings(), Peer::default());
    for path in ["/health", "/v1/health"] {
        assert_eq!(server.get(path).json(), json!({ "status": "ok" }));
    }
    for path in ["/models", "/v1/models"] {
        let models = server.get(path).json();
        assert_eq!((&models["object"], &models["data"][0]["id"]), (&json!("list"), &json!("tiny.gguf")));
        assert_eq!(models["data"][0]["meta"]["n_vocab"], 300);
    }
    let props = server.get("/props").json();
    assert_eq!((&props["total_slots"], &props["modalities"]["vision"]), (&json!(2), &json!(true)));
    assert_eq!(props["illava"]["presets"], json!(["off"]));
    assert_eq!(props["illava"]["unusable_presets"], json!({ "qwen2vl": "another family" }));
    assert_eq!(
        (&props["illava"]["can_merge"], &props["illava"]["default_schedule"]),
        (&json!(true), &json!("image"))
    );
    let slots = server.get("/slots").json();
    assert_eq!((slots.as_array().unwrap().len(), &slots[0]["is_processing"]), (2, &json!(false)));
    assert_eq!(server.get("/slots?fail_on_no_slot=1").status, 200);
    server.ask("one two three");
    let metrics = server.get("/metrics");
    assert!(metrics.head.contains("text/plain; version=0.0.4"), "{}", metrics.head);
    for line in [
        "llamacpp:tokens_predicted_total 3",
        "llamacpp:n_busy_slots_per_decode 2",
        "illava_worker_restarts 0",
    ] {
        assert!(metrics.body.lines().any(|found| found == line), "{line}: {}", metrics.body);
    }
}

#[test]
fn endpoints_that_are_off() {
    let off = illava::server::Settings { metrics: false, slots: false, ..settings() };
    let server = serve(off, Peer::default());
    server.get("/metrics").fails(501, "--metrics");
    server.get("/slots").fails(501, "--no-slots");
}

#[test]
fn tokens_of_a_text() {
    let server = serve(settings(), Peer::default());
    let reply = server.post("/tokenize", &json!({ "content": "hi" }));
    assert_eq!(reply.json(), json!({ "tokens": [104, 105] }));
    let reply = server.post("/tokenize", &json!({ "content": "é", "with_pieces": true }));
    assert_eq!(reply.json()["tokens"][0], json!({ "id": 195, "piece": [195] }));
    assert_eq!(server.post("/tokenize", &json!({})).json(), json!({ "tokens": [] }));
}

#[test]
fn keys() {
    let locked = illava::server::Settings { api_keys: vec!["secret".into()], ..settings() };
    let server = serve(locked, Peer::default());
    let body = question("scope").to_string();
    let ask =
        |headers: &[(&str, &str)]| server.send("POST", "/v1/chat/completions", headers, body.as_bytes());
    ask(&[]).fails(401, "Invalid API Key");
    ask(&[("authorization", "Bearer wrong")]).fails(401, "Invalid API Key");
    let reply = ask(&[("authorization", "Bearer wrong")]);
    assert_eq!(reply.json()["error"]["type"], "authentication_error");
    assert!(ask(&[("authorization", "Bearer secret")]).text().starts_with("Some"));
    assert_eq!(ask(&[("x-api-key", "secret")]).status, 200);
    for path in ["/health", "/v1/models", "/models", "/"] {
        assert_eq!(server.get(path).status, 200, "{path}");
    }
    for path in ["/props", "/slots", "/metrics"] {
        server.get(path).fails(401, "Invalid API Key");
    }
    server.post("/tokenize", &json!({})).fails(401, "Invalid API Key");
    // A browser asks before it sends the key.
    let preflight = server.send(
        "OPTIONS",
        "/v1/chat/completions",
        &[("origin", "http://localhost:3000"), ("access-control-request-method", "POST")],
        b"",
    );
    assert_eq!(preflight.status, 200);
    assert!(
        preflight.head.contains("access-control-allow-origin: http://localhost:3000"),
        "{}",
        preflight.head
    );
}

#[test]
fn a_browser_may_send_the_headers_of_clients() {
    let server = serve(settings(), Peer::default());
    let names = "authorization,cache-control,content-type,x-stainless-lang,x-stainless-retry-count,x-title,anthropic-version";
    for (origin, may) in [("http://localhost:3000", true), ("https://evil.example", false)] {
        let preflight = server.send(
            "OPTIONS",
            "/v1/chat/completions",
            &[
                ("origin", origin),
                ("access-control-request-method", "POST"),
                ("access-control-request-headers", names),
            ],
            b"",
        );
        let allowed =
            preflight.head.lines().find_map(|line| line.strip_prefix("access-control-allow-headers: "));
        assert_eq!(preflight.status == 200 && allowed == Some(names), may, "{origin}: {}", preflight.head);
    }
}

#[test]
fn small_differences_between_clients() {
    let server = serve(settings(), Peer::default());
    let body = question("hi").to_string();
    for path in ["/v1/chat/completions/", "//v1//chat/completions", "/v1/chat/completions?x=1"] {
        assert_eq!(server.send("POST", path, &[], body.as_bytes()).text(), "hi", "{path}");
    }
    let coded = server.send("POST", "/v1/chat/completions", &[("content-encoding", "gzip")], b"\x1f\x8b");
    coded.fails(415, "Content-Encoding gzip");
    assert_eq!(server.send("POST", "/tokenize", &[("content-encoding", "identity")], b"{}").status, 200);
    server.raw(b"GET /health HTTP/1.1\r\nconnection: close\r\n\r\n").fails(400, "no Host");
    assert_eq!(server.raw(b"GET /health HTTP/1.0\r\n\r\n").status, 200);
    let numbers = json!({ "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 5.0, "seed": 7.0,
                          "top_k": 40.0, "n": 1.0 });
    assert_eq!(server.chat(&numbers).text(), "hi");
}

#[test]
fn pages_of_others() {
    let server = serve(settings(), Peer::default());
    let get = |headers: &[(&str, &str)]| server.send("GET", "/v1/models", headers, b"");
    get(&[("host", "evil.example")]).fails(403, "--allowed-hosts");
    get(&[("origin", "https://evil.example")]).fails(403, "--cors-origins");
    get(&[("origin", "null")]).fails(403, "--cors-origins");
    let own = get(&[("origin", "http://localhost:5173")]);
    assert_eq!(own.status, 200);
    assert!(own.head.contains("access-control-allow-origin: http://localhost:5173"), "{}", own.head);
    assert!(own.head.contains("x-content-type-options: nosniff"), "{}", own.head);
}

#[test]
fn the_page_and_its_policy() {
    let server = serve(settings(), Peer::default());
    let page = server.get("/");
    assert_eq!(page.status, 200);
    assert!(
        page.body.contains("<html") && page.head.contains("content-type: text/html; charset=utf-8"),
        "{}",
        page.head
    );
    assert!(page.head.contains("default-src 'none'; script-src 'self'"), "{}", page.head);
    let etag = page.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    assert_eq!(server.send("GET", "/", &[("if-none-match", &etag)], b"").status, 304);
    let script = server.get("/app/main.js");
    assert!(script.head.contains("javascript; charset=utf-8"), "{}", script.head);
    for path in ["/vendor/README.md", "/../Cargo.toml", "/app/", "/no/such"] {
        server.get(path).fails(404, "no such");
    }
    server.send("DELETE", "/v1/models", &[], b"").fails(405, "DELETE");
    server.get("/v1/chat/completions").fails(405, "GET");
    server.post("/no/such", &Value::Null).fails(404, "no such");
}

/// The names of `-a` are sorted: the first is the model's, and all find it.
#[test]
fn a_model_has_several_names_and_tags() {
    let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let (aliases, tags) = (list(&["large", "small"]), list(&["vision"]));
    let server =
        serve(Settings { alias: Some("large".into()), aliases, tags, ..settings() }, Peer::default());
    let model = &server.get("/v1/models").json()["data"][0];
    assert_eq!(model["id"], "large");
    assert_eq!((&model["aliases"], &model["tags"]), (&json!(["large", "small"]), &json!(["vision"])));
    assert_eq!(server.get("/v1/models/small").json()["id"], "large");
    server.get("/v1/models/medium").fails(404, "`medium` is not served here");
}

/// Every address of 127.0.0.0/8 is this machine on Linux; macOS has the first alone.
#[cfg(target_os = "linux")]
#[test]
fn several_addresses() {
    let server = serve(Settings { host: "127.0.0.1, 127.0.0.2".into(), ..settings() }, Peer::default());
    assert_eq!(server.ask("one").text(), "one");
    let other = Caller(([127, 0, 0, 2], server.0.port()).into());
    assert_eq!(other.ask("two").text(), "two");
    // The other still answers while the first is asked for long.
    let mut stream = server.stream(&question("slow for ever"));
    assert!(stream.next().is_some());
    assert_eq!(other.ask("three").text(), "three");
}
