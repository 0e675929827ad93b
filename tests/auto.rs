//! `--merge auto`: budgets that follow from what a picture shows, through the real binary.

mod binary;

use std::fs;

use binary::{Outcome, illava, pair, scratch};
use image::{Rgb, RgbImage};
use serde_json::{Value, json};

const DEMO: [&str; 4] = ["-m", "models/demo/text.gguf", "--mmproj", "models/demo/mmproj.gguf"];
const PAGE: &str = "models/demo/images/page.png";
const SCENE: &str = "models/demo/images/scene.png";

fn call(command: &str, model: &[&str], rest: &[&str]) -> Outcome {
    illava(&[&[command], model, rest].concat().iter().map(ToString::to_string).collect::<Vec<_>>())
}

fn read(path: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Report and trace of one answer.
fn answered(name: &str, model: &[&str], picture: &str, question: &str, flags: &[&str]) -> (Value, Value) {
    let (report, trace) = (scratch(&format!("auto-{name}-r.json")), scratch(&format!("auto-{name}-t.json")));
    let rest = ["--image", picture, "-p", question, "--temp", "0", "-n", "8", "--report", &report];
    let outcome = call("run", model, &[&rest[..], &["--trace", &trace], flags].concat());
    assert_eq!(outcome.code, 0, "{name}: {}", outcome.stderr);
    (read(&report), read(&trace))
}

/// Tokens after the encoder, and in the deepest decoder layers.
fn tokens(report: &Value) -> (u64, u64) {
    let tokens = &report["tokens"];
    let deepest = tokens["visual_kv"].as_array().unwrap().last().unwrap();
    (tokens["visual_after_encoder"].as_u64().unwrap(), deepest["tokens"].as_u64().unwrap())
}

fn why(report: &Value) -> &str {
    report["merge"]["budgets"][0]["why"].as_str().unwrap()
}

/// A picture of `across` x `down` cells of 8 pixels: letters where `written` says so, paper elsewhere.
fn sheet(name: &str, across: u32, down: u32, written: impl Fn(u32, u32) -> bool) -> String {
    let path = scratch(&format!("auto-{name}.png"));
    let ink = |x: u32, y: u32| written(x / 8, y / 8) && x % 4 < 2 && y % 8 < 6;
    let pixel = |x, y| if ink(x, y) { Rgb([20; 3]) } else { Rgb([250, 249, 245]) };
    RgbImage::from_fn(across * 8, down * 8, pixel).save(&path).unwrap();
    path
}

#[test]
fn a_page_stays_whole() {
    let ask = |name, merge| answered(name, &DEMO, PAGE, "Read row two", &["--merge", merge]).0;
    let (auto, off) = (ask("page", "auto"), ask("page-off", "off"));
    assert_eq!(auto["text"], off["text"]);
    let (encoder, deepest) = tokens(&auto);
    assert!(encoder >= 190 && deepest >= 190, "{encoder} {deepest}");
    assert!(why(&auto).contains("a page keeps all but repeated cells"), "{}", why(&auto));
    assert!(off["merge"].get("budgets").is_none(), "nothing was chosen with merging off");
}

#[test]
fn a_scene_gives_and_says_why() {
    let (report, trace) =
        answered("scene", &DEMO, SCENE, "How many objects are there?", &["--merge", "auto"]);
    let (encoder, deepest) = tokens(&report);
    assert!(deepest < encoder && encoder < 150, "{encoder} {deepest}");
    let budget = &report["merge"]["budgets"][0];
    assert_eq!((budget["image"].as_u64(), budget["cells"].as_u64()), (Some(0), Some(196)));
    assert_eq!((budget["encoder"].as_u64(), budget["decoder"].as_u64()), (Some(encoder), Some(deepest)));
    assert!(why(&report).contains("plain cells merge"), "{}", why(&report));
    assert_eq!(&trace["images"][0]["budget"], budget, "a picture of one tile");
    assert_eq!(report["merge"]["vit_layers"][0], 1, "repeated cells merge first");
}

#[test]
fn blank_paper_costs_next_to_nothing() {
    let blank = sheet("blank", 14, 14, |_, _| false);
    let ask = |name, flags: &[&str]| {
        answered(name, &DEMO, &blank, "Describe the image.", &[&["--merge", "auto"], flags].concat())
    };
    let (report, trace) = ask("blank", &[]);
    assert_eq!(tokens(&report), (21, 21), "one of ten, and the first");
    let first = &trace["steps"][0];
    assert_eq!((first["layer"].as_u64(), first["n_out"].as_u64()), (Some(1), Some(99)), "half at layer 1");
    assert_eq!(first["sizes"].as_array().unwrap().iter().map(|s| s.as_f64().unwrap()).sum::<f64>(), 196.0);

    let (raised, _) = ask("raised", &["--keep-min", "0.5"]);
    assert_eq!(tokens(&raised).1, 98);
    assert!(why(&raised).ends_with("raised to the least share"), "{}", why(&raised));
    // Half of a sheet written: the other half goes.
    let half = sheet("half", 14, 14, |_, y| y < 7);
    let (report, trace) = answered("half", &DEMO, &half, "Read row two", &["--merge", "auto"]);
    assert_eq!(tokens(&report), (109, 109), "98 written cells, one that repeats none, 10 for 97 that do");
    let written: Vec<u64> = (0..98).collect();
    assert_eq!(
        cells(trace["steps"].as_array().unwrap().last().unwrap())[..98],
        written,
        "all written cells stay"
    );
}

/// Cells that a step of the encoder leaves.
fn cells(step: &Value) -> Vec<u64> {
    step["kept"].as_array().unwrap().iter().map(|cell| cell.as_u64().unwrap()).collect()
}

#[test]
fn cells_with_edges_merge_last() {
    // A written column in a field of shades, which are plain: a matching alone takes some of its letters.
    let path = scratch("auto-column.png");
    let pixel = |x: u32, y: u32| match (40..56).contains(&x) && x % 4 < 2 && y % 8 < 6 {
        true => Rgb([20; 3]),
        false => Rgb([(90 + x + y / 2) as u8, (100 + y) as u8, (200 - x) as u8]),
    };
    RgbImage::from_fn(112, 112, pixel).save(&path).unwrap();
    let column: Vec<u64> = (0..196).filter(|cell| (5..7).contains(&(cell % 14))).collect();
    let (report, trace) =
        answered("column", &DEMO, &path, "How many objects are there?", &["--merge", "auto"]);
    let steps = trace["steps"].as_array().unwrap();
    let last = steps.iter().rfind(|step| step["half"] == "encoder").unwrap();
    let kept = cells(last);
    assert!(column.iter().all(|cell| kept.contains(cell)), "{kept:?}");
    let deep = cells(steps.iter().rfind(|step| step["half"] == "decoder").unwrap());
    let (encoder, decoder) = tokens(&report);
    assert_eq!((kept.len() as u64, deep.len() as u64), (encoder, decoder));
    assert!(decoder < encoder && encoder < 140, "{encoder} {decoder}");
    let of_column = kept.iter().enumerate().filter(|(_, cell)| column.contains(cell));
    assert!(of_column.map(|(row, _)| row as u64).all(|row| deep.contains(&row)), "{deep:?}");
}

#[test]
fn the_most_is_a_ceiling() {
    let (report, _) =
        answered("most", &DEMO, PAGE, "Read row two", &["--merge", "auto", "--keep-max", "0.25"]);
    assert_eq!(tokens(&report), (98, 49), "half in each half");
    assert!(why(&report).ends_with("cut to the most share"), "{}", why(&report));
}

#[test]
fn each_tile_has_its_own_budget() {
    let pair = pair("hf-llava_onevision-f32");
    let model = pair.each_ref().map(String::as_str);
    // The left tile is full of letters, the right one is blank.
    let wide = sheet("wide", 28, 14, |x, _| x < 14);
    let (report, trace) = answered("tiles", &model, &wide, "what is it", &["--merge", "auto"]);
    let budgets: Vec<&Value> =
        trace["images"].as_array().unwrap().iter().map(|tile| &tile["budget"]).collect();
    assert!(budgets.len() > 2, "{budgets:?}");
    let kept = |budget: &Value| budget["decoder"].as_u64().unwrap();
    let (left, right) = (budgets[1], budgets[budgets.len() - 1]);
    assert!(kept(left) > 4 * kept(right), "{left} {right}");
    let sum: u64 = budgets.iter().map(|budget| kept(budget)).sum();
    assert_eq!(report["merge"]["budgets"][0]["decoder"].as_u64(), Some(sum));
    assert!(why(&report).contains("tiles are pages"), "{}", why(&report));
}

#[test]
fn requests_and_lines_choose_it_as_flags_do() {
    let (input, output) = (scratch("auto-in.jsonl"), scratch("auto-out.jsonl"));
    let _ = fs::remove_file(&output);
    let page = std::path::absolute(PAGE).unwrap();
    let scene = std::path::absolute(SCENE).unwrap();
    let line = |id: &str, picture: &std::path::Path, merge: Value| {
        json!({ "id": id, "prompt": "Describe the image.", "image": picture, "merge": merge, "max_tokens": 8 }).to_string()
    };
    let bounded = json!({ "preset": "auto", "keep_max": 0.25 });
    let lines = [
        line("page", &page, json!("auto")),
        line("scene", &scene, json!("auto")),
        line("bounded", &page, bounded),
        line("wrong", &page, json!({ "preset": "paper", "keep_min": 0.2 })),
    ];
    fs::write(&input, lines.join("\n")).unwrap();
    let outcome =
        call("batch", &DEMO, &[&input, "-o", &output, "-np", "2", "-c", "1024", "--temp", "0", "-t", "1"]);
    outcome.exits(1, "1 of 4 requests failed");
    let text = fs::read_to_string(&output).unwrap();
    let answers: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (answer, picture, flags) in [
        (&answers[0], PAGE, &["--merge", "auto"][..]),
        (&answers[1], SCENE, &["--merge", "auto"]),
        (&answers[2], PAGE, &["--merge", "auto", "--keep-max", "0.25"]),
    ] {
        let (alone, _) = answered("alone", &DEMO, picture, "Describe the image.", flags);
        assert_eq!(answer["report"]["text"], alone["text"], "{answer}");
        assert_eq!(answer["report"]["merge"]["budgets"], alone["merge"]["budgets"]);
        assert_eq!(tokens(&answer["report"]), tokens(&alone));
    }
    let error = answers[3].to_string();
    assert!(error.contains("merge.keep_min") && error.contains("auto"), "{error}");
}

#[test]
fn what_excludes_it_is_refused_in_one_line() {
    let run = ["--image", SCENE, "-p", "x", "-n", "1"];
    for (flags, part) in [
        (&["--merge", "auto", "--keep", "0.5"][..], "--keep 0.5 and --merge auto exclude each other"),
        (&["--merge", "auto", "--vit-layers", "5", "--vit-r", "9"], "--vit-layers"),
        (&["--merge", "auto", "--grid", "reference"], "--grid reference"),
        (&["--merge", "auto", "--strategy", "downsample"], "--strategy downsample"),
        (&["--merge", "auto", "--keep-min", "0"], "--keep-min 0: give a share"),
        (
            &["--merge", "auto", "--keep-min", "0.5", "--keep-max", "0.2"],
            "--keep-min 0.5 is above --keep-max 0.2",
        ),
        (&["--merge", "paper", "--keep-max", "0.2"], "choose --merge auto"),
    ] {
        call("run", &DEMO, &[&run, flags].concat()).fails(2, part);
    }
}

#[test]
fn inspect_and_explain_tell_of_it() {
    let table = call("inspect", &DEMO, &[]);
    assert!(table.stdout.contains("auto, at most"), "{}", table.stdout);
    let out = scratch("auto-explain");
    let rest = ["--image", PAGE, "-p", "Read row two", "-n", "4", "--merge", "auto", "--out", &out];
    let outcome = call("explain", &DEMO, &rest);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let page = fs::read_to_string(format!("{out}/explain.html")).unwrap();
    assert!(page.contains("a page keeps all but repeated cells"));
}
