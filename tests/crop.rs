//! Strategy `crop` through every face of the real binary: a text-image model finds the region that a question is about, and
//! the encoder sees that region in the picture's place. The models have random weights; tests/scorer.rs holds what they
//! compute and choose.

mod binary;
#[path = "serve/http.rs"]
mod http;
#[path = "serve/served.rs"]
mod served;

use std::fs;
use std::path::Path;

use binary::{Outcome, frames, illava, model, pair, picture, scratch};
use http::{about, png};
use illava::media::Pixels;
use illava::see::crop::{Area, RegionScorer};
use serde_json::{Value, json};
use served::Served;

const QUESTION: &str = "what shape is it";

fn scorer(kind: &str) -> String {
    model("scorers", &format!("{kind}-F32.gguf"))
}

fn call(command: &str, name: &str, rest: &[&str]) -> Outcome {
    let rest = rest.iter().map(|arg| (*arg).to_owned());
    illava(&[command.to_owned()].into_iter().chain(pair(name)).chain(rest).collect::<Vec<_>>())
}

fn read(path: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Report and trace of an answer about `picture`.
fn answered(name: &str, pair: &str, picture: &str, question: &str, flags: &[&str]) -> (Value, Value) {
    let (report, trace) = (scratch(&format!("crop-{name}-r.json")), scratch(&format!("crop-{name}-t.json")));
    let fixed =
        ["--image", picture, "-p", question, "--temp", "0", "-n", "8", "-t", "1", "--report", &report];
    let outcome = call("run", pair, &[&fixed[..], &["--trace", &trace], flags].concat());
    assert_eq!(outcome.code, 0, "{name}: {}", outcome.stderr);
    (read(&report), read(&trace))
}

/// The region that the model of `kind` chooses, by the library's own function.
fn chosen(kind: &str, picture: &str, question: &str) -> Area {
    let mut scorer = RegionScorer::load(Path::new(&scorer(kind)), false, 1).unwrap();
    scorer.region(&Pixels::open(picture).unwrap(), question, &[], &mut || ()).unwrap().area
}

fn region(report: &Value) -> Area {
    serde_json::from_value(report["merge"]["regions"][0]["pixels"].clone()).unwrap()
}

/// A question for which the model does not choose the whole picture.
fn telling(kind: &str, picture: &str, whole: Area) -> (&'static str, Area) {
    let questions =
        [QUESTION, "a red circle", "how many blue shapes?", "the large square on the left", "yellow"];
    let found = questions.into_iter().map(|question| (question, chosen(kind, picture, question)));
    found.into_iter().find(|(_, area)| *area != whole).expect("some question has a region")
}

/// The answer is that about the region alone, shown at the same size.
#[test]
fn the_region_stands_for_the_picture() {
    let shown = picture("crop.png", 120, 90);
    for (pair, kind) in
        [("siglip-qwen2-f32", "clipseg"), ("clip-llama-f32", "clip"), ("qwen2vl-f32", "clipseg-simple")]
    {
        let (question, area) = telling(kind, &shown, [0, 0, 120, 90]);
        let model = scorer(kind);
        let crop = ["--merge", "paper", "--strategy", "crop", "--crop-model", &model];
        let (report, trace) = answered(&format!("{pair}-crop"), pair, &shown, question, &crop);
        assert_eq!(region(&report), area, "{pair}");
        assert_eq!(report["merge"]["strategy"], "crop");
        let rule = if kind == "clip" { "windows" } else { "map" };
        assert_eq!(report["merge"]["regions"][0]["rule"], rule);
        assert_eq!(trace["images"][0]["region"], json!(area));
        assert_eq!((&trace["images"][0]["width"], &trace["images"][0]["height"]), (&json!(120), &json!(90)));
        for tile in trace["images"].as_array().unwrap() {
            let pixels: [f64; 4] = serde_json::from_value(tile["pixels"].clone()).unwrap();
            let middle = [(pixels[0] + pixels[2]) / 2.0, (pixels[1] + pixels[3]) / 2.0];
            let inside = |at: f64, low: u32, high: u32| f64::from(low) < at && at < f64::from(high);
            assert!(
                inside(middle[0], area[0], area[2]) && inside(middle[1], area[1], area[3]),
                "{pair}: {tile}"
            );
        }
        let small = ["--merge", "paper", "--strategy", "downsample"];
        let budget = answered(&format!("{pair}-small"), pair, &shown, question, &small).0;
        let (tokens, most) = (&report["tokens"], &budget["tokens"]);
        assert_eq!(tokens["visual"], most["visual"], "{pair}");
        assert!(tokens["visual_after_encoder"].as_u64() <= most["visual_after_encoder"].as_u64(), "{pair}");
        let part = scratch(&format!("crop-{pair}-part.png"));
        let [left, top, right, bottom] = area;
        image::open(&shown).unwrap().crop_imm(left, top, right - left, bottom - top).save(&part).unwrap();
        // A picture of one tile has the budget of any other of its encoder.
        if pair != "qwen2vl-f32" && trace["images"].as_array().unwrap().len() == 1 {
            let alone = answered(&format!("{pair}-part"), pair, &part, question, &small).0;
            assert_eq!(alone["text"], report["text"], "{pair}");
            assert_eq!(alone["tokens"]["visual_after_encoder"], tokens["visual_after_encoder"], "{pair}");
        }
    }
}

#[test]
fn the_question_is_part_of_what_is_kept() {
    let model = scorer("clipseg");
    let served = Served::start("siglip-qwen2-f32", &["-np", "1", "--merge", "paper", "--crop-model", &model]);
    let shown = png(120, 90);
    let ask = |question: &str, merge: Value| {
        let mut body = about(&[&shown], question);
        let more = json!({ "max_tokens": 4, "temperature": 0, "merge": merge, "report": true });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        served.caller.post("/v1/chat/completions", &body).json()
    };
    let crop = json!({ "preset": "paper", "strategy": "crop" });
    let encoder = |answer: &Value| {
        assert!(answer["error"].is_null(), "{answer}");
        answer["report"]["ms"]["encoder"].as_f64().unwrap_or_else(|| panic!("no report: {answer}"))
    };
    assert!(encoder(&ask(QUESTION, crop.clone())) > 0.0);
    assert_eq!(encoder(&ask(QUESTION, crop.clone())), 0.0, "the same question finds the picture");
    assert!(encoder(&ask("a red circle", crop.clone())) > 0.0, "another one does not");
    assert!(encoder(&ask(QUESTION, json!("paper"))) > 0.0, "nor does another strategy");
    let mut silent = about(&[&shown], " ");
    let last = silent["messages"][2].take();
    silent["messages"] = json!([last]);
    silent["merge"] = crop;
    served
        .caller
        .chat(&silent)
        .fails(400, "merge.strategy crop: the prompt has no text that says what to look for");
}

#[test]
fn batch_bench_eval_and_explain() {
    let (shown, model) = (picture("crop-faces.png", 120, 90), scorer("clipseg"));
    let crop = ["--merge", "paper", "--strategy", "crop", "--crop-model", model.as_str()];
    let (question, area) = telling("clipseg", &shown, [0, 0, 120, 90]);
    let pair = "siglip-qwen2-f32";

    let (input, output) = (scratch("crop-in.jsonl"), scratch("crop-out.jsonl"));
    let line = json!({ "id": "a", "prompt": question, "image": shown, "max_tokens": 4 });
    fs::write(&input, line.to_string()).unwrap();
    let _ = fs::remove_file(&output);
    let rest =
        [&[input.as_str(), "-o", &output, "-np", "1", "-c", "1024", "--temp", "0", "-t", "1"][..], &crop]
            .concat();
    call("batch", pair, &rest).exits(0, "");
    assert_eq!(region(&read(&output)["report"]), area);

    let out = scratch("crop-explain");
    let rest =
        [&["--image", &shown, "-p", question, "--out", &out, "-n", "2", "-t", "1"][..], &crop].concat();
    call("explain", pair, &rest).exits(0, "");
    let page = fs::read_to_string(Path::new(&out).join("explain.html")).unwrap();
    assert!(page.contains("\"region\"") && page.contains("chosen for the question (map)"), "{page}");
    // The strip is pale outside of the region, and the picture inside.
    let strip = image::open(Path::new(&out).join("kept-1.png")).unwrap().into_rgb8();
    let whole = image::imageops::resize(
        &image::open(&shown).unwrap().into_rgb8(),
        240,
        180,
        image::imageops::FilterType::Triangle,
    );
    let differs = |x: u32, y: u32| strip.get_pixel(8 + x, 8 + y) != whole.get_pixel(x, y);
    let [left, top, right, bottom] = area.map(|side| side * 2);
    assert!(!differs((left + right) / 2, (top + bottom) / 2), "the middle of the region is the picture's");
    let corners = [(0, 0), (239, 0), (0, 179), (239, 179)];
    let outside = corners.into_iter().filter(|&(x, y)| x < left || x >= right || y < top || y >= bottom);
    assert!(outside.clone().count() > 0 && outside.into_iter().all(|(x, y)| differs(x, y)), "{area:?}");

    let json = scratch("crop-bench.json");
    let rest =
        ["--merge", "paper", "--against", "crop,downsample", "--crop-model", &model, "--image", &shown];
    let rest = [&rest[..], &["-r", "1", "--warm-up", "0", "-n", "2", "-p", "4", "-t", "1", "--json", &json]]
        .concat();
    call("bench", pair, &rest).exits(0, "");
    assert!(fs::read_to_string(&json).unwrap().contains("paper/crop"));

    let set = scratch("crop-set.jsonl");
    fs::write(&set, json!({ "image": shown, "question": question, "answer": "circle" }).to_string()).unwrap();
    let rest = [
        "--set",
        &set,
        "--merge",
        "paper",
        "--against",
        "crop",
        "--crop-model",
        &model,
        "-n",
        "2",
        "-t",
        "1",
    ];
    let outcome = call("eval", pair, &rest);
    assert!(outcome.stdout.contains("paper/crop"), "{} {}", outcome.stdout, outcome.stderr);
}

#[test]
fn inspect_shows_the_choice_with_its_score_and_time() {
    let shown = picture("crop-inspect.png", 120, 90);
    for kind in ["clip", "clipseg"] {
        let model = scorer(kind);
        let (question, area) = telling(kind, &shown, [0, 0, 120, 90]);
        let rest = ["--crop-model", &model, "--image", &shown, "-p", question];
        let told = call("inspect", "siglip-qwen2-f32", &[&rest[..], &["--json"]].concat());
        let told: Value = serde_json::from_str(&told.stdout).unwrap_or_else(|_| panic!("{}", told.stderr));
        let crop = &told["crop_model"];
        assert_eq!(crop["kind"], if kind == "clip" { "CLIP" } else { "CLIPSeg" });
        assert_eq!(crop["regions"][0]["pixels"], json!(area), "{kind}");
        assert!(crop["regions"][0]["ms"].as_f64().unwrap() > 0.0 && crop["regions"][0]["score"].is_f64());
        let table = call("inspect", "siglip-qwen2-f32", &rest).stdout;
        let pixels = format!("120x90: pixels {}, {} to {}, {}", area[0], area[1], area[2], area[3]);
        assert!(table.contains(&pixels) && table.contains(" ms"), "{table}");
    }
    let model = scorer("clip");
    let facts = call("inspect", "siglip-qwen2-f32", &["--crop-model", &model]);
    assert!(facts.stdout.contains("(CLIP), 32 px in patches of 8"), "{}", facts.stdout);
    let silent = ["--crop-model", model.as_str(), "--image", &shown, "-p", " "];
    call("inspect", "siglip-qwen2-f32", &silent).fails(2, "-p: no text says what to look for");
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let (shown, model) = (picture("crop-no.png", 64, 48), scorer("clip"));
    let projector = binary::model("siglip-qwen2-f32", "mmproj.gguf");
    let run = |flags: &[&str]| {
        let fixed = [
            "--image",
            &shown,
            "-p",
            QUESTION,
            "-n",
            "1",
            "-t",
            "1",
            "--merge",
            "paper",
            "--strategy",
            "crop",
        ];
        call("run", "siglip-qwen2-f32", &[&fixed[..], flags].concat())
    };
    run(&[]).fails(2, "--strategy crop: no text-image model is loaded that finds the region; give its file with --crop-model");
    run(&["--crop-model", "/no/such.gguf"]).fails(1, "/no/such.gguf: no such file");
    run(&["--crop-model", &projector]).fails(1, "not a text-image model");
    run(&["--crop-model", &model, "--llm-layers", "2", "--llm-r", "3"])
        .fails(2, "it acts before the decoder");
    let silent =
        ["--image", &shown, "-p", " ", "-n", "1", "-t", "1", "--merge", "paper", "--strategy", "crop"];
    call("run", "siglip-qwen2-f32", &[&silent[..], &["--crop-model", &model]].concat())
        .fails(1, "--strategy crop: the prompt has no text that says what to look for; add a question");
    let film = frames("crop-film", 4);
    let video =
        ["--video", &film, "-p", QUESTION, "-n", "1", "-t", "1", "--merge", "paper", "--strategy", "crop"];
    call("run", "qwen2vl-f32", &[&video[..], &["--crop-model", &model]].concat())
        .fails(2, "--strategy crop: it shows one region of a picture");
    let text = ["-m".to_owned(), binary::model("siglip-qwen2-f32", "text.gguf")];
    let rest = ["-p", QUESTION, "-n", "1", "-t", "1", "--crop-model", &model].map(ToOwned::to_owned);
    illava(&[&["run".to_owned()][..], &text, &rest].concat())
        .fails(2, "--crop-model: it finds regions of pictures");
}

/// In a chat every question has its own region, and one that is too long for the model is said.
#[test]
fn a_long_question_is_said() {
    let (shown, model) = (picture("crop-long.png", 64, 48), scorer("clip"));
    let question = "which colour is the large shape on the left of the blue triangle and the green circle in the picture?";
    let crop = ["--merge", "paper", "--strategy", "crop", "--crop-model", &model];
    let (report, _) = answered("long", "siglip-qwen2-f32", &shown, question, &crop);
    let remarks = report["remarks"].to_string();
    assert!(remarks.contains("the crop model reads 24 tokens of a text"), "{remarks}");
}
