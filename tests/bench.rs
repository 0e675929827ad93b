//! `illava bench` on the demo pair: what it counts is exact, what it times is only looked at for shape.

mod binary;

use std::fs;

use binary::{frames, illava, pair, scratch};
use serde_json::Value;

fn bench(extra: &[&str]) -> binary::Outcome {
    let (text, projector) = ("models/demo/text.gguf", "models/demo/mmproj.gguf");
    let args = ["bench", "-m", text, "--mmproj", projector, "--rounds", "2", "--warm-up", "1", "-n", "3"];
    illava(&[&args, extra].concat().iter().map(ToString::to_string).collect::<Vec<_>>())
}

#[test]
fn one_table_one_json_one_picture() {
    let (json, svg, png) = (scratch("bench.json"), scratch("bench.svg"), scratch("bench.png"));
    let outcome = bench(&[
        "--json",
        &json,
        "--plot",
        &svg,
        "--against",
        "paper,off",
        "--image",
        "models/demo/images/scene.png",
    ]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let header = outcome.stdout.lines().next().unwrap();
    let columns: Vec<&str> = header.split('|').map(str::trim).filter(|column| !column.is_empty()).collect();
    assert_eq!(columns, ["off", "model", "against off", "paper", "against off"], "{header}");

    let value: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    let outcomes = value["outcomes"].as_array().unwrap();
    assert_eq!(outcomes.len(), 3, "each schedule once");
    let tokens = |i: usize| {
        let outcome = &outcomes[i];
        assert_eq!(outcome["samples"].as_array().unwrap().len(), 2, "warm-up does not count");
        for part in ["encoder", "prefill", "generate"] {
            assert!(outcome["samples"][1][part].as_f64().unwrap() > 0.0, "{part} of {outcome}");
        }
        (
            outcome["visual_after_encoder"].as_u64().unwrap(),
            outcome["visual_kv"].as_array().unwrap().last().unwrap()["tokens"].as_u64().unwrap(),
        )
    };
    assert_eq!(tokens(0), (196, 196));
    assert_eq!(tokens(1), (96, 48));
    let (encoder, deep) = tokens(2);
    assert!(encoder < 196 && deep < encoder);
    assert!(outcomes[1]["kv_bytes"].as_u64() < outcomes[0]["kv_bytes"].as_u64());

    assert!(fs::read_to_string(&svg).unwrap().contains("prefill"));
    let outcome = bench(&["--merge", "off", "--plot", &png]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    assert!(image::open(&png).unwrap().width() > 400);
}

#[test]
fn the_names_of_llama_bench() {
    let printed = |format: &str| {
        let outcome = bench(&["--merge", "off", "-r", "1", "-p", "8", "-o", format]);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        outcome.stdout
    };
    let value: Value = serde_json::from_str(&printed("json")).unwrap();
    assert_eq!(value["outcomes"][0]["samples"].as_array().unwrap().len(), 1);
    let csv = printed("csv");
    assert!(csv.starts_with("model,threads,schedule,") && csv.contains(",prefill,"), "{csv}");
}

#[test]
fn what_it_cannot_do_is_said_before_the_model_loads() {
    bench(&["-o", "xml"]).fails(2, "-o xml: choose md, csv or json");
    bench(&["--plot", "bars.bmp"]).fails(2, "--plot bars.bmp: give a file that ends in .png or .svg");
    bench(&["--image", "no-such.png"]).fails(1, "no-such.png");
    bench(&["--video", "no-such.mp4"]).fails(1, "no-such.mp4");
    bench(&["--against", "fastest"]).fails(2, "fastest");
}

#[test]
fn a_video_is_measured_as_pictures_are() {
    let folder = frames("bench-frames", 6);
    let json = scratch("bench-video.json");
    let measure = |name: &str, extra: &[&str]| -> Value {
        let mut args = vec!["bench".to_owned()];
        args.extend(pair(name));
        let fixed = ["--rounds", "1", "--warm-up", "0", "-n", "2", "--video", &folder, "--json", &json];
        args.extend(fixed.iter().chain(extra).map(|arg| (*arg).to_owned()));
        let outcome = illava(&args);
        assert_eq!(outcome.code, 0, "{name}: {}", outcome.stderr);
        serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap()
    };
    let tokens = |outcome: &Value| outcome["visual"].as_u64().unwrap();
    // Each frame has 7 x 7 cells pooled to 4 x 4, and a newline. Without a schedule on the command line the
    // video's acts.
    let found = measure("hf-llava_onevision-f32", &[]);
    let [off, on] = found["outcomes"].as_array().unwrap().as_slice() else { panic!("two: {found}") };
    assert_eq!((tokens(off), on["name"].as_str()), (6 * 16 + 1, Some("video")));
    for part in ["preprocess", "encoder", "prefill", "generate"] {
        assert!(on["samples"][0][part].as_f64().unwrap() > 0.0, "{part}");
    }
    assert!(on["visual_kv"][1]["tokens"].as_u64() < off["visual_kv"][0]["tokens"].as_u64());
    let found = measure("hf-llava_onevision-f32", &["--video-frames", "3"]);
    assert_eq!(tokens(&found["outcomes"][0]), 3 * 16 + 1);
    // One that takes no videos gets the frames as pictures.
    let found = measure("hf-llava-f32", &["--video-frames", "2", "--merge", "off"]);
    assert_eq!(tokens(&found["outcomes"][0]), 2 * 49);
}
