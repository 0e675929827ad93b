//! `illava eval` on the demo pair and on a random one: our layout and the public ones, marks, figures, going on.

mod binary;

use std::fs;

use binary::{Outcome, frames, illava, pair, scratch};
use serde_json::Value;

const DEMO: [&str; 4] = ["-m", "models/demo/text.gguf", "--mmproj", "models/demo/mmproj.gguf"];

fn eval(model: &[&str], rest: &[&str]) -> Outcome {
    illava(&[&["eval"], model, rest].concat().iter().map(ToString::to_string).collect::<Vec<_>>())
}

fn json(path: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn what_merging_costs_shows() {
    let (rows, csv, svg, log) =
        (scratch("eval.json"), scratch("eval.csv"), scratch("eval.svg"), scratch("eval-log.jsonl"));
    let _ = fs::remove_file(&log);
    let args = [
        "--set",
        "models/demo/questions.jsonl",
        "--limit",
        "60",
        "--against",
        "0.1",
        // With their own positions a tenth of the tokens still answers nearly everything.
        "--positions",
        "closed",
        "--json",
        &rows,
        "--csv",
        &csv,
        "--plot",
        &svg,
        "--log",
        &log,
    ];
    let outcome = eval(&DEMO, &args);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let value = json(&rows);
    let row = |name: &str| {
        let found = value["rows"]
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["schedule"] == name && row["category"] == "");
        found.unwrap_or_else(|| panic!("{name} in {value}")).clone()
    };
    let number = |row: &Value, pointer: &str| row.pointer(pointer).and_then(Value::as_f64).unwrap();
    let (off, own, little) = (row("off"), row("model"), row("model keep 0.1"));
    assert_eq!(number(&off, "/questions"), 60.0);
    assert!(number(&off, "/accuracy/mean") > 0.8, "{off}");
    assert!(
        number(&little, "/difference/mean") < -0.1,
        "a tenth of the tokens cannot answer everything: {little}"
    );
    assert!(number(&little, "/accuracy/low") < number(&little, "/accuracy/high"));
    assert_eq!(number(&off, "/visual_tokens_deepest"), 196.0);
    assert_eq!(number(&own, "/visual_tokens_deepest"), 48.0);
    assert!(number(&own, "/kv_bytes") < number(&off, "/kv_bytes"));
    assert!(outcome.stdout.contains("scenes") || outcome.stdout.contains("all (60)"), "{}", outcome.stdout);
    assert!(fs::read_to_string(&csv).unwrap().lines().count() > 3);
    assert!(fs::read_to_string(&svg).unwrap().contains("questions a second"));

    // Cut in the middle and called again: only what is missing is answered, and the rows are the same.
    let whole = fs::read_to_string(&log).unwrap();
    let half = whole.len() / 2;
    fs::write(&log, &whole.as_bytes()[..half]).unwrap();
    let outcome = eval(&DEMO, &args);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let again = json(&rows);
    for (a, b) in value["rows"].as_array().unwrap().iter().zip(again["rows"].as_array().unwrap()) {
        assert_eq!(
            (&a["schedule"], &a["accuracy"], &a["difference"]),
            (&b["schedule"], &b["accuracy"], &b["difference"])
        );
    }
    assert!(fs::read_to_string(&log).unwrap().starts_with(&whole[..whole[..half].rfind('\n').unwrap()]));
    eval(&DEMO, &["--set", "models/demo/questions.jsonl", "--limit", "5", "--log", &log])
        .fails(1, "another --log");
}

#[test]
fn public_layouts_are_read_and_marked() {
    for (file, metric, questions) in
        [("yes_no.parquet", "yes_no", 4), ("documents.parquet", "anls", 4), ("choice.tsv", "choice", 8)]
    {
        let rows = scratch(&format!("eval-{file}.json"));
        let set = format!("tests/fixtures/eval/{file}");
        let outcome = eval(&DEMO, &["--set", &set, "--instruction", "", "--json", &rows]);
        assert_eq!(outcome.code, 0, "{file}: {}", outcome.stderr);
        let value = json(&rows);
        assert_eq!(value["metric"], metric, "{file}");
        assert_eq!(value["rows"][0]["questions"], questions, "{file}");
        assert_eq!(value["failures"], Value::Array(Vec::new()), "{file}");
        if metric == "anls" {
            assert!(value["rows"][0]["accuracy"]["mean"].as_f64().unwrap() > 0.7, "{value}");
        }
        if metric == "yes_no" {
            assert_eq!(value["scores"][0]["name"], "MME perception", "{value}");
            assert!(
                value["scores"][0]["value"].as_f64().unwrap() > 100.0,
                "two categories, up to 200 points each: {value}"
            );
        }
    }
}

