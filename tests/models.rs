//! The model families through the real binary: what `inspect` tells, and what a prompt's pictures cost.
//!
//! Models come from tools/test-models.sh, in ILLAVA_TEST_MODELS or target/test-models.

mod binary;

use std::fs;

use binary::{ask, frames, illava, model, pair, picture, scratch};
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

/// Text models whose layers differ: heads of another size behind a window, layers that take no part in a prompt.
#[test]
fn caches_are_counted_layer_by_layer() {
    // (model, layers, cache of one token in bytes: f16, keys and values)
    for (name, layers, bytes) in [
        ("decoder-gemma4", 4, 2 * 2 * (2 * 2 * 16 + 2 * 32)),
        ("decoder-glm4moe", 4, 2 * 2 * 4 * 2 * 16),
        ("decoder-gemma3", 4, 2 * 2 * 4 * 2 * 16),
    ] {
        let text = model(name, "text.gguf");
        let outcome = illava(&["inspect", "--json", "-m", &text].map(str::to_owned));
        assert_eq!(outcome.code, 0, "{name}: {}", outcome.stderr);
        let found: Value = serde_json::from_str(&outcome.stdout).unwrap();
        let shown = (&found["text"]["layers"], &found["kv"]["bytes_per_token"], &found["text"]["can_merge"]);
        assert_eq!(shown, (&layers.into(), &bytes.into(), &true.into()), "{name}");
    }
}

