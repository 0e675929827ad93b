//! Workers that die, hang and load; clients that leave; queues that fill; the order to stop.

use std::sync::atomic::Ordering;
use std::time::Duration;

use illava::server::Settings;
use illava::server::client::Patience;
use serde_json::json;

use super::http::question;
use super::inprocess::{serve, settings, start};
use super::peer::{Gate, Peer};

fn eight() -> Settings {
    Settings { parallel: 8, queue: 8, ..settings() }
}

#[test]
fn a_dying_worker_costs_its_streams_one_error_each() {
    let server = serve(eight(), Peer::default());
    let mut streams: Vec<_> =
        (0..7).map(|i| server.stream(&question(&format!("slow for ever {i}")))).collect();
    for stream in &mut streams {
        assert!(stream.next().unwrap().contains("assistant"));
    }
    streams.push(server.stream(&question("die")));
    for mut stream in streams {
        let objects = stream.rest();
        let error = &objects.last().unwrap()["error"];
        assert_eq!(
            (&error["code"], &error["type"]),
            (&json!(503), &json!("unavailable_error")),
            "{objects:?}"
        );
        assert!(error["message"].as_str().unwrap().contains("SIGKILL"));
        assert_eq!(stream.next(), None, "nothing comes after the error");
    }
    assert_eq!(server.ask("again").text(), "again");
    assert_eq!(server.peer.seen.launched.load(Ordering::SeqCst), 2);
    assert!(server.get("/metrics").body.contains("illava_worker_restarts 1"));
}

#[test]
fn whole_answers_get_a_503() {
    let server = serve(settings(), Peer::default());
    let reply = server.ask("die");
    reply.fails(503, "SIGKILL");
    assert!(reply.head.contains("retry-after: 1"), "{}", reply.head);
}

#[test]
fn a_request_that_kills_two_workers_is_refused() {
    let server = serve(eight(), Peer::default());
    // An innocent request is there the first time, and is not blamed.
    let mut innocent = server.stream(&question("slow for ever"));
    innocent.next().unwrap();
    server.ask("die").fails(503, "SIGKILL");
    innocent.rest();
    server.ask("die").fails(503, "SIGKILL");
    server.ask("die").fails(500, "two workers");
    assert_eq!(server.peer.seen.launched.load(Ordering::SeqCst), 3, "no third worker died");
    let mut again = server.stream(&question("slow for ever"));
    assert!(again.next().unwrap().contains("assistant"));
    assert_eq!(server.ask("other").text(), "other");
}

#[test]
fn requests_that_wait_for_a_slot_outlive_a_worker() {
    let server = serve(settings(), Peer::default());
    let mut first = server.stream(&question("slow for ever"));
    first.next().unwrap();
    let mut second = server.stream(&question("slow for ever, too"));
    second.next().unwrap();
    let mut waiting = server.stream(&question("patient"));
    server.wait("the third to wait", || {
        let text = server.get("/metrics").body;
        text.contains("requests_processing 2") && text.contains("requests_deferred 1")
    });
    server.peer.kill();
    for stream in [&mut first, &mut second] {
        let objects = stream.rest();
        assert_eq!(objects.last().unwrap()["error"]["code"], 503, "{objects:?}");
    }
    let objects = waiting.rest();
    let said = objects.iter().filter_map(|object| object["choices"][0]["delta"]["content"].as_str());
    assert_eq!(said.collect::<String>(), "patient", "{objects:?}");
    assert_eq!(objects.last().unwrap()["choices"][0]["finish_reason"], "stop");
    assert_eq!(server.peer.seen.launched.load(Ordering::SeqCst), 2);
}

#[test]
fn a_silent_worker_is_replaced() {
    let patience = Patience { silence: Duration::from_millis(1500), ..settings().patience };
    let server = serve(Settings { patience, ..settings() }, Peer::default());
    server.ask("silence").fails(503, "no answer for");
    // On a busy machine the next worker may be late for once, too.
    server.wait("an answer", || server.ask("again").status == 200);
}

