//! Text models that tools/convert.py made, against transformers with the checkpoints they were made of.
//!
//! The expected values are in tests/fixtures with the script that made them; the pairs come from
//! tools/test-models.sh. Other tests compare answers about pictures.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use illava::native::{
    Context, ContextOptions, FlashAttention, Gguf, KvType, LoadOptions, Next, Prefill, TextModel, quantize,
};
use safetensors::SafeTensors;
use serde::Deserialize;

#[derive(Deserialize)]
struct Index {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    family: String,
    texts: Vec<Text>,
    prompt: Vec<i32>,
    greedy: Vec<i32>,
}

#[derive(Deserialize)]
struct Text {
    text: String,
    ids: Vec<i32>,
}

fn cases() -> Vec<(Case, Vec<f32>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let text = std::fs::read_to_string(folder.join("text.json")).expect("the index is committed");
    let index: Index = serde_json::from_str(&text).expect("the index is valid");
    let bytes = std::fs::read(folder.join("text.safetensors")).expect("the tensors are committed");
    let tensors = SafeTensors::deserialize(&bytes).expect("the tensors are valid");
    let logits: HashMap<String, Vec<f32>> = tensors
        .iter()
        .map(|(name, view)| {
            (name.to_owned(), view.data().as_chunks().0.iter().copied().map(f32::from_le_bytes).collect())
        })
        .collect();
    assert_eq!(index.cases.len(), 6);
    index
        .cases
        .into_iter()
        .map(|case| {
            let expected = logits[&format!("{}.logits", case.family)].clone();
            (case, expected)
        })
        .collect()
}

fn path(family: &str, weights: &str) -> PathBuf {
    let models = std::env::var_os("ILLAVA_TEST_MODELS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-models"), PathBuf::from);
    let path = models.join(format!("hf-{family}-{weights}/text.gguf"));
    assert!(path.exists(), "{} is missing: run tools/test-models.sh", path.display());
    path
}

fn load(path: &Path) -> TextModel {
    let options = LoadOptions { gpu_layers: Some(0), ..LoadOptions::default() };
    TextModel::load(path, &options, |_| true).expect("the text model loads")
}

/// Keys and values in f32 and no flash attention, which rounds them: what is left is the weights' rounding.
fn context(model: &TextModel) -> Context {
    let kv = KvType::named("f32").expect("a cache type");
    let options = ContextOptions {
        cells: 64,
        deep_cells: Vec::new(),
        merge_layers: Vec::new(),
        batch: 64,
        ubatch: 64,
        threads: 1,
        threads_batch: 1,
        flash_attention: FlashAttention::Off,
        type_k: kv,
        type_v: kv,
        offload: false,
        stop: None,
    };
    Context::new(model, &options, 1).expect("the context is made")
}

/// Logits after `prompt`, and the context to go on with.
fn prefill(model: &TextModel, prompt: &[i32]) -> (Context, Vec<f32>) {
    let mut context = context(model);
    let n = i32::try_from(prompt.len()).expect("a short prompt");
    // With M-RoPE text has the same position on three axes, and none on the fourth.
    let axes = if model.n_pos() == 1 { 1 } else { 3 };
    let mut positions: Vec<i32> = (0..axes).flat_map(|_| 0..n).collect();
    positions.resize(model.n_pos() * prompt.len(), 0);
    let rows =
        Prefill { tokens: prompt, embeddings: &[], positions: &positions, spans: &[], ..Prefill::default() };
    context.prefill(0, &rows).expect("the prompt is prefilled");
    let logits = context.last_logits().expect("logits").to_vec();
    (context, logits)
}

fn distance(actual: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(actual.len(), expected.len());
    let square = |x: f64| x * x;
    let error: f64 = actual.iter().zip(expected).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    let norm: f64 = expected.iter().map(|&b| square(f64::from(b))).sum();
    (error / norm).sqrt()
}

fn best(logits: &[f32]) -> i32 {
    let place = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).expect("a vocabulary");
    i32::try_from(place).expect("a token")
}

#[test]
fn texts_are_cut_as_by_the_checkpoints_own_tokenizer() {
    for (case, _) in cases() {
        let model = load(&path(&case.family, "f16"));
        for Text { text, ids } in &case.texts {
            assert_eq!(&model.tokenize(text, false), ids, "{}: {text:?}", case.family);
        }
    }
}

#[test]
fn logits_and_answers_are_those_of_transformers() {
    for (weights, tolerance) in [("f32", 1e-4), ("f16", 5e-3)] {
        for (case, expected) in cases() {
            let what = format!("{} {weights}", case.family);
            let model = load(&path(&case.family, weights));
            let (mut context, mut logits) = prefill(&model, &case.prompt);
            let distance = distance(&logits, &expected);
            assert!(distance <= tolerance, "{what}: relative error {distance:.1e}, allowed {tolerance:.0e}");
            let first = i32::try_from(case.prompt.len()).expect("a short prompt");
            for (position, &token) in (first..).zip(&case.greedy) {
                assert_eq!(best(&logits), token, "{what}: at {position}");
                context.decode(&[Next { sequence: 0, token, position }]).expect("one more token");
                logits = context.last_logits().expect("logits").to_vec();
            }
        }
    }
}

#[test]
fn the_quantiser_makes_each_mix() {
    let folder = tempfile::tempdir().expect("a folder");
    for (case, expected) in cases() {
        // Rows of 64 or 128 values: K-quants fall back to the types with blocks of 32.
        for (name, file_type, tolerance) in [("Q8_0", 7, 0.03), ("Q4_0", 2, 0.6), ("Q4_K_M", 15, 0.4)] {
            let output = folder.path().join(format!("{}-{name}.gguf", case.family));
            quantize(&path(&case.family, "f32"), &output, file_type, 1).expect("it is quantised");
            let file = Gguf::open(&output).expect("a GGUF file");
            assert_eq!(file.u32("general.file_type"), Some(file_type));
            let (_, logits) = prefill(&load(&output), &case.prompt);
            let distance = distance(&logits, &expected);
            assert!(distance <= tolerance, "{} {name}: relative error {distance:.2}", case.family);
        }
    }
}
