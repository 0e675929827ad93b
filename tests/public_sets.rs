//! `illava eval` on files in the layouts of public sets: each is read as published, answered and marked.
//!
//! The files and what is expected of them are made by `tools/public_sets`, whose columns are those that lmms-eval and
//! VLMEvalKit load.

mod binary;

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use binary::{Outcome, illava_with, pair, scratch};
use illava::eval::{self, Reading};
use serde_json::{Value, json};

const SETS: &str = "tests/fixtures/eval/public";

fn expected() -> Vec<Value> {
    serde_json::from_str(&fs::read_to_string("tests/fixtures/eval/public.json").unwrap()).unwrap()
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn every_layout_is_read_as_published() {
    let sets = expected();
    assert!(sets.len() > 40);
    for wanted in sets {
        let name = wanted["set"].as_str().unwrap();
        let set = eval::read(&Path::new(SETS).join(name), &Reading::default());
        let set = set.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(set.metrics(), wanted["metric"].as_str().unwrap(), "{name}");
        let items = wanted["items"].as_array().unwrap();
        assert_eq!(set.items.len(), items.len(), "{name}");
        for (number, (item, wanted)) in set.items.iter().zip(items).enumerate() {
            let at = format!("{name}, question {number}: {item:?}");
            let id = wanted["id"].as_str().map_or_else(|| number.to_string(), str::to_owned);
            assert_eq!(item.id, id, "{at}");
            assert_eq!(item.question, wanted["question"], "{at}");
            assert_eq!(item.answers, texts(&wanted["answers"]), "{at}");
            assert_eq!(item.options, texts(&wanted["options"]), "{at}");
            assert_eq!(item.category, wanted["category"], "{at}");
            assert_eq!(item.pictures.len() as u64, wanted["pictures"], "{at}");
            assert_eq!(item.videos.len() as u64, wanted["videos"], "{at}");
            assert_eq!(item.again.as_deref(), wanted["again"].as_str(), "{at}");
            assert_eq!(item.subtitles.is_some(), wanted["subtitles"] == true, "{at}");
            assert_eq!(item.precision.map(|digits| digits as u64), wanted["precision"].as_u64(), "{at}");
            assert_eq!(item.metric.map(eval::Metric::name), wanted["metric"].as_str(), "{at}");
            if let Some(group) = wanted["group"].as_str() {
                assert_eq!(item.group, group, "{at}");
            }
            assert_eq!(item.context, wanted["context"].as_str().unwrap_or_default(), "{at}");
            if let Some(prompt) = wanted["prompt"].as_str() {
                assert_eq!(eval::prompt(item, eval::instruction(set.metric_of(item))), prompt, "{at}");
            }
            for picture in &item.pictures {
                picture.pixels(&item.id).unwrap();
            }
            for video in &item.videos {
                assert!(Path::new(video).exists(), "{at}");
            }
        }
    }
}

/// Judge on a port of this machine. It answers as `reply` says, and keeps what it was asked.
struct Judge {
    url: String,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Judge {
    /// Starts it. `reply` gets the request's body and makes a status and a text.
    fn start(reply: impl Fn(&Value, usize) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
        let seen = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut first = String::new();
                reader.read_line(&mut first).unwrap();
                let mut headers = HashMap::new();
                for line in reader.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()) {
                    let (name, value) = line.split_once(": ").unwrap();
                    headers.insert(name.to_lowercase(), value.to_owned());
                }
                let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let (status, text) = if first.starts_with("GET /v1/models") {
                    (200, json!({"data": [{"id": "grader"}]}).to_string())
                } else {
                    let mut body: Value = serde_json::from_slice(&body).unwrap();
                    body["authorization"] = headers.get("authorization").cloned().into();
                    let mut seen = seen.lock().unwrap();
                    let (status, text) = reply(&body, seen.len());
                    seen.push(body);
                    let whole = json!({"choices": [{"message": {"role": "assistant", "content": text}}]});
                    (status, if status == 200 { whole.to_string() } else { text })
                };
                let head = format!(
                    "HTTP/1.1 {status} -\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    text.len()
                );
                // A client that leaves early is the test's own matter.
                let _ = stream.write_all((head + &text).as_bytes());
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }
}

fn eval(set: &str, rest: &[&str], environment: &[(&str, &str)]) -> Outcome {
    let videos = expected().iter().any(|known| known["set"] == set && known["items"][0]["videos"] != 0);
    let model = pair(if videos { "hf-llava_onevision-f32" } else { "siglip-qwen2-f32" });
    let mut args: Vec<String> =
        ["eval", "--set", &format!("{SETS}/{set}"), "-t", "1", "-n", "3", "--merge", "off"]
            .map(str::to_owned)
            .to_vec();
    args.extend(model);
    args.extend(rest.iter().map(ToString::to_string));
    illava_with(&args, environment)
}

/// A reply in the form that a rule asks for.
fn obliging(body: &Value, _: usize) -> (u16, String) {
    let system = body["messages"][0]["content"].as_str().unwrap();
    let reply = match system {
        _ if system.contains("0.0 (wholly wrong)") => "0.5",
        _ if system.contains("\"pred\"") => "{\"pred\": \"yes\", \"score\": 4}",
        _ if system.contains("two assistants") => "8 6\nThe first says more.",
        _ => "{\"score\": 3}",
    };
    (200, reply.to_owned())
}

#[test]
fn every_layout_is_answered_and_marked() {
    let judge = Judge::start(obliging);
    for wanted in expected() {
        let set = wanted["set"].as_str().unwrap();
        let rows = scratch(&format!("public-{}.json", set.replace('/', "-")));
        let outcome = eval(set, &["--judge", &judge.url, "--json", &rows], &[]);
        assert_eq!(outcome.code, 0, "{set}: {}", outcome.stderr);
        let value: Value = serde_json::from_str(&fs::read_to_string(&rows).unwrap()).unwrap();
        assert_eq!(value["failures"], json!([]), "{set}");
        assert_eq!(value["rows"][0]["questions"], wanted["items"].as_array().unwrap().len(), "{set}");
        assert!(value["rows"][0]["memory_bytes"].as_f64().unwrap() > 0.0, "{set}");
        let judged = ["mmvet", "llava", "videochatgpt", "videodc", "activitynet"]
            .contains(&value["metric"].as_str().unwrap());
        let mark = value["rows"][0]["accuracy"]["mean"].as_f64().unwrap();
        let named = |name: &str| {
            let found = value["scores"].as_array().unwrap().iter().find(|score| score["name"] == name);
            found.map(|score| score["value"].as_f64().unwrap())
        };
        assert_eq!(
            value["judge"].as_str().is_some_and(|judge| judge.starts_with("grader at ")),
            judged,
            "{set}"
        );
        match value["metric"].as_str().unwrap() {
            "mmvet" => assert!((mark - 0.5).abs() < 1e-9, "{set}: {mark}"),
            "activitynet" => assert!((mark - 1.0).abs() < 1e-9, "{set}: {mark}"),
            "llava" => assert_eq!(named("of the reference, %"), Some(75.0), "{set}"),
            "videodc" => assert_eq!(named("detail of 5"), Some(3.0), "{set}"),
            "yes_no" if set.starts_with("MME") => assert!(named("MME perception").is_some(), "{set}"),
            "yes_no" => assert!(named("F1, %").is_some() && named("MME perception").is_none(), "{set}"),
            "cider" => assert!(named("CIDEr, times 100").is_some(), "{set}"),
            _ => {}
        }
    }
}

#[test]
fn a_judge_is_asked_as_its_rule_says() {
    let judge = Judge::start(obliging);
    let log = scratch("judged.log");
    let _ = fs::remove_file(&log);
    let args = ["--judge", &judge.url, "--judge-model", "large", "--log", &log];
    let outcome = eval("VideoChatGPT/Consistency", &args, &[("ILLAVA_JUDGE_KEY", "secret")]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(
        outcome.stdout.contains("marked by videochatgpt, judge large at 127.0.0.1"),
        "{}",
        outcome.stdout
    );
    assert!(outcome.stdout.contains("consistency of 5, off: 3.0"), "{}", outcome.stdout);
    let asked = judge.asked();
    assert_eq!(asked.len(), 1, "both wordings are one question to the judge");
    assert_eq!(asked[0]["authorization"], "Bearer secret");
    assert_eq!((&asked[0]["temperature"], &asked[0]["model"]), (&json!(0), &json!("large")));
    let text = asked[0]["messages"][1]["content"].as_str().unwrap();
    for part in ["Which colour comes last?", "At the end, which colour is it?", "Right answer: Red."] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!fs::read_to_string(&log).unwrap().contains("secret"));
    // Three aspects of one answer.
    eval("VideoChatGPT/Generic", &["--judge", &judge.url], &[]);
    assert_eq!(judge.asked().len(), 4);
}

#[test]
fn a_judge_that_fails_is_asked_again_and_nothing_else() {
    // Busy at first: the same question comes again. Then a reply without a mark, which is a failure of its own.
    let judge = Judge::start(|body, count| match count {
        0 => (503, "busy".into()),
        2 => (200, "I would rather not say.".into()),
        _ => obliging(body, count),
    });
    let log = scratch("judge-fails.log");
    let _ = fs::remove_file(&log);
    let args = ["--judge", &judge.url, "--log", &log];
    let outcome = eval("ActivityNetQA", &args, &[]);
    outcome.exits(1, "1 of 2 answers failed");
    assert!(outcome.stdout.contains("gave no mark but \"I would rather not say.\""), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("all (1 of 2)"), "{}", outcome.stdout);
    assert_eq!(judge.asked().len(), 3);
    let before = fs::read_to_string(&log).unwrap();
    let outcome = eval("ActivityNetQA", &args, &[]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert_eq!(judge.asked().len(), 4, "one question more");
    let record = |text: &str| -> Value { serde_json::from_str(text.lines().last().unwrap()).unwrap() };
    let (old, new) = (record(&before), record(&fs::read_to_string(&log).unwrap()));
    assert_eq!(
        (&old["answer"], &old["cost"]),
        (&new["answer"], &new["cost"]),
        "the answer is not made again"
    );
    assert_eq!((&old["mark"], &new["mark"]), (&Value::Null, &json!(1.0)));
    // Another judge is another log.
    let other = Judge::start(obliging);
    eval("ActivityNetQA", &["--judge", &other.url, "--judge-model", "b", "--log", &log], &[])
        .fails(1, "another --log");
}

#[test]
fn judges_that_are_none() {
    eval("MMVet", &[], &[]).fails(2, "answers are marked by a judge model (mmvet); give --judge URL");
    eval("MMVet", &["--judge", "grader"], &[]).fails(2, "give one as http://host:8080/v1");
    eval("MMVet", &["--judge", "http://127.0.0.1:1/v1"], &[]).fails(1, "judge http://127.0.0.1:1/v1");
    eval("MMVet", &["--judge", "http://127.0.0.1:1/v1"], &[("ILLAVA_JUDGE_KEY", "two words")])
        .fails(2, "not a key");
    let refusing = Judge::start(|_, _| (401, "who are you?".into()));
    let outcome = eval("MMVet", &["--judge", &refusing.url], &[]);
    outcome.exits(1, "1 of 1 answers failed");
    assert!(outcome.stdout.contains("answered 401"), "{}", outcome.stdout);
    assert_eq!(refusing.asked().len(), 1, "a refusal is final");
    // A set whose marks need no judge asks none.
    assert_eq!(eval("MME", &["--judge", &refusing.url], &[]).code, 0);
    assert_eq!(refusing.asked().len(), 1);
}

#[test]
fn splits_and_subtitles_are_chosen() {
    eval("MMMU", &["--split", "train"], &[]).fails(1, "no split train; there are test, validation");
    eval("MMMU", &["--split", "test"], &[]).fails(1, "row 1: no answer");
    assert_eq!(eval("MMMU", &["--split", "validation", "--limit", "1"], &[]).code, 0);
    let tokens = |extra: &[&str]| -> u64 {
        let log = scratch("subtitles.log");
        let _ = fs::remove_file(&log);
        let outcome = eval("Video-MME", &[&["--log", &log], extra].concat(), &[]);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        let text = fs::read_to_string(&log).unwrap();
        let record: Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
        record["cost"]["tokens"]["text"].as_u64().unwrap()
    };
    assert!(tokens(&["--subtitles"]) > tokens(&[]));
}
