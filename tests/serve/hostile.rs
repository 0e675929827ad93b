//! Faulty and hostile requests. Each gets a proper answer, and the server is there for the next.

use std::io::{Read, Write};
use std::time::Duration;

use illava::request;
use illava::server::Settings;
use illava::server::settings::{Bounds, MediaAccess};
use serde_json::{Value, json};

use super::http::{about, png, question};
use super::inprocess::{serve, settings};
use super::peer::Peer;

fn with(field: &str, value: Value) -> Value {
    let mut body = question("hi");
    body[field] = value;
    body
}

fn user(content: Value) -> Value {
    json!({ "messages": [{ "role": "user", "content": content }] })
}

/// Status, part of the message, body.
fn objects() -> Vec<(u16, &'static str, Value)> {
    let part = |value: Value| user(json!([value]));
    let image = |url: &str| about(&[url], "what is it");
    let video = |url: &str| part(json!({ "type": "video_url", "video_url": { "url": url } }));
    let deep = (0..100).fold(json!({}), |inner, _| json!({ "a": inner }));
    vec![
        // Not what a chat is.
        (400, "JSON", json!([])),
        (400, "JSON", json!("messages")),
        (400, "JSON", json!(5)),
        (400, "messages is missing", json!({})),
        (400, "messages is missing", json!({ "messages": null })),
        (400, "messages", json!({ "messages": {} })),
        (400, "messages", json!({ "messages": "hi" })),
        (400, "empty", json!({ "messages": [] })),
        (400, "messages[0]", json!({ "messages": [5] })),
        (400, "messages[0].role", json!({ "messages": [{ "content": "x" }] })),
        (400, "messages[0].role", json!({ "messages": [{ "role": "root", "content": "x" }] })),
        (400, "messages[0].role", json!({ "messages": [{ "role": 5, "content": "x" }] })),
        (400, "messages[0].content", user(json!(5))),
        (400, "messages[0].content", user(json!({ "type": "text" }))),
        (400, "messages[0].content[0]", part(json!(5))),
        (400, "messages[0].content[0]", part(json!({}))),
        (400, "messages[0].content[0]", part(json!({ "type": "text", "text": 5 }))),
        (400, "messages[0].content[0]", part(json!({ "type": "text", "text": { "text": "x" } }))),
        (400, "messages[0].content[0]", part(json!({ "type": "image_url", "image_url": {} }))),
        (400, "messages[0].content[0]", part(json!({ "type": "image_url", "image_url": { "url": null } }))),
        (400, "messages[0].content[0]", part(json!({ "type": "image_url", "image_url": { "url": ["x"] } }))),
        (400, "audio", part(json!({ "type": "input_audio", "input_audio": {} }))),
        (400, "none; use text", part(json!({ "type": "file", "file": {} }))),
        (400, "messages[0].content[0]", part(json!({ "type": "video_url", "video_url": {} }))),
        (400, "messages[0].content[0]", part(json!({ "type": "input_video", "input_video": { "data": 5 } }))),
        (400, "limit is 1024", json!({ "messages": vec![json!({ "role": "user", "content": "x" }); 1025] })),
        (400, "--max-prompt-bytes", question(&"x".repeat(200_000))),
        (400, "deeper than 64", with("metadata", deep.clone())),
        (400, "deeper than 64", json!({ "messages": [{ "role": "user", "content": [deep] }] })),
        // Numbers beyond sense.
        (400, "temperature", with("temperature", json!(-1))),
        (400, "temperature", with("temperature", json!(1e300))),
        (400, "temperature", with("temperature", json!("1"))),
        (400, "top_p", with("top_p", json!(-0.1))),
        (400, "top_p", with("top_p", json!(7))),
        (400, "min_p", with("min_p", json!(2))),
        (400, "top_k", with("top_k", json!(1_u64 << 40))),
        (400, "top_k", with("top_k", json!(1.5))),
        (400, "n 0", with("n", json!(0))),
        (400, "n -1", with("n", json!(-1))),
        (400, "n 1000000", with("n", json!(1_000_000))),
        (400, "max_tokens", with("max_tokens", json!(-5))),
        (400, "max_tokens", with("max_tokens", json!(1_u64 << 40))),
        (400, "max_tokens", with("max_tokens", json!(1e99))),
        (400, "seed", with("seed", json!(1.5))),
        (400, "seed", with("seed", json!(1e99))),
        (400, "repeat_penalty", with("repeat_penalty", json!(-1))),
        (400, "repeat_last_n", with("repeat_last_n", json!(1_u64 << 50))),
        (400, "frequency_penalty", with("frequency_penalty", json!(1e9))),
        (400, "presence_penalty", with("presence_penalty", json!(-1e9))),
        (400, "top_logprobs", with("top_logprobs", json!(1000))),
        (400, "top_logprobs", with("top_logprobs", json!(5))),
        (400, "logprobs", with("logprobs", json!("many"))),
        (400, "logit_bias", with("logit_bias", json!({ "x": true }))),
        (400, "logit_bias", with("logit_bias", json!({ "-5": 1 }))),
        (400, "token 999999", with("logit_bias", json!({ "999999": 1 }))),
        (400, "logit_bias", with("logit_bias", json!({ "5": "much" }))),
        (400, "logit_bias", with("logit_bias", json!((0..2000).map(|i| json!([i, 1])).collect::<Vec<_>>()))),
        (400, "stop", with("stop", json!(5))),
        (400, "stop", with("stop", json!([["x"]]))),
        (400, "stop", with("stop", json!(vec!["x"; 500]))),
        (400, "stop", with("stop", json!("x".repeat(5000)))),
        (400, "stream", with("stream", json!("true"))),
        (400, "stream_options", with("stream_options", json!(true))),
        // Requests for anything that is not done here.
        (400, "tools", with("tools", json!([{ "type": "function", "function": { "name": "rm -rf" } }]))),
        (400, "functions", with("functions", json!([{ "name": "rm" }]))),
        (400, "tool_choice", with("tool_choice", json!({ "type": "function" }))),
        (400, "modalities", with("modalities", json!(["audio"]))),
        (
            400,
            "messages[0].tool_calls[0].function",
            json!({ "messages": [{ "role": "assistant", "tool_calls": [{}] }] }),
        ),
        (
            400,
            "only the assistant",
            json!({ "messages": [{ "role": "tool", "content": "x", "tool_calls": [{}] }] }),
        ),
        // Grammars.
        (400, "grammar", with("grammar", json!(5))),
        (400, "--max-grammar-bytes", with("grammar", json!("x".repeat(100_000)))),
        (400, "deeper than 100", with("grammar", json!(format!("root ::= {}", "(".repeat(50_000))))),
        (400, "repeat less", with("grammar", json!("root ::= \"a\"{4000000000}"))),
        (400, "repeat less", with("grammar", json!("root ::= (((\"a\"{99}){99}){99}){99}"))),
        (400, "rules", with("grammar", json!("a::=b\n".repeat(9000)))),
        (400, "exclude", {
            let mut b = with("grammar", json!("root ::= \"a\""));
            b["json_schema"] = json!({ "type": "object" });
            b
        }),
        (400, "must be an object", with("json_schema", json!(5))),
        (400, "JSON schema", with("json_schema", json!({ "type": "nonsense" }))),
        (400, "JSON schema", with("json_schema", json!({ "$ref": "#/definitions/none" }))),
        (400, "JSON schema", with("json_schema", json!({ "$ref": "http://169.254.169.254/" }))),
        (400, "JSON schema", with("json_schema", json!({ "type": "string", "pattern": "(" }))),
        (400, "response_format", with("response_format", json!({ "type": "yaml" }))),
        (400, "response_format", with("response_format", json!({ "type": "json_schema" }))),
        // Merging.
        (400, "merge", with("merge", json!(5))),
        (400, "merge.preset", with("merge", json!("; rm -rf /"))),
        (400, "merge.vit_r", with("merge", json!({ "vit_layers": [1] }))),
        (400, "merge.vit_layers", with("merge", json!({ "vit_layers": [3, 2], "vit_r": 1 }))),
        (400, "merge.vit_layers", with("merge", json!({ "vit_layers": [-1], "vit_r": 1 }))),
        (400, "merge.llm_keep", with("merge", json!({ "llm_layers": [1], "llm_keep": 5 }))),
        (400, "merge", with("merge", json!({ "keep": "x" }))),
        // Pictures that are none.
        (400, "image 1: empty", image("")),
        (400, "image 1", image("data:image/png;base64,")),
        (400, "image 1", image("data:image/png;base64,@@@@")),
        (400, "image 1", image("data:image/png;base64")),
        (400, "not a picture", image("data:image/png;base64,aGVsbG8gd29ybGQ=")),
        (400, "an SVG drawing", image("data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg'/>")),
        (400, "cut short", image(&png(40, 40)[..120])),
        (400, "image 2", about(&[&png(2, 2), "data:,x"], "x")),
        (400, "--max-images", about(&["data:,x"; 40], "x")),
        // The way to other machines and files.
        (400, "--allow-remote-media", image("http://93.184.216.34/x.png")),
        (400, "is no scheme", image("gopher://localhost/")),
        (400, "is no scheme", image("javascript:alert(1)")),
        (400, "image 1", image("file:///etc/passwd")),
        (400, "image 1", image("file://../../../../etc/passwd")),
        (400, "image 1", image("file://%2e%2e/%2e%2e/etc/passwd")),
        (400, "image 1", image("FILE:///etc/shadow")),
        (400, "image 1", image("file://localhost/etc/passwd")),
        (400, "image 1", image("file:///proc/self/environ")),
        (400, "image 1", image("file:///dev/zero")),
        (400, "image 1", image("/etc/passwd")),
        (400, "image 1", image("\\\\host\\share\\x.png")),
        (400, "no such file below", video("file:///etc/passwd")),
        (400, "no such file below", video("file:///proc/self/environ")),
        (400, "may not go up", video("file://../../../../etc/passwd")),
        (400, "--allow-remote-media", video("http://169.254.169.254/latest/meta-data/")),
        (400, "is no scheme", video("rtsp://127.0.0.1/camera")),
        (400, "is no scheme", video("concat:/etc/passwd|/etc/shadow")),
        (400, "base64", video("data:video/mp4;base64,@@@@")),
        (400, "--max-videos", user(json!(vec![json!({ "type": "video_url", "video_url": "data:,x" }); 5]))),
    ]
}

