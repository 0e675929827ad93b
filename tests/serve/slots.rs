//! Slots that are saved by one server and restored by another.

use serde_json::{Value, json};

use super::binary::scratch;
use super::http::{Caller, about, png};
use super::served::Served;

/// Nothing is rounded differently whether a prompt is computed at once or in two parts.
const EXACT: [&str; 6] = ["-fa", "off", "-ctk", "f32", "-ctv", "f32"];

fn answer(server: &Caller, body: &Value) -> (String, u64) {
    let answer = server.chat(body);
    assert_eq!(answer.status, 200, "{answer:?}");
    let cached = answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    (answer.text(), cached)
}

/// The first turn, and the second behind its answer.
fn turns(server: &Caller) -> (Value, Value) {
    let fixed = |mut body: Value| {
        body["max_tokens"] = 8.into();
        body["temperature"] = 0.into();
        body["ignore_eos"] = true.into();
        body
    };
    let first = fixed(about(&[&png(96, 72)], "what shape is it"));
    let said = server.chat(&first).text();
    let mut messages = first["messages"].as_array().unwrap().clone();
    messages.push(json!({ "role": "assistant", "content": said }));
    messages.push(json!({ "role": "user", "content": "and its colour" }));
    let second = fixed(json!({ "messages": messages }));
    (first, second)
}

#[test]
fn a_conversation_with_a_picture_goes_on_in_another_server() {
    // Both ways of positions, with merging in encoder and decoder, and without.
    for (name, merge) in
        [("siglip-qwen2-f32", "paper"), ("siglip-qwen2-f32", "off"), ("hf-qwen2_vl-f32", "paper")]
    {
        let folder = scratch(&format!("slots-{name}-{merge}"));
        let _ = std::fs::remove_dir_all(&folder);
        let flags = [&EXACT[..], &["--merge", merge, "-np", "2", "--slot-save-path", &folder]].concat();
        let file = json!({ "filename": "talk.bin" });
        let (saved, expected, second) = {
            let served = Served::start(name, &flags);
            let (_, second) = turns(&served.caller);
            let slots = served.caller.get("/slots").json();
            let slot = slots.as_array().unwrap().iter().find(|slot| slot["kv_tokens"][0] != 0).unwrap();
            let path = format!("/slots/{}?action=save", slot["id"]);
            let saved = served.caller.post(&path, &file).json();
            (saved, answer(&served.caller, &second), second)
        };
        assert!(saved["n_saved"].as_u64().unwrap() > 20, "{name}: {saved}");
        let written = std::fs::metadata(format!("{folder}/talk.bin")).unwrap().len();
        assert_eq!(saved["n_written"], written, "{name}");

        let served = Served::start(name, &flags);
        let server = &served.caller;
        let restored = server.post("/slots/1?action=restore", &file).json();
        assert_eq!((&restored["n_restored"], &restored["n_read"]), (&saved["n_saved"], &json!(written)));
        let got = answer(server, &second);
        assert_eq!(got, expected, "{name}, {merge}: the answer, and the tokens that were there");
        assert!(got.1 > 20, "{name}: {} cached", got.1);
        // Without the file everything is computed.
        for slot in 0..2 {
            server.post(&format!("/slots/{slot}?action=erase"), &json!({})).json();
        }
        assert_eq!(answer(server, &second), (expected.0, 0), "{name}, {merge}");
        server
            .post("/slots/0?action=restore", &json!({ "filename": "none" }))
            .fails(400, "none: no such file");
    }
    // A file of one pair is none of another.
    let folder = scratch("slots-siglip-qwen2-f32-paper");
    let other = Served::start("hf-llava-f32", &["--slot-save-path", &folder]);
    let file = json!({ "filename": "talk.bin" });
    other.caller.post("/slots/0?action=restore", &file).fails(400, "another model");
}
