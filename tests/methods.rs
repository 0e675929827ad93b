//! Published methods by their names in every face that takes a strategy, on the demo pair: each does what it is called
//! and leaves as many tokens everywhere. Then the one that thins the cache, over turns, slots and files.

mod binary;
#[path = "serve/http.rs"]
mod http;
#[path = "serve/served.rs"]
mod served;

use std::collections::BTreeMap;
use std::fs;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use binary::{illava, scratch};
use http::{Caller, about};
use serde_json::{Value, json};
use served::Served;

const DEMO: [&str; 4] = ["-m", "models/demo/text.gguf", "--mmproj", "models/demo/mmproj.gguf"];
const SCENE: &str = "models/demo/images/scene.png";

/// Each method, and the tokens that it leaves of the picture's 196 in the deepest layers. ZipVL's scores decide up to a
/// bound.
const METHODS: [(&str, u64); 9] = [
    ("fastv", 98),
    ("pyramiddrop", 25),
    ("visionzip", 76),
    ("hired", 40),
    ("sparsevlm", 37),
    ("zipvl", 100),
    ("look-m", 39),
    ("look-m-averaged", 39),
    ("look-m-weighted", 39),
];

fn call(command: &str, rest: &[&str]) -> binary::Outcome {
    let outcome =
        illava(&[&[command], &DEMO[..], rest].concat().iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(outcome.code, 0, "{command}: {}", outcome.stderr);
    outcome
}

fn read(path: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The report names the method and has its number of tokens.
#[track_caller]
fn told(report: &Value, (name, left): (&str, u64)) {
    assert_eq!(report["merge"]["strategy"], name);
    assert_eq!(report["tokens"]["visual"], 196, "{name}");
    let deepest =
        report["tokens"]["visual_kv"].as_array().unwrap().last().unwrap()["tokens"].as_u64().unwrap();
    assert!(deepest == left || (name == "zipvl" && (1..left).contains(&deepest)), "{name}: {deepest}");
}

fn scene() -> String {
    format!("data:image/png;base64,{}", BASE64_STANDARD.encode(fs::read(SCENE).unwrap()))
}

fn serve(flags: &[&str]) -> Served {
    let served = Served::run(DEMO.iter().chain(flags).map(|a| (*a).to_owned()), &[]);
    served.caller.wait_ready();
    served
}

#[test]
fn in_serve() {
    let served = serve(&["-np", "1", "-c", "2048", "-t", "2"]);
    for method in METHODS {
        let mut body = about(&[&scene()], "what is there");
        body["merge"] = json!({ "strategy": method.0 });
        (body["report"], body["max_tokens"], body["temperature"]) = (true.into(), 3.into(), 0.into());
        let answer = served.caller.chat(&body);
        assert_eq!(answer.status, 200, "{answer:?}");
        told(&answer.json()["report"], method);
    }
}

#[test]
fn in_batch() {
    let (input, output) = (scratch("methods.jsonl"), scratch("methods-out.jsonl"));
    let line = |(name, _): &(&str, u64)| {
        json!({ "id": name, "prompt": "what is there", "image": fs::canonicalize(SCENE).unwrap(),
                "merge": { "strategy": name }, "max_tokens": 3, "temperature": 0 })
    };
    fs::write(&input, METHODS.iter().map(|method| line(method).to_string() + "\n").collect::<String>())
        .unwrap();
    let _ = fs::remove_file(&output);
    call("batch", &[&input, "-o", &output, "-np", "2", "-c", "2048", "-t", "2"]);
    let answers: Vec<Value> = fs::read_to_string(&output)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for (answer, method) in answers.iter().zip(METHODS) {
        assert_eq!(answer["id"], method.0);
        told(&answer["report"], method);
    }
    assert_eq!(answers.len(), METHODS.len());
}

#[test]
fn in_eval() {
    let file = scratch("methods-eval.json");
    let names: Vec<&str> = METHODS.iter().map(|(name, _)| *name).collect();
    let against = names.join(",");
    let set = ["--set", "models/demo/questions.jsonl", "--limit", "3", "-t", "2"];
    call("eval", &[&set[..], &["--against", &against, "--json", &file]].concat());
    let value = read(&file);
    let rows: BTreeMap<&str, f64> = value["rows"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|row| row["category"] == "")
        .map(|row| (row["schedule"].as_str().unwrap(), row["visual_tokens_deepest"].as_f64().unwrap()))
        .collect();
    for (name, left) in METHODS {
        let deepest = rows[name];
        assert!(deepest == left as f64 || (name == "zipvl" && deepest < left as f64), "{name}: {deepest}");
    }
}

#[test]
fn in_explain() {
    for method in METHODS {
        let out = scratch(&format!("methods-{}", method.0));
        let rest = ["--image", SCENE, "-p", "what is there", "-n", "1", "-t", "2", "--out", &out];
        call("explain", &[&rest[..], &["--strategy", method.0]].concat());
        told(&read(&format!("{out}/report.json")), method);
        let trace: illava::report::Trace =
            serde_json::from_str(&fs::read_to_string(format!("{out}/trace.json")).unwrap()).unwrap();
        let fate = &illava::report::fates(&trace).unwrap()[0];
        let left = fate.stages.last().unwrap().left as u64;
        assert!(left == method.1 || (method.0 == "zipvl" && left < method.1), "{}: {left}", method.0);
        assert!(fs::read_to_string(format!("{out}/explain.html")).unwrap().contains(method.0));
        // Stretches of layers choose for themselves, and each picture of them is that of its own step.
        for (stage, step) in fate.stages.iter().skip(1).zip(&trace.steps) {
            assert_eq!(stage.left, step.kept.len(), "{}", method.0);
        }
    }
}

/// The answer with its report.
fn answer(server: &Caller, messages: &Value, merge: &str, n: u32) -> (String, Value) {
    let body = json!({ "messages": messages, "merge": { "strategy": merge }, "report": true, "max_tokens": n,
        "temperature": 0, "ignore_eos": true });
    let reply = server.chat(&body);
    (reply.text(), reply.json()["report"].clone())
}

#[test]
fn a_thinned_cache_over_turns_slots_and_files() {
    let folder = scratch("methods-slots");
    let _ = fs::remove_dir_all(&folder);
    // Nothing is rounded differently whether a prompt is computed at once or in parts.
    let exact = ["-fa", "off", "-ctk", "f32", "-ctv", "f32", "-np", "2", "-c", "2048", "-t", "2"];
    let flags = [&exact[..], &["--slot-save-path", &folder]].concat();
    let file = json!({ "filename": "talk.bin" });
    let first = about(&[&scene()], "what is there")["messages"].clone();
    let mut second = first.as_array().unwrap().clone();
    let expected = {
        let served = serve(&flags);
        let server = &served.caller;
        let (said, report) = answer(server, &first, "look-m", 6);
        let cells = |report: &Value| -> Vec<u64> {
            let kv = report["tokens"]["visual_kv"].as_array().unwrap();
            kv.iter().map(|segment| segment["tokens"].as_u64().unwrap()).collect()
        };
        assert_eq!(cells(&report), [39], "all layers hold as many");
        let (plain, off) = answer(server, &first, "prune", 1);
        assert_ne!(cells(&off), [39]);
        let slot = server.get("/slots").json().as_array().unwrap().iter().position(|slot| {
            let text = report["tokens"]["text"].as_u64().unwrap();
            slot["kv_tokens"][0] == json!(text + 39 + 5)
        });
        let slot = slot.expect("a slot holds the text, what is left of the picture and the answer");
        assert!(!plain.is_empty());
        let saved = server.post(&format!("/slots/{slot}?action=save"), &file).json();
        assert!(saved["n_saved"].as_u64().unwrap() > 39, "{saved}");
        second.push(json!({ "role": "assistant", "content": said }));
        second.push(json!({ "role": "user", "content": "and its colour" }));
        answer(server, &json!(second), "look-m", 6)
    };
    let served = serve(&flags);
    let server = &served.caller;
    let fresh = answer(server, &json!(second), "look-m", 6);
    assert_eq!(fresh.0, expected.0, "a second turn answers as one question of both turns does");
    for slot in 0..2 {
        server.post(&format!("/slots/{slot}?action=erase"), &json!({})).json();
    }
    let restored = server.post("/slots/1?action=restore", &file).json();
    assert!(restored["n_restored"].as_u64().unwrap() > 39, "{restored}");
    assert_eq!(answer(server, &json!(second), "look-m", 6).0, expected.0, "and behind a restored first turn");
    // The prompt itself is computed from all tokens: the first one drawn is that of merging off.
    let body =
        json!({ "messages": first, "merge": "off", "max_tokens": 1, "temperature": 0, "ignore_eos": true });
    assert_eq!(answer(server, &first, "look-m", 1).0, server.chat(&body).text());
}

/// Caches of fewer bits are merged in numbers and rounded again.
#[test]
fn a_thinned_cache_of_any_type() {
    for kind in ["f16", "bf16", "q8_0", "q4_0"] {
        let report = scratch(&format!("methods-{kind}.json"));
        let rest = ["--image", SCENE, "-p", "what is there", "-n", "4", "-t", "2", "--report", &report];
        call("run", &[&rest[..], &["--strategy", "look-m", "-ctk", kind, "-ctv", kind]].concat());
        told(&read(&report), ("look-m", 39));
    }
}