#[test]
fn a_random_pair_goes_through_the_same_pipeline() {
    let rows = scratch("eval-random.json");
    let args = ["--set", "tests/fixtures/eval/yes_no.parquet", "-n", "3", "--json", &rows];
    let model = pair("qwen2vl-f32");
    let model: Vec<&str> = model.iter().map(String::as_str).collect();
    let outcome = eval(&model, &args);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert_eq!(json(&rows)["rows"][1]["questions"], 4);
}

#[test]
fn failures_are_listed_and_count_in_no_accuracy() {
    let set = scratch("eval-missing.jsonl");
    let picture = fs::canonicalize("models/demo/images/scene.png").unwrap();
    fs::write(
        &set,
        format!(
            "{{\"image\": \"no-such.png\", \"question\": \"a\", \"answer\": \"b\"}}\n{}\n",
            serde_json::json!({ "image": picture, "question": "How many objects are there?", "answer": "none of these" })
        ),
    )
    .unwrap();
    let outcome = eval(&DEMO, &["--set", &set]);
    outcome.exits(1, "error: 2 of 4 answers failed");
    assert!(outcome.stdout.contains("2 failed and count in no accuracy"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("no-such.png"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("all (1 of 2)"), "{}", outcome.stdout);
}

#[test]
fn nothing_marked_is_no_accuracy() {
    let set = scratch("eval-none.jsonl");
    let line =
        |i: usize| format!("{{\"image\": \"no-such-{i}.png\", \"question\": \"a\", \"answer\": \"b\"}}\n");
    fs::write(&set, (0..3).map(line).collect::<String>()).unwrap();
    let outcome = eval(&DEMO, &["--set", &set]);
    outcome.exits(1, "6 of 6 answers failed");
    assert!(outcome.stdout.contains("all (0 of 3)") && !outcome.stdout.contains("0.0"), "{}", outcome.stdout);
    // The first ten of many are enough.
    fs::write(&set, (0..50).map(line).collect::<String>()).unwrap();
    let outcome = eval(&DEMO, &["--set", &set]);
    outcome.exits(1, "the first 10 answers failed alike, the last one: ");
    assert!(outcome.stderr.contains("no-such-4.png"), "{}", outcome.stderr);
    assert!(
        outcome.stdout.contains("all (0 of 50)") && outcome.stdout.contains("10 failed"),
        "{}",
        outcome.stdout
    );
}

#[test]
fn an_interrupted_run_shows_what_it_has() {
    use std::io::{BufRead, BufReader, Read};

    let log = scratch("eval-interrupted.jsonl");
    let _ = fs::remove_file(&log);
    let args = ["eval", "--set", "models/demo/questions.jsonl", "--merge", "off", "-t", "1", "--log", &log];
    let args: Vec<String> = args.iter().chain(&DEMO).map(ToString::to_string).collect();
    let mut process = binary::spawn(&args);
    let answered = || fs::read_to_string(&log).is_ok_and(|text| text.lines().count() > 3);
    while !answered() {
        assert!(process.try_wait().unwrap().is_none(), "it ended before three answers");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let signalled = std::process::Command::new("kill").args(["-INT", &process.id().to_string()]).status();
    assert!(signalled.unwrap().success());
    let (mut table, mut said) = (String::new(), String::new());
    process.stdout.take().unwrap().read_to_string(&mut table).unwrap();
    for line in BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok) {
        said += &(line + "\n");
    }
    assert_eq!(process.wait().unwrap().code(), Some(130), "{said}");
    assert!(said.contains(&format!("the same command goes on from {log}")), "{said}");
    assert!(table.contains(" of 1795)"), "{table}");
}

#[test]
fn answers_have_their_log_probabilities() {
    let log = scratch("eval-probs.jsonl");
    let _ = fs::remove_file(&log);
    let asked = ["--set", "models/demo/questions.jsonl", "--limit", "2", "--merge", "off", "--n-probs", "2"];
    eval(&DEMO, &asked).fails(2, "give --log too");
    let outcome = eval(&DEMO, &[&asked[..], &["--log", &log]].concat());
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let text = fs::read_to_string(&log).unwrap();
    for line in text.lines().skip(1) {
        let record: Value = serde_json::from_str(line).unwrap();
        let tokens = record["logprobs"].as_array().unwrap();
        assert_eq!(tokens.len() as u64, record["cost"]["tokens"]["generated"].as_u64().unwrap(), "{record}");
        for token in tokens {
            // Greedy draws the most likely one.
            assert_eq!(
                (&token["top"][0]["id"], &token["top"][0]["logprob"]),
                (&token["id"], &token["logprob"])
            );
            assert_eq!(token["top"].as_array().unwrap().len(), 2);
        }
    }
    // Other answers than those of a log without them.
    eval(&DEMO, &[&asked[..6], &["--log", &log]].concat()).fails(1, "another --log");
}

#[test]
fn sets_that_are_none() {
    eval(&DEMO, &["--set", "README.md"]).fails(1, "give a .jsonl, .parquet or .tsv file");
    eval(&DEMO, &["--set", "no-such.jsonl"]).fails(1, "no-such.jsonl");
    let broken = scratch("broken.parquet");
    fs::write(&broken, "PAR1 and nothing else").unwrap();
    eval(&DEMO, &["--set", &broken]).fails(1, "not a readable parquet file");
    eval(&DEMO, &["--set", "models/demo/questions.jsonl", "--metric", "best"])
        .fails(2, "choose exact, words, choice");
}

#[test]
fn rows_are_shown_and_drawn_again() {
    let (rows, bars, curves) = (scratch("again.json"), scratch("again-bars.svg"), scratch("again.svg"));
    let asked = ["--set", "models/demo/questions.jsonl", "--limit", "2", "--against", "0.5", "--json", &rows];
    let first = eval(&DEMO, &asked);
    assert_eq!(first.code, 0, "{}", first.stderr);
    let again = eval(&[], &["--from", &rows, "--from", &rows, "--bars", "--plot", &bars]);
    assert_eq!(again.stdout, format!("{0}{0}", first.stdout));
    assert!(fs::read_to_string(&bars).unwrap().contains("memory, GiB"));
    eval(&[], &["--from", &rows, "--plot", &curves]);
    assert!(fs::read_to_string(&curves).unwrap().contains("questions a second"));
    eval(&[], &["--from", "README.md"]).fails(1, "not the rows of an evaluation");
    eval(&[], &["--from", &rows, "--set", "a.jsonl"]).exits(2, "cannot be used with");
    eval(&[], &["--plot", &curves]).exits(2, "--set");
}

#[test]
fn videos_of_a_set_are_shown() {
    let folder = frames("eval-frames", 6);
    let set = scratch("videos.jsonl");
    let name = std::path::Path::new(&folder).file_name().unwrap().to_str().unwrap();
    let list: Vec<String> = (0..3).map(|n| format!("{name}/frame{n}.png")).collect();
    let line = |id: &str, video: Value| {
        serde_json::json!({"id": id, "video": video, "question": "What happens?", "answer": "nothing"})
            .to_string()
            + "\n"
    };
    fs::write(
        &set,
        [
            line("folder", name.into()),
            line("list", list.clone().into()),
            line("commas", list.join(",").into()),
            line("missing", "no-such.mp4".into()),
        ]
        .concat(),
    )
    .unwrap();
    let log = scratch("videos-log.jsonl");
    let marks = |extra: &[&str]| -> Vec<Value> {
        let _ = fs::remove_file(&log);
        let model = pair("hf-llava_onevision-f32");
        let model: Vec<&str> = model.iter().map(String::as_str).collect();
        let outcome = eval(&model, &[&["--set", &set, "--log", &log, "-n", "2"], extra].concat());
        outcome.exits(1, "answers failed");
        fs::read_to_string(&log)
            .unwrap()
            .lines()
            .skip(1)
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let tokens = |records: &[Value], schedule: &str, id: &str| {
        let found = records.iter().find(|r| r["schedule"] == schedule && r["item"] == id).unwrap();
        found["cost"]["tokens"]["visual"].as_u64()
    };
    // 4 x 4 cells a frame, and a newline.
    let records = marks(&[]);
    for schedule in ["off", "video"] {
        assert_eq!(tokens(&records, schedule, "folder"), Some(6 * 16 + 1), "{schedule}");
        assert_eq!(tokens(&records, schedule, "list"), Some(3 * 16 + 1), "{schedule}");
        assert_eq!(tokens(&records, schedule, "commas"), Some(3 * 16 + 1), "{schedule}");
    }
    let folder = records.iter().find(|r| r["item"] == "folder").unwrap();
    assert!(folder["cost"]["ms"]["decode_media"].as_f64().unwrap() > 0.0);
    let missing = records.iter().find(|r| r["item"] == "missing").unwrap();
    assert!(missing["failure"].as_str().unwrap().contains("no-such.mp4"), "{missing}");
    let records = marks(&["--video-frames", "2"]);
    assert_eq!(tokens(&records, "off", "folder"), Some(2 * 16 + 1));
}
