//! Image encoders that merge beside LLaVA's and Qwen2-VL's: merging off against Hugging Face transformers, in F32 and F16,
//! and merging against a float64 account of each family: kept groups, rows and places of every span, and logits.
//!
//! Expected values: tools/make_tower_fixtures.py. Models: `make_model.py --projector`, in ILLAVA_TEST_MODELS or
//! target/test-models.

#[allow(dead_code)] // These pairs have no processor and no template of their own.
mod families {
    pub mod fixture;
    pub mod levels;
    pub mod merging;
    pub mod run;
}

use std::path::{Path, PathBuf};

use families::fixture::{Case, Fixture};
use families::run::{Pair, SETTINGS, Setting, assert_steps};
use illava::answer::Engine;
use illava::native::{LoadOptions, TextModel, Vision, VisionOptions};
use illava::pair::FlashAttention;
use illava::schedule::Schedule;
use illava::see::{EncodedImage, Encoder};

fn folder(name: &str) -> PathBuf {
    let models = std::env::var_os("ILLAVA_TEST_MODELS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-models"), PathBuf::from);
    models.join(name)
}

fn load(name: &str, setting: &Setting) -> Pair {
    let folder = folder(name);
    let (text, projector) = (folder.join("text.gguf"), folder.join("mmproj.gguf"));
    assert!(text.exists(), "{} is missing: run tools/test-models.sh", text.display());
    Pair::open(text, projector, setting)
}

fn off_is_as_in_transformers(pair: &mut Pair, fixture: &Fixture, case: &Case, setting: &Setting) {
    let pictures = case.pictures();
    let images: Vec<EncodedImage> = case
        .visuals(&pictures)
        .iter()
        .map(|visual| pair.engine.encode_span(visual, &Schedule::default()).expect("it is encoded"))
        .collect();
    let rows: Vec<u32> = images.iter().map(|image| image.plan.tokens).collect();
    assert_eq!(rows, case.spans, "{}: rows of the spans", case.name);
    let logits = pair.greedy(case, &images, &[], setting);
    let expected = fixture.floats(&format!("{}.logits", case.name));
    assert_steps(&logits, expected, &case.greedy, setting, &case.name);
}

/// The cases of projector type `kind`, with the F32 pair in folder `name`, and those without merging in 16 bits.
fn family(kind: &str, name: &str, least: usize) {
    let fixture = Fixture::load("towers.json");
    let cases: Vec<&Case> = fixture.cases.iter().filter(|case| case.family == kind).collect();
    assert!(cases.len() >= least, "{kind}: only {} cases", cases.len());
    for setting in &SETTINGS {
        let single = setting.weights == "f32";
        let half = format!("tower-f16-{kind}");
        let mut pair = load(if single { name } else { &half }, setting);
        assert!(pair.engine.facts().shape.vit_can_merge, "{kind}");
        for case in &cases {
            match case.encoder.is_empty() {
                true => off_is_as_in_transformers(&mut pair, &fixture, case, setting),
                // Which tokens stay may hang on the rounding of 16 bits.
                false if single => {
                    families::merging::case_is_as_the_reference(&mut pair, &fixture, case, setting);
                }
                false => {}
            }
        }
    }
}

#[test]
fn internvl() {
    family("internvl", "projector-internvl", 8);
}

#[test]
fn idefics_3() {
    family("idefics3", "projector-idefics3", 8);
}

#[test]
fn gemma_3() {
    family("gemma3", "projector-gemma3", 6);
}

#[test]
fn pixtral() {
    family("pixtral", "projector-pixtral", 6);
}

/// Pixtral's graph with a patch merger.
#[test]
fn mistral_small() {
    family("mistral_small", "projector-mistral_small", 6);
}

#[test]
fn qwen3_vl() {
    family("qwen3vl_merger", "projector-qwen3vl_merger", 12);
}

#[test]
fn qwen2_5_vl() {
    family("qwen2.5vl_merger", "tower-qwen2.5vl", 14);
}

#[derive(serde::Deserialize)]
struct Counts {
    sizes: Vec<(u32, u32)>,
    tokens: std::collections::HashMap<String, Vec<u32>>,
}

/// llama.cpp cuts these pictures, in the numbers that the models were released with: tools/make_count_fixtures.py.
#[test]
fn tiles_of_idefics_3_are_those_of_its_processor() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/counts.json");
    let counts: Counts =
        serde_json::from_slice(&std::fs::read(fixtures).expect("the fixture")).expect("counts");
    assert_eq!(counts.sizes.len(), 60);
    for (name, pair) in [("smolvlm2", "tiles-idefics3-384"), ("idefics3", "tiles-idefics3-364")] {
        let (text, projector) = (folder(pair).join("text.gguf"), folder(pair).join("mmproj.gguf"));
        let text = TextModel::load(&text, &LoadOptions::default(), |_| true).expect("a text model");
        let options = VisionOptions {
            use_gpu: false,
            flash_attention: FlashAttention::Off,
            threads: 1,
            min_tokens: None,
            max_tokens: None,
            repack: false,
        };
        let mut vision = Vision::load(&projector, &options).expect("the projector loads");
        vision.set_text(&text).expect("its marks are known");
        for (&(width, height), &tokens) in counts.sizes.iter().zip(&counts.tokens[name]) {
            let (parts, _) = vision.cutter().cut(width, height).expect("it is cut");
            let shown: u32 = parts.iter().filter(|part| part.tokens.is_empty()).map(|part| part.rows).sum();
            assert_eq!(shown, tokens, "{name}: {width}x{height}");
        }
    }
}