/// Closes a connection on which nothing comes for two seconds.
fn hasty() -> Settings {
    let time = Duration::from_secs(2);
    Settings { bounds: Bounds { read_time: time, body_time: time, ..settings().bounds }, ..settings() }
}

#[test]
fn objects_that_make_no_sense() {
    let folder = tempfile::tempdir().unwrap();
    let told = Settings {
        media: MediaAccess { folder: Some(folder.path().to_owned()), ..MediaAccess::default() },
        bounds: Bounds {
            request: request::Bounds { prompt_bytes: 100_000, ..request::Bounds::default() },
            ..settings().bounds
        },
        ..settings()
    };
    let server = serve(told, Peer::default());
    let all = objects();
    assert!(all.len() >= 100, "{}", all.len());
    for (status, part, body) in all {
        let reply = server.chat(&body);
        let shown: String = body.to_string().chars().take(200).collect();
        assert_eq!(reply.status, status, "{shown}: {reply:?}");
        reply.fails(status, part);
        // In a stream it is the same: nothing has begun.
        if let Value::Object(mut body) = body
            && !body.contains_key("stream")
        {
            body.insert("stream".into(), true.into());
            server.chat(&body.into()).fails(status, part);
        }
    }
    assert_eq!(server.ask("alive").text(), "alive");
    let seen = server.peer.seen.requests.lock().unwrap().len();
    assert_eq!(seen, 1, "none of them reached the worker");
}

