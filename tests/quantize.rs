//! `illava quantize` and the types that tools/convert.py offers: each converted, loaded and compared with transformers.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use illava::native::Gguf;
use illava::pair::FlashAttention;

// Both files serve tests/families.rs as well, which uses more of them.
#[allow(dead_code)]
mod families {
    pub mod fixture;
    pub mod levels;
    pub mod run;
}

use families::fixture::Fixture;
use families::run::{Pair, Setting};
use illava::schedule::Schedule;
use illava::see::Encoder;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn models() -> PathBuf {
    std::env::var_os("ILLAVA_TEST_MODELS").map_or_else(|| root().join("target/test-models"), PathBuf::from)
}

fn quantize(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_illava"))
        .arg("quantize")
        .args(arguments)
        .output()
        .expect("the program starts")
}

#[test]
fn files_and_types() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out.gguf");
    let path = |name: &str| models().join(name).to_str().expect("a path").to_owned();
    let (text, projector) = (path("hf-llava_next-f16/text.gguf"), path("hf-llava_next-f16/mmproj.gguf"));
    let coarse = path("siglip-qwen2-wide-q4_0/text.gguf");
    let out = out.to_str().expect("a path");
    let done = quantize(&[&text, out, "q4_k_m", "1"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(Gguf::open(Path::new(out)).expect("a file").u32("general.file_type"), Some(15));
    let before = std::fs::read(out).expect("it is there");
    for (arguments, code, part) in [
        ([&text, out, "Q4_X"], 2, "type Q4_X is not known"),
        ([&projector, out, "Q4_0"], 1, "is an image projector"),
        ([&coarse, out, "Q4_0"], 1, "already"),
        ([&text, &text, "Q4_0"], 2, "both the file to read and the file to write"),
        (["/nothing.gguf", out, "Q4_0"], 1, "/nothing.gguf"),
        ([&text, "/nowhere/out.gguf", "Q4_0"], 1, "out.gguf"),
    ] {
        let done = quantize(&arguments);
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(part) && said.trim_end().lines().count() == 1, "{arguments:?}: {said}");
    }
    assert_eq!(std::fs::read(out).expect("it is there"), before, "a failure leaves the file as it was");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing half written stays");
}

/// Logits after a prompt with a picture, against transformers with the checkpoint's own weights. Rows of 64 values
/// have no K-quants: those mixes take the types with blocks of 32 there, as llama.cpp chooses.
#[test]
fn every_type_that_the_converter_offers() {
    let fixture = Fixture::load("families.json");
    let family = "llava_next";
    let case = fixture.cases.iter().find(|case| case.name == "llava_next.wide").expect("a case");
    let expected = fixture.floats("llava_next.wide.logits");
    let vocabulary = expected.len() / case.greedy.len();
    for (text, tower, tolerance) in [
        ("bf16", "bf16", 0.02),
        ("q8_0", "q8_0", 0.05),
        ("q5_k_m", "f16", 0.2),
        ("q4_k_m", "f16", 0.3),
        ("iq4_nl", "f16", 0.4),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let done = Command::new(root().join("target/python/bin/python"))
            .arg(root().join("tools/convert.py"))
            .arg(models().join("checkpoints").join(family))
            .args(["--name", "tiny", "--type", text, "--tower-type", tower, "--out"])
            .arg(folder.path())
            .args(["--quantizer", env!("CARGO_BIN_EXE_illava")])
            .output()
            .expect("python starts");
        assert!(done.status.success(), "{text}: {}", String::from_utf8_lossy(&done.stderr));
        let file = |name: String| folder.path().join(name);
        // The rest is the weights' own rounding.
        let setting = Setting { weights: text, tolerance, flash_attention: FlashAttention::Off, kv: "f32" };
        let mut pair = Pair::open(
            file(format!("tiny-{}.gguf", text.to_uppercase())),
            file(format!("mmproj-tiny-{}.gguf", tower.to_uppercase())),
            &setting,
        );
        let pictures = case.pictures();
        let images: Vec<_> = case
            .visuals(&pictures)
            .iter()
            .map(|visual| pair.engine.encode_span(visual, &Schedule::default()).expect("it is encoded"))
            .collect();
        let logits = pair.greedy(case, &images, &[], &setting);
        let square = |x: f64| x * x;
        let pairs =
            || logits[0].iter().zip(&expected[..vocabulary]).map(|(&a, &b)| (f64::from(a), f64::from(b)));
        let error: f64 = pairs().map(|(a, b)| square(a - b)).sum();
        let norm: f64 = pairs().map(|(_, b)| square(b)).sum();
        let distance = (error / norm).sqrt();
        println!("{text}, tower {tower}: relative error {distance:.4}");
        assert!(distance <= tolerance, "{text}, tower {tower}: relative error {distance:.3}");
        assert!(distance > 1e-5, "{text}: as exact as F32, so nothing was quantised");
    }
}
