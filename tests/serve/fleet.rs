//! Several models on scripted workers: which one answers, which are loaded, and who waits for whom.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use illava::server::{FleetServer, Member, Order, Residence, Settings};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::http::{Caller, question};
use super::inprocess::settings;
use super::peer::{Gate, Peer};

struct Fleet {
    caller: Caller,
    orders: watch::Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

impl Fleet {
    /// Serves models named a, b, ... on these workers.
    fn start(peers: &[&Peer], residence: Residence, settings: &Settings) -> Self {
        let (orders, receiver) = watch::channel(Order::Serve);
        let (sender, address) = std::sync::mpsc::channel();
        let member = |(name, peer): (char, &&Peer)| Member {
            settings: Settings { alias: Some(name.into()), ..settings.clone() },
            launch: Arc::new((*peer).clone()),
        };
        let members: Vec<Member> = ('a'..).zip(peers).map(member).collect();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let server = FleetServer::start(members, residence).await.unwrap();
                sender.send(server.address().unwrap()).unwrap();
                server.run(receiver).await;
            });
        });
        Self { caller: Caller(address.recv().unwrap()), orders, thread: Some(thread) }
    }

    /// The models' states, in the order of the list.
    fn states(&self) -> Vec<Value> {
        let list = self.caller.get("/v1/models").json();
        list["data"].as_array().unwrap().iter().map(|one| one["status"]["value"].clone()).collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.orders.send_replace(Order::Drain);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

const ONE: Residence = Residence { loaded: 1, idle: None };

fn to(model: &str, text: &str) -> Value {
    let mut body = question(text);
    body["model"] = model.into();
    body
}

fn launched(peer: &Peer) -> u32 {
    peer.seen.launched.load(Ordering::SeqCst)
}

#[test]
fn a_request_names_its_model() {
    let (a, b) = (Peer::default(), Peer::default());
    let fleet = Fleet::start(&[&a, &b], ONE, &settings());
    let server = &fleet.caller;
    assert_eq!(server.get("/health").json(), json!({ "status": "ok" }));
    assert_eq!(fleet.states(), ["unloaded", "unloaded"], "nothing is loaded before anybody asks");
    server.get("/metrics").fails(503, "no model is loaded");
    let told = server.chat(&to("b", "one")).json();
    assert_eq!((&told["model"], &told["choices"][0]["message"]["content"]), (&json!("b"), &json!("one")));
    assert_eq!(
        (launched(&a), launched(&b), fleet.states()),
        (0, 1, vec![json!("unloaded"), json!("loaded")])
    );
    // Without a name, the first.
    assert_eq!(server.ask("two").json()["model"], "a");
    assert_eq!(fleet.states(), ["loaded", "unloaded"], "one at a time");
    assert_eq!(b.seen.told_to_leave.load(Ordering::SeqCst), 1);
    // Every dialect, and every way to name a model.
    let ollama = server.post(
        "/api/chat",
        &json!({ "model": "b:latest", "stream": false,
        "messages": [{ "role": "user", "content": "three" }] }),
    );
    assert_eq!(ollama.json()["message"]["content"], "three");
    assert_eq!(server.post("/api/show", &json!({ "name": "a" })).status, 200);
    assert_eq!(server.get("/props?model=b").json()["model_alias"], "b");
    assert_eq!(server.get("/slots").json().as_array().unwrap().len(), 2, "of the model that was asked last");
    assert_eq!(server.get("/v1/models/b").json()["id"], "b");
    let names = |path: &str| -> Vec<Value> {
        server.get(path).json()["models"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect()
    };
    assert_eq!((names("/api/tags"), names("/api/ps")), (vec![json!("a"), json!("b")], vec![json!("b")]));
    server.chat(&to("c", "x")).fails(404, "`c` is not served here; there are a, b");
    server.get("/v1/models/c").fails(404, "a, b");
    server.send("POST", "/v1/chat/completions", &[], b"{").fails(400, "not JSON");
    assert!(server.get("/").body.contains("<title>illava</title>"), "the page needs no model");
    assert_eq!(server.get("/nothing").status, 404);
}

#[test]
fn an_answer_keeps_its_model() {
    let (a, b) = (Peer::default(), Peer::default());
    let fleet = Fleet::start(&[&a, &b], ONE, &settings());
    let mut stream = fleet.caller.stream(&to("a", "slow for ever"));
    stream.next().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| fleet.caller.chat(&to("b", "later")).text());
        // The stream goes on while the other waits for its place.
        for _ in 0..10 {
            assert!(stream.next().is_some());
        }
        assert_eq!(launched(&b), 0);
        drop(stream);
        assert_eq!(waiting.join().unwrap(), "later");
    });
    // Room for both: neither waits.
    let both = Fleet::start(&[&a, &b], Residence { loaded: 2, idle: None }, &settings());
    let mut stream = both.caller.stream(&to("a", "slow for ever"));
    stream.next().unwrap();
    assert_eq!(both.caller.chat(&to("b", "now")).text(), "now");
    assert_eq!(both.states(), ["loaded", "loaded"]);
}

#[test]
fn a_model_that_nobody_asks_leaves() {
    let a = Peer::default();
    let residence = Residence { loaded: 1, idle: Some(Duration::from_millis(50)) };
    let fleet = Fleet::start(&[&a], residence, &settings());
    assert_eq!(fleet.caller.ask("one").text(), "one");
    fleet.caller.wait("the model to leave", || fleet.states() == ["unloaded"]);
    assert_eq!(fleet.caller.ask("two").text(), "two");
    assert_eq!(launched(&a), 2);
}