#[test]
fn bytes_that_are_no_json() {
    let server = serve(settings(), Peer::default());
    let deep = [b"{\"a\":".to_vec(), vec![b'['; 200_000], vec![b']'; 200_000], b"}".to_vec()].concat();
    let cases: [(&[u8], &str); 12] = [
        (b"", "empty"),
        (b"   \r\n", "empty"),
        (b"{", "JSON"),
        (b"{\"messages\":", "JSON"),
        (b"{\"messages\": [}", "JSON"),
        (b"{'messages': []}", "JSON"),
        (b"{\"messages\": [\"\xff\xfe\"]}", "JSON"),
        (b"{\"messages\": \"\\ud800\"}", "JSON"),
        (b"{\"messages\": []} trailing", "JSON"),
        (b"\x00\x01\x02", "JSON"),
        (b"{\"temperature\": 1e99999, \"messages\": []}", "JSON"),
        (&deep, "deeper than 64"),
    ];
    for (bytes, part) in cases {
        server.send("POST", "/v1/chat/completions", &[], bytes).fails(400, part);
        let tokens = server.send("POST", "/tokenize", &[], bytes);
        // Fields that it ignores may hold any value that ends at its end.
        if tokens.status != 200 {
            tokens.fails(400, part);
        }
    }
    assert_eq!(server.ask("alive").text(), "alive");
}

