//! More clients than there are places: those that never ask, those that wait, and those that are there at the end.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use illava::server::Settings;
use illava::server::settings::Bounds;
use serde_json::json;

use super::http::{Caller, STUCK, question};
use super::inprocess::{serve, settings};
use super::peer::Peer;

/// A head that announces `length` bytes, and `sent` of them.
fn half(server: &Caller, path: &str, length: usize, sent: usize) -> TcpStream {
    let mut stream = server.connect();
    let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&vec![b' '; sent]).unwrap();
    stream
}

/// The same, once the server reads the body.
fn half_read(server: &Caller, path: &str, length: usize, sent: usize) -> TcpStream {
    let mut stream = server.connect();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut reply = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    stream.read_exact(&mut reply).unwrap();
    assert!(reply.starts_with(b"HTTP/1.1 100"));
    stream.write_all(&vec![b' '; sent]).unwrap();
    stream
}

/// Whether the server has answered, or closed.
fn is_over(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let over = stream.peek(&mut [0]).is_ok();
    stream.set_nonblocking(false).unwrap();
    over
}

fn status(mut stream: TcpStream) -> u16 {
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

#[test]
fn bodies_that_never_come_take_no_place() {
    let server = serve(settings(), Peer::default());
    // Four times the places there are, at each endpoint that reads a body.
    let waiting: Vec<_> = ["/v1/chat/completions", "/tokenize"]
        .into_iter()
        .flat_map(|path| (0..16).map(move |_| path))
        .map(|path| half(&server, path, 1000, 1))
        .collect();
    for _ in 0..8 {
        assert_eq!(server.ask("hi").text(), "hi");
        assert_eq!(server.post("/tokenize", &json!({ "content": "a" })).status, 200);
    }
    assert!(server.get("/metrics").body.contains("requests_deferred 0"));
    drop(waiting);
}

#[test]
fn a_body_that_pauses_is_given_up() {
    let bounds = Bounds { read_time: Duration::from_millis(200), ..settings().bounds };
    let server = serve(Settings { bounds, ..settings() }, Peer::default());
    let start = Instant::now();
    assert_eq!(status(half(&server, "/v1/chat/completions", 1000, 10)), 408);
    assert!(start.elapsed() < STUCK / 2, "--body-timeout is not waited for");
}

#[test]
fn bodies_share_a_memory_that_silence_does_not_take() {
    // Places for four bodies of 64 KiB.
    let bounds = Bounds { body_bytes: 64 << 10, ..settings().bounds };
    let server = serve(Settings { bounds, ..settings() }, Peer::default());
    let large = || half(&server, "/tokenize", 60 << 10, 59 << 10);
    let mut full: Vec<_> = (0..4).map(|_| large()).collect();
    let text = "x".repeat(40 << 10);
    let mut refused = None;
    server.wait("the memory to be full", || {
        // A question that comes between may have turned one of the four away.
        full.iter_mut().filter(|stream| is_over(stream)).for_each(|stream| *stream = large());
        let reply = server.post("/tokenize", &json!({ "content": text }));
        refused = (reply.status == 429).then_some(reply);
        refused.is_some()
    });
    refused.unwrap().fails(429, "--max-body");
    drop(full);
    server.wait("room", || server.post("/tokenize", &json!({ "content": text })).status == 200);
}

#[test]
fn a_stream_that_waits_has_its_head() {
    let server = serve(settings(), Peer::default());
    let mut running: Vec<_> = (0..2).map(|_| server.stream(&question("slow for ever"))).collect();
    for stream in &mut running {
        stream.next().unwrap();
    }
    let body = json!({ "messages": [{ "role": "user", "content": "later" }], "stream": true }).to_string();
    let mut waiting = server.connect();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    waiting.write_all(head.as_bytes()).unwrap();
    let mut text = Vec::new();
    let mut piece = [0; 1024];
    // The head and a first comment, while both slots are taken.
    while !String::from_utf8_lossy(&text).contains("\r\n\r\n")
        || !String::from_utf8_lossy(&text).contains("\n: ")
    {
        let n = waiting.read(&mut piece).unwrap();
        assert!(n > 0, "closed before it had its slot");
        text.extend_from_slice(&piece[..n]);
    }
    let head = String::from_utf8_lossy(&text).into_owned();
    assert!(head.starts_with("HTTP/1.1 200") && !head.contains("data:"), "{head}");
    drop(running);
    let mut rest = String::new();
    waiting.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("\"content\":\"later\"") && rest.contains("[DONE]"), "{rest}");
}

#[test]
fn the_order_to_stop_is_the_same_for_all_that_wait() {
    let server = serve(Settings { queue: 3, ..settings() }, Peer::default());
    let mut running: Vec<_> =
        (0..2).map(|_| server.stream(&question("slow but sure and to the very end"))).collect();
    for stream in &mut running {
        stream.next().unwrap();
    }
    let caller = Caller(server.0);
    let waiting: Vec<_> = (0..2).map(|_| std::thread::spawn(move || caller.ask("me"))).collect();
    server.wait("two to wait", || server.get("/metrics").body.contains("requests_deferred 2"));
    let half_sent = half_read(&server, "/v1/chat/completions", 1000, 1);
    let start = Instant::now();
    server.drain();
    for thread in waiting {
        let reply = thread.join().unwrap();
        reply.fails(503, "stopping");
        assert!(reply.head.contains("retry-after"), "{}", reply.head);
    }
    assert_eq!(status(half_sent), 503);
    for mut stream in running {
        let objects = stream.rest();
        assert_eq!(objects.last().unwrap()["choices"][0]["finish_reason"], "stop", "{objects:?}");
    }
    assert!(server.ended().is_ok());
    assert!(start.elapsed() < STUCK / 2, "a half-sent body does not hold the end up");
}

#[test]
fn answers_of_a_body_that_has_begun_are_finished() {
    let server = serve(settings(), Peer::default());
    let mut body = question("slow but sure to the end");
    body["n"] = 3.into();
    let mut stream = server.stream(&body);
    stream.next().unwrap();
    server.drain();
    let objects = stream.rest();
    let ends = objects.iter().filter(|object| object["choices"][0]["finish_reason"] == "stop").count();
    assert_eq!(ends, 3, "{objects:?}");
}
