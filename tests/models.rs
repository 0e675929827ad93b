//! The model families through the real binary: what `inspect` tells, and what a prompt's pictures cost.
//!
//! Models come from tools/test-models.sh, in ILLAVA_TEST_MODELS or target/test-models.

mod binary;

use std::fs;

use binary::{ask, illava, pair, picture, scratch};
use serde_json::Value;

fn inspect(name: &str, extra: &[&str]) -> Value {
    let mut args = vec!["inspect".to_owned(), "--json".to_owned()];
    args.extend(pair(name));
    args.extend(extra.iter().map(|arg| (*arg).to_owned()));
    let outcome = illava(&args);
    assert_eq!(outcome.code, 0, "{name}: {}", outcome.stderr);
    serde_json::from_str(&outcome.stdout).unwrap()
}

fn report(name: &str, extra: &[&str]) -> Value {
    let file = scratch(&format!("models-{name}-{}.json", extra.join("_").replace(['/', '%'], "-")));
    let outcome = ask(name, &[extra, &["--report", &file]].concat());
    assert_eq!(outcome.code, 0, "{name} {extra:?}: {}", outcome.stderr);
    serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap()
}

/// [tiles, tokens] of every picture.
fn costs(found: &Value) -> Vec<(usize, u64)> {
    let cost =
        |picture: &Value| (picture["tiles"].as_array().unwrap().len(), picture["tokens"].as_u64().unwrap());
    found["pictures"].as_array().unwrap().iter().map(cost).collect()
}

#[test]
fn inspect_counts_any_picture() {
    // As in tests/fixtures/families.json; the last one of OneVision and Qwen2-VL is a video.
    let sizes = ["--size", "150x50", "--size", "600x500"];
    for (name, expected) in [
        ("hf-llava_onevision-f32", &[(4, 203), (31, 505), (32, 32 * 16 + 1)][..]),
        ("hf-llava_next-f32", &[(4, 203), (5, 229)]),
        ("hf-llava-f32", &[(1, 49)]),
        ("hf-qwen2_vl-f32", &[(1, 27), (1, 90), (8, 216)]),
    ] {
        let found = inspect(name, &sizes);
        assert_eq!(costs(&found), expected, "{name}");
        assert_eq!(found["projector"]["missing"].as_array().unwrap().len(), 0, "{name}");
        let bytes = found["kv"]["bytes_per_token"].as_u64().unwrap();
        for (picture, (_, tokens)) in found["pictures"].as_array().unwrap().iter().zip(expected) {
            assert_eq!(picture["kv_bytes"].as_u64(), Some(bytes * tokens), "{name}");
        }
        let paper = found["presets"].as_array().unwrap().iter().find(|p| p["name"] == "paper").unwrap();
        for (merged, (tiles, tokens)) in paper["pictures"].as_array().unwrap().iter().zip(expected) {
            let left = merged["tokens_after_encoder"].as_u64().unwrap();
            // Many tiles are interpolated to the cap, and frames pooled: a cell is gone only with all it is made of.
            let most = if *tiles > 10 { *tokens } else { tokens * 3 / 4 };
            assert!(left > 0 && left <= most, "{name}: {left} of {tokens}");
        }
    }
    let args =
        [&["inspect".to_owned(), "--size".to_owned(), "20x".to_owned()][..], &pair("hf-llava-f32")].concat();
    illava(&args).fails(2, "--size 20x");
}

#[test]
fn old_files_say_what_they_lack() {
    let found = inspect("clip-llama-f32", &[]);
    let missing = found["projector"]["missing"][0].as_str().unwrap();
    assert!(missing.contains("class token") && missing.contains("convert"), "{missing}");
    let outcome = ask("clip-llama-f32", &["-n", "1"]);
    outcome.exits(0, "class token");
}

#[test]
fn tokens_of_a_picture_can_be_bounded() {
    let visual = |extra: &[&str]| report("hf-llava_onevision-f32", extra)["tokens"].clone();
    // 96x72: the whole and two by two tiles.
    let all = visual(&["--merge", "off"])["visual"].as_u64().unwrap();
    assert!(all > 150, "{all}");
    let tokens = visual(&["--merge", "paper", "--image-max-tokens", "49"]);
    assert_eq!(tokens["visual"], 49, "the whole alone");
    // 49 - 4 x round(92 x 49 / 729), and of those all but round(108 x 25 / 361).
    assert_eq!(tokens["visual_after_encoder"], 25);
    assert_eq!(tokens["visual_kv"][1]["tokens"], 18);
}

#[test]
fn several_pictures_are_shown_whole() {
    let second = picture("second.png", 60, 90);
    let tokens = |name: &str| {
        report(name, &["--merge", "off", "--image", &second])["tokens"]["visual"].as_u64().unwrap()
    };
    assert_eq!(tokens("hf-llava_onevision-f32"), 2 * 50);
    assert_eq!(tokens("hf-llava-f32"), 2 * 49);
    assert!(tokens("hf-llava_next-f32") > 250, "LLaVA-NeXT cuts each into tiles");
}

#[test]
fn a_video_is_one_span() {
    let folder = std::path::PathBuf::from(scratch("video-frames"));
    fs::create_dir_all(&folder).unwrap();
    for n in 0..8 {
        fs::copy(picture(&format!("frame-{n}.png"), 96, 72 + n), folder.join(format!("frame{n}.png")))
            .unwrap();
    }
    let folder = folder.display().to_string();
    let run = |name: &str, extra: &[&str]| -> (Value, Value) {
        let (report, trace) =
            (scratch(&format!("video-{name}.json")), scratch(&format!("video-{name}-trace.json")));
        let fixed = [
            "-p", "hi", "-n", "2", "--temp", "0", "--video", &folder, "--report", &report, "--trace", &trace,
        ];
        let mut args = vec!["run".to_owned()];
        args.extend(pair(name));
        args.extend(fixed.iter().chain(extra).map(|arg| (*arg).to_owned()));
        let outcome = illava(&args);
        assert_eq!(outcome.code, 0, "{name}: {}", outcome.stderr);
        let read = |path: &str| serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        (read(&report), read(&trace))
    };
    let spans = |trace: &Value| {
        trace["prompt"].as_array().unwrap().iter().filter(|part| part.get("span").is_some()).count()
    };
    // 7 x 7 cells of each frame pooled to 4 x 4, and the newline at the end.
    let (report, trace) = run("hf-llava_onevision-f32", &["--merge", "off"]);
    assert_eq!((report["tokens"]["visual"].as_u64(), spans(&trace)), (Some(8 * 16 + 1), 1));
    // Nobody asked for a schedule: the video's.
    let (report, _) = run("hf-llava_onevision-f32", &[]);
    assert_eq!(report["merge"]["schedule"], "video");
    // Pairs of frames.
    let (report, trace) = run("hf-qwen2_vl-f32", &["--merge", "off"]);
    let visual = report["tokens"]["visual"].as_u64().unwrap();
    assert!(visual % 4 == 0 && visual > 0 && spans(&trace) == 1, "{visual} tokens, {} spans", spans(&trace));
    // A model without videos takes the frames as pictures, and says so.
    let (_, trace) = run("hf-llava-f32", &["--merge", "off"]);
    assert_eq!(spans(&trace), 8);
}