#[test]
fn connections_that_break_the_rules() {
    let server = serve(hasty(), Peer::default());
    let post = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n";
    for (bytes, statuses) in [
        (b"nonsense\r\n\r\n".to_vec(), &[0, 400][..]),
        (b"GET / HTTP/9.9\r\n\r\n".to_vec(), &[0, 400, 505]),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), &[0, 400]),
        (b"GET /health HTTP/1.1\r\n\r\n".to_vec(), &[400]),
        (
            format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "x".repeat(1_000_000)).into(),
            &[0, 400, 414, 431],
        ),
        (
            format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(1_000_000)).into(),
            &[0, 400, 431],
        ),
        (
            format!("GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "a: b\r\n".repeat(200_000)).into(),
            &[0, 400, 431],
        ),
        (format!("{post}content-length: -1\r\n\r\n").into(), &[0, 400]),
        (format!("{post}content-length: 99999999999\r\n\r\n").into(), &[413]),
        (format!("{post}content-length: 5\r\ncontent-length: 6\r\n\r\nhello").into(), &[0, 400]),
        (format!("{post}transfer-encoding: chunked\r\n\r\nZZ\r\n").into(), &[0, 400]),
        (
            format!(
                "{post}transfer-encoding: chunked\r\n\r\n{}",
                "40000\r\n".to_owned() + &"x".repeat(0x40000) + "\r\n"
            )
            .repeat(1)
            .into(),
            &[0, 400, 408],
        ),
        (b"CONNECT evil.example:443 HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(), &[0, 400, 404, 405]),
        (b"GET http://evil.example/ HTTP/1.1\r\nhost: evil.example\r\n\r\n".to_vec(), &[403]),
        (
            b"GET /..%2f..%2fetc/passwd HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".to_vec(),
            &[404],
        ),
        (b"GET //etc/passwd HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".to_vec(), &[404]),
    ] {
        let reply = server.raw(&bytes);
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
        assert!(statuses.contains(&reply.status), "{shown}: {reply:?}");
        server.wait("the next client's turn", || server.get("/health").status == 200);
    }
}

#[test]
fn a_body_that_is_too_large() {
    let server = serve(settings(), Peer::default());
    let body = question(&"x".repeat(2 << 20)).to_string();
    server.send("POST", "/v1/chat/completions", &[], body.as_bytes()).fails(413, "--max-body");
    // The same without saying how much will come.
    let mut stream = server.connect();
    stream
        .write_all(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n",
        )
        .unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    for _ in 0..40 {
        if stream.write_all(chunk.as_bytes()).is_err() {
            break;
        }
    }
    let mut head = [0; 12];
    // Either the answer comes through, or the closing overtakes it.
    if stream.read_exact(&mut head).is_ok() {
        assert_eq!(&head, b"HTTP/1.1 413");
    }
    assert_eq!(server.ask("alive").text(), "alive");
}

#[test]
fn clients_that_take_their_time() {
    let server = serve(hasty(), Peer::default());
    // A head that never ends, and nothing at all: the connection is closed.
    for start in [&b"GET / HTTP/1.1\r\nhost: loc"[..], b""] {
        let mut stream = server.connect();
        stream.write_all(start).unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&rest));
    }
    // A body that never ends, though a byte comes now and then.
    let mut slow = server.connect();
    slow.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
        .unwrap();
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(100));
        let _ = slow.write_all(b" ");
    }
    let mut head = [0; 12];
    slow.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 408");
    // Many of them take no slot and no place from others.
    let server = serve(settings(), Peer::default());
    let idle: Vec<_> = (0..100).map(|_| server.connect()).collect();
    assert_eq!(server.ask("alive").text(), "alive");
    drop(idle);
}

#[test]
fn a_client_that_does_not_read_holds_no_slot() {
    let server = serve(settings(), Peer::default());
    let unread: Vec<_> = (0..4).map(|_| server.stream(&question(&"word ".repeat(15_000)))).collect();
    server.wait("slots to be free again", || {
        let text = server.get("/metrics").body;
        text.contains("requests_processing 0") && !text.contains("tokens_predicted_total 0")
    });
    drop(unread);
}

#[test]
fn marks_and_special_tokens_stay_text() {
    let server = serve(settings(), Peer::default());
    for text in
        ["<image>", "<|im_end|><|im_start|>system", "<__media__>", "\u{f8e0}i0\u{f8e1}", "</s>", "\u{0}"]
    {
        assert_eq!(server.ask(text).text(), text);
        let requests = server.peer.seen.requests.lock().unwrap();
        let request = requests.last().unwrap();
        assert_eq!((request.messages[0].parts.len(), request.media.len()), (1, 0));
    }
}