#[test]
fn a_model_that_cannot_be_loaded_costs_its_own_requests() {
    let (bad, good) = (Peer { load_fails: true, ..Peer::default() }, Peer::default());
    let fleet = Fleet::start(&[&bad, &good], ONE, &settings());
    fleet.caller.ask("one").fails(500, "a cannot be loaded: t.gguf: damaged");
    assert_eq!(fleet.caller.chat(&to("b", "two")).text(), "two");
    fleet.caller.ask("three").fails(500, "damaged");
}

/// Asks for a stream and returns what came before its model was loaded: the head, and a comment if there are any.
fn early(fleet: &Fleet, path: &str, body: &Value, comment: &str) -> (TcpStream, String) {
    let body = body.to_string();
    let mut stream = fleet.caller.connect();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let (mut text, mut piece) = (String::new(), [0; 1024]);
    while !text.contains("\r\n\r\n") || !text.contains(comment) {
        let n = stream.read(&mut piece).unwrap();
        assert!(n > 0, "closed before its model was loaded: {text}");
        text += &String::from_utf8_lossy(&piece[..n]).to_lowercase();
    }
    assert!(text.starts_with("http/1.1 200") && text.contains("x-accel-buffering: no"), "{text}");
    assert_eq!(fleet.states()[0], "loading");
    (stream, text)
}

/// A proxy would take a silent connection for dead.
#[test]
fn a_stream_that_waits_for_its_model_has_its_head() {
    let a = Peer { loading: Gate::shut(), ..Peer::default() };
    let fleet = Fleet::start(&[&a], ONE, &settings());
    let asked = |text: &str| json!({ "messages": [{ "role": "user", "content": text }], "stream": true });
    let (mut chat, head) = early(&fleet, "/v1/chat/completions", &asked("one"), ": waiting");
    assert!(head.contains("content-type: text/event-stream") && !head.contains("data:"), "{head}");
    // Ollama's streams are its default, and their lines have no comments.
    let body = json!({ "messages": [{ "role": "user", "content": "two" }] });
    let (mut ollama, head) = early(&fleet, "/api/chat", &body, "");
    assert!(head.contains("content-type: application/x-ndjson") && !head.contains('{'), "{head}");
    a.loading.open();
    let mut rest = String::new();
    chat.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("\"content\":\"one\"") && rest.contains("data: [DONE]"), "{rest}");
    rest.clear();
    ollama.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("\"content\":\"two\"") && rest.contains("\"done\":true"), "{rest}");
}

/// An error that comes behind the head is the stream's event, in the dialect's words.
#[test]
fn a_model_that_cannot_be_loaded_ends_the_streams_that_wait() {
    let bad = Peer { loading: Gate::shut(), load_fails: true, ..Peer::default() };
    let fleet = Fleet::start(&[&bad], ONE, &settings());
    let said = json!([{ "role": "user", "content": "one" }]);
    let body = json!({ "messages": said, "max_tokens": 5, "stream": true });
    let events = [
        ("/v1/chat/completions", body.clone(), "data: {\"error\":{\"code\":500,"),
        ("/v1/messages", body, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\","),
        (
            "/v1/responses",
            json!({ "input": said, "stream": true }),
            "event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\"",
        ),
    ];
    let open: Vec<_> =
        events.iter().map(|(path, body, event)| (early(&fleet, path, body, ": waiting").0, event)).collect();
    let (mut lines, _) = early(&fleet, "/api/chat", &json!({ "messages": said }), "");
    bad.loading.open();
    let mut rest = String::new();
    for (mut stream, event) in open {
        rest.clear();
        stream.read_to_string(&mut rest).unwrap();
        assert!(rest.contains(event) && rest.contains("t.gguf: damaged"), "{rest}");
    }
    rest.clear();
    lines.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("{\"error\":\"a cannot be loaded: t.gguf: damaged\"}\n"), "{rest}");
}

/// The queue for a model is bounded, and strangers have no place in it.
#[test]
fn those_who_wait_for_a_model() {
    let a = Peer { loading: Gate::shut(), ..Peer::default() };
    let fleet = Fleet::start(&[&a], ONE, &settings());
    // Two slots and two places: of five, one is turned away while the model loads.
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..5).map(|_| scope.spawn(|| fleet.caller.ask("one"))).collect();
        fleet
            .caller
            .wait("one to be turned away", || asked.iter().any(std::thread::ScopedJoinHandle::is_finished));
        assert_eq!(fleet.states(), ["loading"]);
        a.loading.open();
        let replies: Vec<_> = asked.into_iter().map(|one| one.join().unwrap()).collect();
        assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 4, "{replies:?}");
        replies.iter().find(|reply| reply.status != 200).unwrap().fails(429, "--queue");
    });
    let keys = Settings { api_keys: vec!["secret".into()], ..settings() };
    let locked = Fleet::start(&[&Peer::default()], ONE, &keys);
    locked.caller.ask("x").fails(401, "Invalid API Key");
    locked.caller.get("/props").fails(401, "Invalid API Key");
    assert_eq!(locked.states(), ["unloaded"], "a stranger loads nothing");
    let key = [("authorization", "Bearer secret")];
    let body = question("hello").to_string();
    assert_eq!(locked.caller.send("POST", "/v1/chat/completions", &key, body.as_bytes()).text(), "hello");
    locked.caller.send("GET", "/health", &[("host", "evil.example")], b"").fails(403, "--allowed-hosts");
}