#[test]
fn while_the_model_loads() {
    let loading = Gate::shut();
    let server = start(settings(), Peer { loading: loading.clone(), ..Peer::default() });
    for path in ["/health", "/props", "/slots"] {
        let reply = server.get(path);
        reply.fails(503, "Loading model");
        assert_eq!(reply.json()["error"]["type"], "unavailable_error");
    }
    server.ask("hi").fails(503, "Loading model");
    assert_eq!(server.get("/v1/models").json()["data"][0]["id"], "tiny.gguf");
    assert_eq!(server.get("/").status, 200);
    loading.open();
    server.wait_ready();
    assert_eq!(server.ask("hi").text(), "hi");
}

#[test]
fn during_a_restart_health_says_so_and_requests_wait() {
    let reloading = Gate::shut();
    let server = serve(settings(), Peer { reloading: reloading.clone(), ..Peer::default() });
    server.ask("die").fails(503, "SIGKILL");
    server.get("/health").fails(503, "another is being started");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| server.ask("patient"));
        reloading.open();
        assert_eq!(waiting.join().unwrap().text(), "patient");
    });
}

#[test]
fn a_model_that_cannot_be_loaded_ends_the_server() {
    let server = start(settings(), Peer { load_fails: true, ..Peer::default() });
    let error = server.ended().unwrap_err();
    assert_eq!(error.to_string(), "t.gguf: damaged");
    assert_eq!(error.kind().exit_code(), 1);
}

#[test]
fn who_leaves_frees_the_slot_at_once() {
    let server = serve(settings(), Peer::default());
    let cancelled = || server.peer.seen.cancelled.load(Ordering::SeqCst);
    let mut streaming = server.stream(&question("slow for ever"));
    streaming.next().unwrap();
    drop(streaming);
    server.wait("a stream's cancellation", || cancelled() == 1);
    // One that has not got its first word, and one that waits for a whole answer.
    let mut hanging = server.stream(&question("hang"));
    hanging.next().unwrap();
    drop(hanging);
    server.wait("the cancellation of a hanging one", || cancelled() == 2);
    let mut whole = server.connect();
    let body = question("slow for ever").to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x.localhost\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    std::io::Write::write_all(&mut whole, (head + &body).as_bytes()).unwrap();
    server.wait("three requests", || server.peer.seen.requests.lock().unwrap().len() == 3);
    drop(whole);
    server.wait("the cancellation of a whole one", || cancelled() == 3);
    server.wait("empty slots", || server.get("/metrics").body.contains("requests_processing 0"));
}

#[test]
fn a_full_queue_says_come_back() {
    let server = serve(settings(), Peer::default());
    // The server may take connections in another order: any two of them have the slots.
    let streams: Vec<_> = (0..4).map(|_| server.stream(&question("slow for ever"))).collect();
    server.wait("a full house", || {
        let text = server.get("/metrics").body;
        text.contains("requests_processing 2") && text.contains("requests_deferred 2")
    });
    let reply = server.ask("one more");
    reply.fails(429, "--queue");
    assert!(reply.head.contains("retry-after: "), "{}", reply.head);
    server.get("/slots?fail_on_no_slot=1").fails(503, "no slot");
    assert_eq!(server.get("/health").status, 200);
    drop(streams);
    server.wait("room", || server.ask("now").status == 200);
}

#[test]
fn the_order_to_stop_lets_answers_finish() {
    let server = serve(settings(), Peer::default());
    let mut stream = server.stream(&question("slow but sure and to the very end"));
    stream.next().unwrap();
    let seen = server.peer.seen.clone();
    server.drain();
    let objects = stream.rest();
    assert_eq!(objects.last().unwrap()["choices"][0]["finish_reason"], "stop", "{objects:?}");
    assert!(server.ended().is_ok());
    assert_eq!(seen.told_to_leave.load(Ordering::SeqCst), 1);
}

#[test]
fn an_answer_without_end_is_cut_off_at_last() {
    let server = serve(Settings { drain: Duration::from_millis(300), ..settings() }, Peer::default());
    let mut stream = server.stream(&question("slow for ever"));
    stream.next().unwrap();
    server.drain();
    assert!(server.ended().is_ok());
    while stream.next().is_some() {}
}