/// Makes a copy of a pair's projector in which the keys `names` have other names.
fn without(name: &str, names: &[&str]) -> String {
    let mut bytes = fs::read(model(name, "mmproj.gguf")).unwrap();
    for gone in names {
        let places: Vec<usize> =
            (0..bytes.len() - gone.len()).filter(|&at| bytes[at..].starts_with(gone.as_bytes())).collect();
        assert!(!places.is_empty(), "{name} has {gone}");
        places.into_iter().for_each(|at| bytes[at] = b'_');
    }
    let path = scratch(&format!("{name}-without-{}.gguf", names.join("+")));
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn old_files_say_what_they_lack() {
    let convert = "convert the model again with tools/convert.py";
    let picture = picture("shapes.png", 96, 72);
    let (token, act) = ("clip.vision.class_token", "clip.vision.projector.hidden_act");
    for (name, gone, lines) in [
        ("hf-llava_next-f32", &["v.image_newline"][..], &["no newline row"][..]),
        ("hf-llava_next-f32", &["clip.vision.image_grid_pinpoints"], &["names no resolutions"]),
        ("hf-llava_next-f32", &[token], &["class token in llama.cpp's order"]),
        ("hf-llava_next-f32", &["illava.vision.", token, act], &["class token", "tanh approximation"]),
        (
            "hf-llava_next-f32",
            &["illava.vision.", token, act, "clip.vision.image_grid_pinpoints", "v.image_newline"],
            &["class token", "cuts and resizes pictures by its own rules, and its projector"],
        ),
        ("hf-llava-f32", &["illava.vision.", token], &["class token", "cuts and resizes pictures"]),
        ("hf-llava_onevision-f32", &["illava.", act], &["tanh approximation"]),
        ("hf-qwen2_vl-f32", &["illava.", act], &["so its projector takes the tanh approximation"]),
    ] {
        let projector = without(name, gone);
        let text = model(name, "text.gguf");
        let args = ["run", "-m", &text, "-mm", &projector, "--image", &picture, "-p", "hi", "-n", "1"];
        let outcome = illava(&args.map(ToString::to_string));
        assert_eq!(outcome.code, 0, "{name} without {gone:?}: {}", outcome.stderr);
        let said: Vec<&str> = outcome.stderr.lines().filter(|line| line.contains(convert)).collect();
        assert_eq!(said.len(), lines.len(), "{name} without {gone:?}: {said:?}");
        for (line, part) in said.iter().zip(lines) {
            assert!(line.starts_with("note: ") && line.contains(part), "`{part}` is not in: {line}");
        }
    }
    // As the first converters made them: `inspect` says the same.
    let found = inspect("clip-llama-f32", &[]);
    let missing = found["projector"]["missing"].as_array().unwrap();
    assert_eq!(missing.len(), 2, "{missing:?}");
    assert!(missing.iter().all(|line| line.as_str().unwrap().contains(convert)), "{missing:?}");
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
    let folder = frames("video-frames", 8);
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

#[test]
fn the_base_view_has_the_papers_counts() {
    let found = report("onevision-27-f32", &["--merge", "paper", "--image-max-tokens", "729"]);
    let tokens = &found["tokens"];
    assert_eq!((tokens["visual"].as_u64(), tokens["visual_after_encoder"].as_u64()), (Some(729), Some(361)));
    let kv = tokens["visual_kv"].as_array().unwrap();
    let held: Vec<Option<u64>> = kv.iter().map(|segment| segment["tokens"].as_u64()).collect();
    assert_eq!(held, [Some(361), Some(253)]);
    assert_eq!(found["merge"]["vit_r"], serde_json::json!([92, 92, 92, 92]));
    assert_eq!(found["merge"]["llm_r"], serde_json::json!([108]));
    // The same square is what the reference makes a grid of.
    let args = ["--merge", "paper", "--image-max-tokens", "729", "--grid", "reference"];
    assert_eq!(report("onevision-27-f32", &args)["tokens"]["visual_after_encoder"], 361);
}

/// A copy of a pair's projector in which a whole number is another one.
fn with_number(name: &str, key: &str, number: u32) -> String {
    let mut bytes = fs::read(model(name, "mmproj.gguf")).unwrap();
    let at = bytes.windows(key.len()).position(|part| part == key.as_bytes()).expect("the key is there");
    // Behind the key stand the value's type and the value.
    let value = at + key.len() + 4;
    bytes[value..value + 4].copy_from_slice(&number.to_le_bytes());
    let path = scratch(&format!("{name}-{key}-{number}.gguf"));
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn the_file_says_which_frames() {
    let folder = frames("frames-by-file", 8);
    let name = "hf-llava_onevision-f32";
    let text = model(name, "text.gguf");
    let visual = |projector: &str, extra: &[&str]| {
        let report = format!("{projector}.json");
        let fixed = ["run", "-m", &text, "-mm", projector, "-p", "hi", "-n", "1", "--merge", "off"];
        let rest = ["--video", &folder, "--report", &report];
        let args: Vec<String> = [&fixed[..], &rest, extra].concat().iter().map(ToString::to_string).collect();
        let outcome = illava(&args);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        let report: Value = serde_json::from_str(&fs::read_to_string(&report).unwrap()).unwrap();
        report["tokens"]["visual"].as_u64().unwrap()
    };
    // 7 x 7 cells: 4 x 4 pooled by two, 3 x 3 by three.
    let five = with_number(name, "illava.video.frames", 5);
    assert_eq!(visual(&five, &[]), 5 * 16 + 1);
    assert_eq!(visual(&five, &["--video-frames", "7"]), 7 * 16 + 1, "who asks is heard first");
    assert_eq!(visual(&with_number(name, "illava.video.pool_stride", 3), &[]), 8 * 9 + 1);

    let inspect = |projector: &str| {
        illava(["inspect", "-m", &text, "-mm", projector].map(ToString::to_string).as_ref())
    };
    let shown = inspect(&five).stdout;
    assert!(shown.contains("5 frames at even distances, each pooled 2x2"), "{shown}");
    inspect(&with_number(name, "illava.video.frames", 0)).fails(1, "illava.video.frames is 0");
}

#[test]
fn few_saved_rows_are_said() {
    let folder = frames("frames-few-rows", 4);
    let advice = "--grid reference keeps the saving";
    let run = |extra: &[&str]| {
        let mut args = vec!["run".to_owned()];
        args.extend(pair("onevision-27-f32"));
        let fixed = ["-p", "hi", "-n", "1", "--video", &folder, "--merge", "paper"];
        args.extend(fixed.iter().chain(extra).map(|arg| (*arg).to_owned()));
        let outcome = illava(&args);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        outcome.stderr
    };
    assert!(run(&[]).contains(advice), "faithful");
    assert!(!run(&["--grid", "reference"]).contains(advice), "reference");
    let found = inspect("onevision-27-f32", &["--grid", "reference", "--size", "96x72"]);
    let video = found["pictures"].as_array().unwrap().iter().position(|p| p.get("frames").is_some()).unwrap();
    let paper = found["presets"].as_array().unwrap().iter().find(|p| p["name"] == "paper").unwrap();
    // 19 x 19 survivors pooled to 10 x 10.
    assert_eq!(paper["pictures"][video]["tokens_after_encoder"], 32 * 100 + 1);
    assert_eq!(paper["pictures"][video]["estimated"], false);
}

#[test]
fn weights_are_in_memory_once_or_mapped() {
    // Q4_0 is laid out anew on most processors; whence it came makes no difference to an answer.
    let name = "siglip-qwen2-wide-q4_0";
    let answers = |layout: &[&str]| -> Vec<String> {
        ["auto", "mmap", "none"]
            .into_iter()
            .map(|mode| {
                let outcome = ask(name, &[&["--merge", "off", "-lm", mode][..], layout].concat());
                assert_eq!(outcome.code, 0, "{mode} {layout:?}: {}", outcome.stderr);
                outcome.stdout
            })
            .collect()
    };
    for layout in [&[][..], &["-nr"]] {
        let answers = answers(layout);
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{layout:?}: {answers:?}");
    }
    ask(name, &["--load-mode", "lazy"]).fails(2, "--load-mode lazy: choose auto, none or mmap");
    ask(name, &["--kernels", "fast"]).fails(2, "--kernels fast: choose auto or stock");
    let repacked = |name: &str| inspect(name, &[])["text"]["repacked_bytes"].as_u64().unwrap();
    assert_eq!(repacked("siglip-qwen2-f32"), 0, "nothing is to be gained for F32");
}
