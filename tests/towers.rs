//! Image encoders that merge beside LLaVA's and Qwen2-VL's: merging off against Hugging Face transformers, and merging
//! against a float64 account of each family: kept groups, rows and places of every span, and logits.
//!
//! Expected values: tools/make_tower_fixtures.py. Models: `make_model.py --projector`, in ILLAVA_TEST_MODELS or
//! target/test-models.

#[allow(dead_code)] // Contexts are families::run's.
mod numbers;

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
use illava::schedule::{Amount, Choice, Half, MergeFlag, Schedule, Strategy, select};
use illava::see::{EncodedImage, Encoder};

/// 1e-4 is aimed at; the library's own roundings of an F32 run take more. For Gemma 3's rows, merging off, the
/// account with them differs from the one without by 1.1e-4 (pixels and kernels of the patch convolution in f16), 0.6e-4
/// (the f16 table of GELU) and 1.3e-4 (both); transformers in f32 by 2e-7. A run differs from transformers by 1.1e-4 with
/// a GELU in f32 and by 1.3e-4 with the table. InternVL's reference grid with two pictures is the farthest, 1.5e-4.
const SETTING: Setting = Setting { tolerance: 2e-4, ..SETTINGS[0] };

fn load(name: &str) -> Pair {
    let models = std::env::var_os("ILLAVA_TEST_MODELS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-models"), PathBuf::from);
    let folder = models.join(name);
    let (text, projector) = (folder.join("text.gguf"), folder.join("mmproj.gguf"));
    assert!(text.exists(), "{} is missing: run tools/test-models.sh", text.display());
    Pair::open(text, projector, &SETTING)
}

fn off_is_as_in_transformers(pair: &mut Pair, fixture: &Fixture, case: &Case) {
    let pictures = case.pictures();
    let images: Vec<EncodedImage> = case
        .visuals(&pictures)
        .iter()
        .map(|visual| pair.engine.encode_span(visual, &Schedule::default()).expect("it is encoded"))
        .collect();
    let rows: Vec<u32> = images.iter().map(|image| image.plan.tokens).collect();
    assert_eq!(rows, case.spans, "{}: rows of the spans", case.name);
    let logits = pair.greedy(case, &images, &[], &SETTING);
    let expected = fixture.floats(&format!("{}.logits", case.name));
    assert_steps(&logits, expected, &case.greedy, &SETTING, &case.name);
}

/// The cases of projector type `kind`, with the pair in folder `name`.
fn family(kind: &str, name: &str, least: usize) {
    let fixture = Fixture::load("towers.json");
    let mut pair = load(name);
    assert!(pair.engine.facts().shape.vit_can_merge, "{kind}");
    let cases: Vec<&Case> = fixture.cases.iter().filter(|case| case.family == kind).collect();
    assert!(cases.len() >= least, "{kind}: only {} cases", cases.len());
    for case in cases {
        match case.encoder.is_empty() {
            true => off_is_as_in_transformers(&mut pair, &fixture, case),
            false => families::merging::case_is_as_the_reference(&mut pair, &fixture, case, &SETTING),
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

/// The rows alone: no account of its language model is written.
#[test]
fn gemma_3() {
    let fixture = Fixture::load("towers.json");
    let mut pair = load("projector-gemma3");
    let cases: Vec<&Case> = fixture.cases.iter().filter(|case| case.family == "gemma3").collect();
    assert!(cases.len() >= 3);
    for case in cases {
        let layers = case.encoder.iter().map(|step| step[0]).collect();
        let amounts = case.encoder.iter().map(|step| Amount::Count(step[1])).collect();
        let choice = Choice {
            merge: case.encoder.is_empty().then_some(MergeFlag::Off),
            vit: (!case.encoder.is_empty()).then_some(Half { layers, amounts }),
            strategy: (!case.encoder.is_empty()).then(|| Strategy::parse(&case.strategy, 0).unwrap()),
            ..Choice::default()
        };
        let schedule =
            select(&choice, &pair.engine.facts().shape, None).expect("a schedule this model takes");
        let pictures = case.pictures();
        let image = pair.engine.encode_span(&case.visuals(&pictures)[0], &schedule).expect("it is encoded");
        assert_eq!(image.plan.tokens, case.spans[0], "{}", case.name);
        assert_eq!(image.offsets, case.places[0], "{}", case.name);
        for ((_, step), expected) in image.steps.iter().zip(&case.steps) {
            assert_eq!((step.layer, &step.kept), (expected.layer, &expected.kept), "{}", case.name);
        }
        assert_eq!(image.steps.len(), case.steps.len(), "{}", case.name);
        let width = pair.engine.facts().n_embd_in as usize;
        let rows = image.embeddings.chunks(width).zip(&image.layout.tokens).filter(|(_, token)| **token < 0);
        let rows: Vec<f32> = rows.flat_map(|(row, _)| row.iter().copied()).collect();
        let error = numbers::distance(&rows, fixture.floats(&format!("{}.rows", case.name)));
        assert!(error <= SETTING.tolerance, "{}: relative error {error:.1e}", case.name);
    }
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
    family("qwen3vl_merger", "projector-qwen3vl_merger", 6);
}

#[test]
fn qwen2_5_vl() {
    family("qwen2.5vl_merger", "tower-qwen2.5vl", 8);
}
