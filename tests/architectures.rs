//! Merging in the language model, for each architecture whose graph takes a layer range beside those of tests/parity.rs:
//! logits without merging against transformers; kept and merged tokens and logits against a float64 account of the
//! same weights.
//!
//! Expected values: tools/make_architecture_fixtures.py. Models: `make_model.py --decoder`, in ILLAVA_TEST_MODELS or
//! target/test-models.

mod numbers;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use illava::native::{Context, FlashAttention, LoadOptions, Prefill, TextModel};
use numbers::{distance, options};
use safetensors::SafeTensors;
use serde::Deserialize;

/// Largest relative error of the logits of an F32 run.
const TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct Index {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    arch: String,
    /// Tensor of the span's rows.
    rows: String,
    before: Vec<i32>,
    after: Vec<i32>,
    /// \[rows of the span\] original tokens that each stands for; empty where sizes do not count.
    sizes: Vec<f32>,
    /// [t, h, w] of every row; a model with one position a row reads the first.
    positions: Vec<Vec<i32>>,
    /// Rows of the picture see each other both ways, in one micro-batch.
    both_ways: bool,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    layer: u32,
    r: u32,
    kept: Vec<i32>,
    merged: Vec<i32>,
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn model(arch: &str) -> TextModel {
    let models = std::env::var_os("ILLAVA_TEST_MODELS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-models"), PathBuf::from);
    let path = models.join(format!("decoder-{arch}/text.gguf"));
    assert!(path.exists(), "{} is missing: run tools/test-models.sh", path.display());
    let options = LoadOptions { gpu_layers: Some(0), ..LoadOptions::default() };
    TextModel::load(&path, &options, |_| true).expect("the model loads")
}

fn context(model: &TextModel, layers: Vec<u32>, ubatch: u32) -> illava::error::Result<Context> {
    let options = options(layers, ubatch, FlashAttention::Off, "f32");
    Context::new(model, &options, 1)
}

#[test]
fn logits_and_merging_are_as_expected() {
    let index: Index =
        serde_json::from_str(&std::fs::read_to_string(fixture("architectures.json")).unwrap()).unwrap();
    let bytes = std::fs::read(fixture("architectures.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let values = |name: String| -> Vec<f32> {
        let view = tensors.tensor(&name).unwrap();
        view.data().as_chunks().0.iter().copied().map(f32::from_le_bytes).collect()
    };
    let mut ran = BTreeSet::new();
    for case in &index.cases {
        let model = model(&case.arch);
        assert!(model.can_merge(), "{}", case.name);
        let width = model.n_embd_in() as usize;
        let span = values(case.rows.clone());
        let (first, n) = (case.before.len(), span.len() / width);
        let rows = first + n + case.after.len();
        let mut tokens = case.before.clone();
        tokens.resize(first + n, -1);
        tokens.extend(&case.after);
        let mut embeddings = vec![0.0; first * width];
        embeddings.extend(span);
        embeddings.resize(rows * width, 0.0);
        let positions = match model.n_pos() {
            1 => case.positions[0].clone(),
            _ => case.positions.concat().into_iter().chain(std::iter::repeat_n(0, rows)).collect(),
        };
        let mut sizes = Vec::new();
        if !case.sizes.is_empty() {
            sizes.resize(first, 1.0);
            sizes.extend(&case.sizes);
            sizes.resize(rows, 1.0);
        }
        let prefill = Prefill {
            tokens: &tokens,
            embeddings: &embeddings,
            positions: &positions,
            spans: &[(first, n, case.steps.iter().map(|step| step.r).collect())],
            two_ways: if case.both_ways { &[0] } else { &[] },
            sizes: &sizes,
            counts_sizes: !sizes.is_empty(),
            ..Prefill::default()
        };
        for ubatch in [256, if case.both_ways { 64 } else { 8 }] {
            let what = format!("{}, ubatch {ubatch}", case.name);
            let layers = case.steps.iter().map(|step| step.layer).collect();
            let mut context = context(&model, layers, ubatch).unwrap();
            let steps = context.prefill(0, &prefill).unwrap();
            assert_eq!(steps.len(), case.steps.len(), "{what}");
            for (actual, expected) in steps.iter().zip(&case.steps) {
                assert_eq!((actual.layer, &actual.kept), (expected.layer, &expected.kept), "{what}: kept");
                assert_eq!(actual.merged, expected.merged, "{what}: merged");
            }
            let error = distance(context.last_logits().unwrap(), &values(format!("{}.logits", case.name)));
            assert!(error <= TOLERANCE, "{what}: relative error {error:.1e}");
        }
        ran.insert((case.arch.as_str(), case.steps.is_empty(), !case.sizes.is_empty()));
    }
    assert_eq!(ran.len(), 48, "sixteen models: off, merged, merged with sizes: {ran:?}");
}

#[test]
fn image_features_are_in_before_a_merge() {
    for arch in ["qwen3vl", "qwen3vlmoe"] {
        let model = model(arch);
        let deep = model.n_embd_in() / model.n_embd() - 1;
        assert!(deep > 0, "{arch}");
        let error = context(&model, vec![deep - 1], 64).err().expect("it is refused").to_string();
        assert!(error.contains(&format!("within {deep} to ")), "{error}");
    }
}
