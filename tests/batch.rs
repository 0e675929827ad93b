//! `illava batch` as it is typed: order, going on, failures, and the demo pair's questions.

mod binary;

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use binary::{Outcome, illava, pair, picture, scratch};
use serde_json::{Value, json};

fn batch(model: &[String], args: &[&str]) -> Outcome {
    let mut all = vec!["batch".to_owned()];
    all.extend(args.iter().map(|arg| (*arg).to_owned()));
    all.extend(model.iter().cloned());
    all.extend(["-t", "2", "--temp", "0"].map(str::to_owned));
    illava(&all)
}

fn lines(path: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("an output");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// A path where nothing is.
fn fresh(name: &str) -> String {
    let path = scratch(name);
    let _ = std::fs::remove_file(&path);
    path
}

#[test]
fn answers_come_in_order_and_failures_are_records() {
    let (input, output) = (scratch("requests.jsonl"), fresh("answers.jsonl"));
    let shapes = picture("batch-shapes.png", 96, 72);
    let requests = [
        format!(r#"{{"id": "long", "prompt": "what is it", "image": "{shapes}", "max_tokens": 30}}"#),
        r#"{"id": "text", "prompt": "hello", "max_tokens": 1}"#.to_owned(),
        r#"{"id": "missing", "prompt": "what is it", "image": "/nowhere/p.png"}"#.to_owned(),
        "nonsense".to_owned(),
        format!(r#"{{"prompt": "who", "images": ["{shapes}", "{shapes}"], "merge": "off"}}"#),
        r#"{"id": 6, "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]}"#.to_owned(),
    ];
    std::fs::write(&input, requests.join("\n")).expect("an input");
    let outcome =
        batch(&pair("siglip-qwen2-f32"), &[&input, "-o", &output, "-np", "3", "-c", "3072", "-n", "5"]);
    outcome.exits(1, "2 of 6 requests failed");
    assert!(outcome.stderr.contains("/nowhere/p.png") && outcome.stdout.is_empty(), "{}", outcome.stderr);
    let answers = lines(&output);
    let ids: Vec<&Value> = answers.iter().map(|answer| &answer["id"]).collect();
    assert_eq!(
        ids,
        ["long", "text", "missing"]
            .map(Value::from)
            .iter()
            .chain(&[4.into(), 5.into(), 6.into()])
            .collect::<Vec<_>>()
    );
    let generated: Vec<Option<u64>> =
        answers.iter().map(|answer| answer["report"]["tokens"]["generated"].as_u64()).collect();
    assert!(generated[0].is_some_and(|n| n <= 30) && generated[1] == Some(1), "{generated:?}");
    assert_eq!((&answers[1]["finish"], &answers[2]["error"]["kind"]), (&"length".into(), &"File".into()));
    assert!(answers[3]["error"]["message"].as_str().expect("a message").contains("line 4: not JSON"));
    assert_eq!(answers[4]["report"]["merge"]["strategy"], "off");
    assert!(
        answers[4]["report"]["tokens"]["visual"].as_u64() > answers[0]["report"]["tokens"]["visual"].as_u64()
    );
    // Beside others it says what it says alone.
    let alone = illava(
        &[
            vec!["run".to_owned()],
            pair("siglip-qwen2-f32").to_vec(),
            ["--image", &shapes, "-p", "what is it", "-n", "30", "-t", "2", "--temp", "0", "--report", "-"]
                .map(str::to_owned)
                .to_vec(),
        ]
        .concat(),
    );
    let report = alone.stdout.lines().last().expect("a report");
    let report: Value = serde_json::from_str(report).expect("a report");
    assert_eq!(answers[0]["report"]["tokens"], report["tokens"]);
    // A line's text is the answer without the blank that its vocabulary begins a word with.
    assert_eq!(answers[0]["report"]["text"], report["text"]);
    assert_eq!(answers[0]["text"], report["text"].as_str().expect("a text").trim_start());
}

/// Tokens of a thought count as they do over HTTP: its own, and those of the mark that closes it.
#[test]
fn thoughts_are_counted() {
    let (input, output) = (scratch("thoughts.jsonl"), fresh("thoughts-answers.jsonl"));
    let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant: <think>\n{# </think> #}";
    let model = [&pair("siglip-qwen2-f32")[..], &["--chat-template", template].map(str::to_owned)].concat();
    let body = |more: Value| {
        let mut body = json!({ "messages": [{ "role": "user", "content": "hi" }], "max_tokens": 40, "logit_bias": { "</s>": false } });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "custom_id": "c", "body": body }).to_string()
    };
    let requests = [
        body(json!({})),
        body(json!({ "thinking_budget_tokens": 5 })),
        body(json!({ "thinking_budget_tokens": 5, "reasoning_format": "none" })),
    ];
    std::fs::write(&input, requests.join("\n")).expect("an input");
    batch(&model, &[&input, "-o", &output]).exits(0, "");
    let answers = lines(&output);
    let counts = |i: usize| {
        let usage = &answers[i]["response"]["body"]["usage"];
        let thought = usage["completion_tokens_details"]["reasoning_tokens"].as_u64().expect("a count");
        (thought, usage["completion_tokens"].as_u64().expect("a count"))
    };
    let message = |i: usize| &answers[i]["response"]["body"]["choices"][0]["message"];
    // It never ends, so that all is thought.
    let (thought, all) = counts(0);
    assert!(thought == all && all > 20 && message(0)["content"] == "", "{}", answers[0]);
    let (limited, all) = counts(1);
    assert!((6..all).contains(&limited) && limited < thought, "{}", answers[1]);
    assert!(message(1)["reasoning_content"].is_string() && message(1)["content"] != "", "{}", answers[1]);
    assert_eq!(counts(2), (0, all), "{}", answers[2]);
}

/// Lines as other programs write them: with a byte order mark, in OpenAI's envelope, with pictures inside.
#[test]
fn lines_of_other_programs() {
    let (folder, output) = (scratch("lines"), fresh("lines-answers.jsonl"));
    std::fs::create_dir_all(&folder).expect("a folder");
    let input = Path::new(&folder).join("in.jsonl").display().to_string();
    let shapes = picture("batch-shapes.png", 96, 72);
    std::fs::copy(&shapes, Path::new(&folder).join("scene.png")).expect("a picture");
    let frames = Path::new(&folder).join("frames");
    std::fs::create_dir_all(&frames).expect("a folder");
    for name in ["1.png", "2.png"] {
        std::fs::copy(&shapes, frames.join(name)).expect("a frame");
    }
    let inline = BASE64_STANDARD.encode(std::fs::read(&shapes).expect("a picture"));
    let ask = |content: Value| json!([{ "role": "user", "content": content }]);
    let picture = |url: &str| {
        ask(
            json!([{ "type": "image_url", "image_url": { "url": url } }, { "type": "text", "text": "what is it" }]),
        )
    };
    let requests = [
        json!({ "id": "file", "prompt": "what is it", "image": "scene.png" }),
        json!({ "id": "data", "messages": picture(&format!("data:image/png;base64,{inline}")) }),
        json!({ "id": "ollama", "messages": [{ "role": "user", "content": "what is it", "images": [inline] }] }),
        json!({ "custom_id": "c", "method": "POST", "url": "/v1/chat/completions",
                "body": { "model": "m", "messages": picture("scene.png"), "logprobs": true, "top_logprobs": 2 } }),
        json!({ "custom_id": "refused", "body": { "messages": picture("scene.png"), "min_tokens": 5 } }),
        json!({ "id": "video", "prompt": "what is it", "video": "frames" }),
        json!({ "id": "choice", "prompt": "is it", "guided_choice": ["yes", "no"], "n_probs": 1 }),
        json!({ "id": "typo", "prompt": "is it", "imgae": "scene.png" }),
        json!({ "id": "web", "prompt": "is it", "image": "https://example.com/x.png" }),
    ];
    let text: Vec<String> = requests.iter().map(Value::to_string).collect();
    std::fs::write(&input, format!("\u{feff}{}", text.join("\r\n"))).expect("an input");
    let model = pair("siglip-qwen2-f32");
    batch(&model, &[&input, "-o", &output, "-c", "4096", "-n", "4", "-np", "2"])
        .exits(1, "3 of 9 requests failed");
    let answers = lines(&output);
    let text = |i: usize| answers[i]["text"].as_str().unwrap_or_else(|| panic!("no text: {}", answers[i]));
    // However a picture is given, it is the same picture.
    assert_eq!((text(1), text(2)), (text(0), text(0)));
    let body = &answers[3]["response"]["body"];
    assert_eq!((&answers[3]["custom_id"], &answers[3]["error"]), (&json!("c"), &Value::Null));
    assert_eq!(body["choices"][0]["message"]["content"], text(0));
    assert_eq!(
        body["choices"][0]["logprobs"]["content"][0]["top_logprobs"].as_array().map(Vec::len),
        Some(2)
    );
    assert_eq!(answers[4]["custom_id"], "refused");
    assert!(
        answers[4]["error"]["message"]
            .as_str()
            .is_some_and(|line| line.contains("min_tokens: not supported"))
    );
    assert!(
        answers[5]["report"]["tokens"]["visual"].as_u64() > answers[0]["report"]["tokens"]["visual"].as_u64()
    );
    assert!(["yes", "no"].contains(&text(6).trim()), "{}", answers[6]);
    assert!(answers[6]["logprobs"]["content"].as_array().is_some_and(|tokens| !tokens.is_empty()));
    for (i, part) in [(7, "did you mean image?"), (8, "nothing is fetched")] {
        assert!(
            answers[i]["error"]["message"].as_str().is_some_and(|line| line.contains(part)),
            "{}",
            answers[i]
        );
    }
    // Failures of the run that is gone on with count.
    batch(&model, &[&input, "-o", &output, "-c", "4096", "-n", "4", "--resume"])
        .exits(1, "3 of 9 requests failed");
    let deep = format!("root ::= {}", "(".repeat(20_000));
    batch(&model, &[&input, "--grammar", &deep]).fails(2, "--grammar: brackets deeper than 100");
}

#[test]
fn a_run_goes_on_where_one_stopped() {
    let (input, output) = (scratch("resume.jsonl"), fresh("resumed.jsonl"));
    let requests: Vec<String> =
        (0..6).map(|i| format!(r#"{{"id": "{i}", "prompt": "number {i}", "max_tokens": 3}}"#)).collect();
    std::fs::write(&input, requests.join("\n")).expect("an input");
    let model = pair("siglip-qwen2-f32");
    batch(&model, &[&input, "-o", &output, "-c", "2048"]).exits(0, "");
    let whole = std::fs::read_to_string(&output).expect("an output");
    batch(&model, &[&input, "-o", &output, "-c", "2048"]).fails(1, "--resume");
    // As a run leaves it that is killed while it writes its third line.
    let cut = whole.match_indices('\n').nth(1).map(|(at, _)| at + 20).expect("three lines");
    std::fs::write(&output, &whole[..cut]).expect("an output");
    batch(&model, &[&input, "-o", &output, "-c", "2048", "--resume"]).exits(0, "");
    let (before, after): (Vec<Value>, Vec<Value>) =
        (whole.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect(), lines(&output));
    let texts = |answers: &[Value]| -> Vec<(Value, Value)> {
        answers.iter().map(|answer| (answer["id"].clone(), answer["text"].clone())).collect()
    };
    assert_eq!(texts(&before), texts(&after));
    assert_eq!(before[..2], after[..2], "what was there is not written again");
    std::fs::write(&input, requests[1..].join("\n")).expect("an input");
    batch(&model, &[&input, "-o", &output, "-c", "2048", "--resume"]).fails(1, "same input");
    std::fs::write(&input, requests.join("\n")).expect("an input");
    batch(&model, &[&input, "-o", &output, "-c", "2048", "--resume", "--keep", "0.5"])
        .fails(1, "answer 1 was asked with another prompt, pair, schedule or sampling");
}

/// A file of tools/make_picture_fixtures.py.
/// A folder of captions, as a trainer reads it: begun, gone on with, and left alone where somebody wrote one.
#[test]
fn captions_lie_beside_their_pictures() {
    let folder = scratch("captions");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = |name: &str| Path::new(&folder).join(name);
    let shapes = picture("batch-shapes.png", 96, 72);
    for name in ["a.png", "b.png"] {
        std::fs::copy(&shapes, path(name)).expect("a picture");
    }
    std::fs::write(path("broken.png"), "no picture").expect("a file");
    let model = pair("siglip-qwen2-f32");
    let caption = |extra: &[&str]| {
        batch(&model, &[&[folder.as_str(), "-p", "what is it", "-n", "4", "--captions"], extra].concat())
    };
    let first = caption(&[]);
    first.exits(1, "1 of 3 requests failed");
    assert!(first.stdout.is_empty(), "{}", first.stdout);
    let text = |name: &str| std::fs::read_to_string(path(name)).expect("a caption");
    let alike = text("a.txt");
    assert_eq!(text("b.txt"), alike);
    assert!(alike.ends_with('\n') && alike.len() > 1 && !alike.starts_with(' '), "{alike:?}");
    assert!(!path("broken.txt").exists());

    std::fs::write(path("a.txt"), "written by hand").expect("a file");
    caption(&[]).fails(1, "give --skip-done");
    std::fs::copy(&shapes, path("broken.png")).expect("a picture");
    let again = caption(&["--skip-done"]);
    assert_eq!(again.code, 0, "{}", again.stderr);
    assert!(again.stderr.contains("2 pictures have their caption, 1 are asked about"), "{}", again.stderr);
    assert_eq!((text("a.txt").as_str(), text("broken.txt")), ("written by hand", alike.clone()));
    assert_eq!(caption(&["--skip-done"]).code, 0, "nothing is left to do");
    assert_eq!(caption(&["--overwrite"]).code, 0);
    assert_eq!(text("a.txt"), alike);
    caption(&["--skip-done", "--overwrite"]).exits(2, "cannot be used with");
    let lines = scratch("captions.jsonl");
    std::fs::write(&lines, r#"{"prompt": "hi"}"#).expect("a file");
    batch(&model, &[&lines, "--captions"]).fails(2, "a caption lies beside its picture");
}

/// Rows for a spreadsheet, and lines without reports; a resumed run asks failures again.
#[test]
fn rows_and_short_lines() {
    let folder = scratch("rows");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    let shapes = picture("batch-shapes.png", 96, 72);
    let path = |name: &str| Path::new(&folder).join(name).display().to_string();
    for name in ["a.png", "c.png"] {
        std::fs::copy(&shapes, path(name)).expect("a picture");
    }
    std::fs::write(path("b.png"), "no picture").expect("a file");
    let model = pair("siglip-qwen2-f32");
    for ending in ["csv", "jsonl"] {
        let output = fresh(&format!("rows.{ending}"));
        let run = |extra: &[&str]| {
            let always = [folder.as_str(), "-p", "what is it", "-n", "4", "--no-report", "-o", &output];
            batch(&model, &[&always, extra].concat())
        };
        std::fs::write(path("b.png"), "no picture").expect("a file");
        run(&[]).exits(1, "1 of 3 requests failed");
        std::fs::copy(&shapes, path("b.png")).expect("a picture");
        let again = run(&["--resume"]);
        assert_eq!(again.code, 0, "{}", again.stderr);
        assert!(again.stderr.contains("asking again 1 of the 3"), "{}", again.stderr);
        assert_eq!(run(&["--resume"]).code, 0);
        let text = std::fs::read_to_string(&output).expect("an output");
        assert!(!text.contains("report"), "{text}");
        let records: Vec<(String, String)> = match ending {
            "csv" => {
                let mut rows = text.lines();
                assert_eq!(rows.next(), Some("id,text,finish,error,digest"));
                let cells = |row: &str| row.split(',').map(str::to_owned).collect::<Vec<_>>();
                rows.map(|row| (cells(row)[0].clone(), cells(row)[1].clone())).collect()
            }
            _ => lines(&output)
                .iter()
                .map(|line| (line["id"].as_str().unwrap().into(), line["text"].as_str().unwrap().into()))
                .collect(),
        };
        let ids: Vec<&str> = records.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["a.png", "b.png", "c.png"]);
        assert!(records.iter().all(|(_, text)| text == &records[0].1 && !text.is_empty()), "{records:?}");
    }
}

fn transparent() -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pictures.json");
    let all: Value = serde_json::from_slice(&std::fs::read(path).expect("fixtures")).expect("JSON");
    let files = all["files"].as_array().expect("files");
    let file = files.iter().find(|file| file["name"] == "rgba.png").expect("one of them");
    BASE64_STANDARD.decode(file["file"].as_str().expect("a text")).expect("base64")
}

#[test]
fn a_folder_of_pictures() {
    let folder = scratch("folder");
    std::fs::create_dir_all(&folder).expect("a folder");
    for name in ["b.png", "a.png"] {
        std::fs::copy(picture("batch-folder.png", 60, 60), Path::new(&folder).join(name)).expect("a picture");
    }
    for (name, bytes) in [
        ("notes.txt", &b"no picture"[..]),
        ("c.jpg", b"\xff\xd8\xff\xe0 and no more"),
        ("clear.png", &transparent()),
    ] {
        std::fs::write(Path::new(&folder).join(name), bytes).expect("a file");
    }
    let model = pair("siglip-qwen2-f32");
    let outcome = batch(&model, &[&folder, "-p", "what is it", "-n", "3", "-c", "2048", "--traces"]);
    outcome.exits(1, "1 of 4");
    assert!(outcome.stderr.contains("skipped 1 file that is no picture (notes.txt)"), "{}", outcome.stderr);
    let answers: Vec<Value> =
        outcome.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let ids: Vec<&str> = answers.iter().filter_map(|answer| answer["id"].as_str()).collect();
    assert_eq!(ids, ["a.png", "b.png", "c.jpg", "clear.png"]);
    assert_eq!(answers[0]["text"], answers[1]["text"], "the same picture");
    assert!(answers[0]["trace"]["steps"].as_array().is_some_and(|steps| !steps.is_empty()));
    assert_eq!(answers[2]["error"]["kind"], "Media");
    assert_eq!(answers[0]["report"]["remarks"], Value::Null);
    let remark = answers[3]["report"]["remarks"][0].as_str().expect("a remark");
    assert!(remark.contains("transparent parts are shown on white"), "{remark}");
    let files = ["b.png", "clear.png"].map(|name| Path::new(&folder).join(name).display().to_string());
    let outcome = batch(&model, &[&files[0], &files[1], "-p", "what is it", "-n", "1", "-c", "2048"]);
    assert_eq!((outcome.code, outcome.stdout.lines().count()), (0, 2), "{}", outcome.stderr);
    batch(&model, &[&folder]).fails(2, "-p");
    batch(&model, &["/nowhere/in.jsonl"]).fails(1, "/nowhere/in.jsonl");
}

/// The demo pair's questions, many at once: as right as one by one.
#[test]
fn the_demo_pair_answers_a_batch() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let text = std::fs::read_to_string(folder.join("questions.jsonl")).expect("the questions are committed");
    let questions: Vec<Value> =
        text.lines().step_by(29).map(|line| serde_json::from_str(line).expect("a question")).collect();
    let (input, output) = (scratch("demo.jsonl"), fresh("demo-answers.jsonl"));
    let requests: Vec<String> = questions
        .iter()
        .map(|question| {
            let image = folder.join(question["image"].as_str().expect("a path"));
            serde_json::json!({"prompt": question["question"], "image": image}).to_string()
        })
        .collect();
    std::fs::write(&input, requests.join("\n")).expect("an input");
    let file = |name: &str| folder.join(name).display().to_string();
    let model = ["-m".to_owned(), file("text.gguf"), "-mm".to_owned(), file("mmproj.gguf")];
    let args = [&input, "-o", &output, "-np", "4", "-c", "2048", "-n", "32", "--merge", "off"];
    batch(&model, &args).exits(0, "");
    let answers = lines(&output);
    assert_eq!(answers.len(), questions.len());
    let right = answers.iter().zip(&questions).filter(|(answer, question)| {
        answer["text"].as_str().map(str::trim) == question["answer"].as_str().map(str::trim)
    });
    let (right, asked) = (right.count(), questions.len());
    assert!(asked >= 40 && right * 100 >= asked * 90, "{right} of {asked}");
}

/// A begun answer that the model ends at once is empty, not lost. Expected: log-probabilities behind the same tokens of
/// transformers' `AutoModelForCausalLM.from_pretrained("models/demo", gguf_file="text.gguf")`.
#[test]
fn a_begun_answer_goes_on_as_in_transformers() {
    let (input, output) = (scratch("begun.jsonl"), fresh("begun-answers.jsonl"));
    let begun = json!({
        "messages": [{ "role": "user", "content": "Is there a circle?" }, { "role": "assistant", "content": "There is" }],
        "temperature": 0, "max_tokens": 8, "logprobs": true, "top_logprobs": 4,
    });
    let mut further = begun.clone();
    further["ignore_eos"] = true.into();
    std::fs::write(&input, format!("{begun}\n{further}\n")).expect("an input");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let file = |name: &str| folder.join(name).display().to_string();
    let demo = ["-m".into(), file("text.gguf"), "-mm".into(), file("mmproj.gguf")];
    batch(&demo, &[&input, "-o", &output, "-ctk", "f32", "-ctv", "f32", "-fa", "off"]).exits(0, "");
    let answers = lines(&output);
    assert_eq!((&answers[0]["text"], &answers[0]["finish"]), (&"".into(), &"stop".into()));
    assert!(answers[1]["text"].as_str().is_some_and(|text| text.starts_with('8')), "{}", answers[1]);
    let top = answers[1]["logprobs"]["content"][0]["top_logprobs"].as_array().expect("four alternatives");
    // The first is the mark that ends an answer.
    let expected = [(533, -0.786), (56, -1.4988), (324, -2.9002), (448, -3.4521)];
    assert_eq!(top.len(), expected.len());
    for (token, (id, logprob)) in top.iter().zip(expected) {
        let found = token["logprob"].as_f64().expect("a number");
        assert!(token["id"] == id && (found - logprob).abs() < 1e-3, "{token}");
    }
}
