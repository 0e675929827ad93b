//! Values against two independent computations of the same weights: the float64 reference of
//! tools/reference.py (merging and the strategies it is compared with, every step) and Hugging Face transformers (merging off).
//!
//! The expected values are in tests/fixtures with the scripts that made them; the models come from
//! tools/make_model.py, in ILLAVA_TEST_MODELS or target/test-models.

mod numbers;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use illava::native::{
    Context, EncodeOptions, FlashAttention, LoadOptions, MergeStep, Next, Prefill, PreprocessedImage, Score,
    Strategy, TextModel, Thinning, Vision, VisionOptions,
};
use numbers::{distance, options};
use safetensors::SafeTensors;
use serde::Deserialize;

#[derive(Deserialize)]
struct Index {
    tensors: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    /// Name of the pair, if a file has cases of several.
    pair: Option<String>,
    #[serde(default)]
    strategy: String,
    #[serde(default)]
    seed: u64,
    /// Whether sizes count in the encoder's attention.
    #[serde(default)]
    count_sizes: bool,
    /// "class" where the class token's attention ranks.
    #[serde(default)]
    tower_score: String,
    /// Share of the decoder's scores that stays at each merge layer; 0 if the numbers are given.
    #[serde(default)]
    mass: f32,
    /// [visual tokens] how many original ones each stands for, by strategies that count them.
    #[serde(default)]
    sizes: Vec<f32>,
    #[serde(rename = "type")]
    weights: Option<String>,
    pixels: String,
    nx: u32,
    ny: u32,
    #[serde(default)]
    grid: String,
    class_token: String,
    before: Vec<i32>,
    after: Vec<i32>,
    #[serde(default)]
    greedy: Vec<usize>,
    /// [segments] rows of the picture whose cells go after the prompt; empty if the cache is not thinned.
    #[serde(default)]
    thinned: Vec<u32>,
    /// Token behind the prompt, and the logits behind that.
    #[serde(default)]
    following: i32,
    logits_following: Option<String>,
    #[serde(default)]
    encoder: Vec<Merge>,
    #[serde(default)]
    decoder: Vec<Merge>,
    #[serde(default)]
    score: String,
    #[serde(default)]
    cells: Vec<i32>,
    #[serde(default)]
    steps: Vec<Step>,
    /// [t, h, w] of every row, for M-RoPE models.
    positions: Option<Vec<Vec<i32>>>,
    logits: String,
    logits_table: Option<String>,
    logits_f16: Option<String>,
    embeddings_table: Option<String>,
    embeddings: Option<String>,
}

#[derive(Deserialize, Clone, Copy)]
struct Merge {
    layer: u32,
    r: u32,
}

#[derive(Deserialize)]
struct Step {
    half: String,
    layer: u32,
    kept: Vec<i32>,
    merged: Vec<i32>,
    into: Option<i32>,
    #[serde(default)]
    groups: Vec<Vec<i32>>,
    scores: Option<String>,
    residual: Option<String>,
}

/// The expected values of one index file.
struct Fixture {
    index: Index,
    tensors: HashMap<String, Vec<f32>>,
}

impl Fixture {
    fn load(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let text = std::fs::read_to_string(folder.join(name)).expect("the index is committed");
        let index: Index = serde_json::from_str(&text).expect("the index is valid");
        let bytes = std::fs::read(folder.join(&index.tensors)).expect("the tensors are committed");
        let tensors = SafeTensors::deserialize(&bytes)
            .expect("the tensors are valid")
            .iter()
            .map(|(name, view)| {
                let values = view.data().as_chunks().0.iter().copied().map(f32::from_le_bytes).collect();
                (name.to_owned(), values)
            })
            .collect();
        Self { index, tensors }
    }

    fn tensor(&self, name: &str) -> &[f32] {
        &self.tensors[name]
    }
}

/// Weights of one type, with the settings their tolerance is stated for.
struct Setting {
    weights: &'static str,
    /// Largest relative error, |a - b| / |b| over the whole vector.
    tolerance: f64,
    flash_attention: FlashAttention,
    kv: &'static str,
}

/// Flash attention rounds keys and values to f16, so that the F32 run goes without it.
const SETTINGS: [Setting; 2] = [
    Setting { weights: "f32", tolerance: 1e-4, flash_attention: FlashAttention::Off, kv: "f32" },
    Setting { weights: "f16", tolerance: 5e-3, flash_attention: FlashAttention::On, kv: "f16" },
];

struct Pair {
    text: TextModel,
    vision: Vision,
}

impl Pair {
    fn load(name: &str, setting: &Setting) -> Self {
        let models = std::env::var_os("ILLAVA_TEST_MODELS")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-models"), PathBuf::from);
        let folder = models.join(format!("{name}-{}", setting.weights));
        assert!(
            folder.join("text.gguf").exists(),
            "{} is missing: run tools/test-models.sh",
            folder.display()
        );
        let options = VisionOptions {
            use_gpu: false,
            flash_attention: setting.flash_attention,
            threads: 1,
            min_tokens: None,
            max_tokens: None,
            repack: false,
        };
        Self {
            text: TextModel::load(
                &folder.join("text.gguf"),
                &LoadOptions { gpu_layers: Some(0), ..LoadOptions::default() },
                |_| true,
            )
            .expect("the text model loads"),
            vision: Vision::load(&folder.join("mmproj.gguf"), &options).expect("the projector loads"),
        }
    }

    fn picture(&mut self, fixture: &Fixture, case: &Case) -> PreprocessedImage {
        self.vision
            .picture_from_pixels(fixture.tensor(&case.pixels), case.nx, case.ny)
            .expect("the pixels fit")
    }

    fn context(&self, case: &Case, setting: &Setting, ubatch: u32) -> Context {
        let layers = case.decoder.iter().map(|merge| merge.layer).collect();
        let options = options(layers, ubatch, setting.flash_attention, setting.kv);
        Context::new(&self.text, &options, 1).expect("the context is made")
    }
}

fn assert_close(actual: &[f32], expected: &[f32], tolerance: f64, what: &str) {
    let distance = distance(actual, expected);
    assert!(distance <= tolerance, "{what}: relative error {distance:.1e}, allowed {tolerance:.0e}");
}

/// The same tokens stay in every type. The order in which the others merge is held in F32 only: in F16 neighbours
/// whose scores differ by less than its rounding may change places, which moves the merged vector within the tolerance.
fn assert_step(actual: &MergeStep, expected: &Step, fixture: &Fixture, setting: &Setting, what: &str) {
    let what = format!("{what}, {} layer {}", expected.half, expected.layer);
    assert_eq!(actual.layer, expected.layer, "{what}");
    if let Some(scores) = &expected.scores {
        assert_close(&actual.scores, fixture.tensor(scores), setting.tolerance, &format!("{what}: scores"));
    }
    assert_eq!(actual.kept, expected.kept, "{what}: kept");
    let (mut actual_merged, mut expected_merged) = (actual.merged.clone(), expected.merged.clone());
    if setting.weights == "f16" {
        actual_merged.sort_unstable();
        expected_merged.sort_unstable();
    }
    assert_eq!(actual_merged, expected_merged, "{what}: merged");
    assert_eq!(actual.into, expected.into, "{what}: into");
    assert_eq!(actual.groups, expected.groups, "{what}: groups");
}

/// Positions as llama.cpp lays them out, [n_pos, rows]: those the case names; else a line, or for M-RoPE the full
/// grid of `cells` (across, down) after the text before it.
fn positions(case: &Case, n_pos: usize, cells: (u32, u32), rows: usize) -> Vec<i32> {
    let int = |n: usize| i32::try_from(n).expect("a small number");
    if let Some(axes) = &case.positions {
        return axes.iter().flatten().copied().chain(std::iter::repeat_n(0, rows)).collect();
    }
    if n_pos == 1 {
        return (0..int(rows)).collect();
    }
    let (across, down) = (cells.0 as usize, cells.1 as usize);
    let first = case.before.len();
    let mut axes = vec![Vec::new(); 3];
    let mut push =
        |t: usize, y: usize, x: usize| axes.iter_mut().zip([t, y, x]).for_each(|(axis, p)| axis.push(int(p)));
    (0..first).for_each(|i| push(i, i, i));
    (0..across * down).for_each(|i| push(first, first + i / across, first + i % across));
    (0..case.after.len()).map(|i| first + across.max(down) + i).for_each(|i| push(i, i, i));
    axes.concat().into_iter().chain(std::iter::repeat_n(0, rows)).collect()
}

/// Encodes and prefills one case; every step, embedding and logit is compared on the way.
fn run(pair: &mut Pair, fixture: &Fixture, case: &Case, setting: &Setting, ubatch: u32, what: &str) {
    let (encoder, decoder): (Vec<&Step>, Vec<&Step>) =
        case.steps.iter().partition(|step| step.half == "encoder");

    let picture = pair.picture(fixture, case);
    let steps: Vec<(u32, u32)> = case.encoder.iter().map(|merge| (merge.layer, merge.r)).collect();
    let strategy = strategy(case);
    let options = EncodeOptions {
        steps: &steps,
        strategy,
        reference_grid: case.grid == "reference",
        threads: 1,
        stop: &[],
        class_scores: case.tower_score == "class",
        count_sizes: case.count_sizes,
        held: &[],
    };
    let encoded = pair.vision.encode(&picture, 0, &options).expect("the picture is encoded");
    assert_eq!(encoded.steps.len(), encoder.len(), "{what}: encoder steps");
    for (actual, expected) in encoded.steps.iter().zip(encoder) {
        assert_step(actual, expected, fixture, setting, what);
    }
    if !case.cells.is_empty() {
        assert_eq!(encoded.kept, case.cells, "{what}: cells");
    }
    assert_eq!(encoded.sizes, case.sizes, "{what}: sizes");
    // The CPU evaluates GELU through an f16 table; the F32 expectation knows it.
    let embeddings = if setting.weights == "f32" { &case.embeddings_table } else { &case.embeddings };
    if let Some(name) = embeddings {
        assert_close(
            &encoded.embeddings,
            fixture.tensor(name),
            setting.tolerance,
            &format!("{what}: embeddings"),
        );
    }

    let n_embd = pair.text.n_embd() as usize;
    let n_visual = encoded.n_tokens as usize;
    let mut tokens = case.before.clone();
    tokens.resize(tokens.len() + n_visual, -1);
    tokens.extend(&case.after);
    let mut embeddings = vec![0.0; case.before.len() * n_embd];
    embeddings.extend(&encoded.embeddings);
    embeddings.resize(tokens.len() * n_embd, 0.0);
    let amounts = case.decoder.iter().map(|merge| merge.r).collect();
    let mut sizes = Vec::new();
    if !encoded.sizes.is_empty() {
        sizes.resize(case.before.len(), 1.0);
        sizes.extend(&encoded.sizes);
        sizes.resize(tokens.len(), 1.0);
    }
    let rows = Prefill {
        tokens: &tokens,
        embeddings: &embeddings,
        positions: &positions(case, pair.text.n_pos(), encoded.cells, tokens.len()),
        spans: &[(case.before.len(), n_visual, amounts)],
        two_ways: &[],
        score: match case.score.as_str() {
            "last-token" => Score::LastToken,
            "question" => Score::Question,
            "raters" => Score::Raters,
            "prompt" => Score::Prompt,
            _ => Score::Image,
        },
        // Those that act before the decoder only have nothing to do there.
        strategy: match strategy {
            Strategy::Prumerge | Strategy::VisionZip => Strategy::Merge,
            strategy => strategy,
        },
        sizes: &sizes,
        counts_sizes: false,
        held: &[],
        masses: &vec![case.mass; case.decoder.len()],
        thinning: match case.strategy.as_str() {
            "look-m" => Some(Thinning::Pivotal),
            "look-m-averaged" => Some(Thinning::Averaged),
            "look-m-weighted" => Some(Thinning::Weighted),
            _ => None,
        },
        thinned: std::slice::from_ref(&case.thinned),
    };

    let mut context = pair.context(case, setting, ubatch);
    let steps = context.prefill_with_residuals(0, &rows).expect("the prompt is prefilled");
    assert_eq!(steps.len(), decoder.len(), "{what}: decoder steps");
    for ((actual, residual), expected) in steps.iter().zip(decoder) {
        assert_step(actual, expected, fixture, setting, what);
        if let Some(name) = &expected.residual {
            assert_close(
                residual,
                fixture.tensor(name),
                setting.tolerance,
                &format!("{what}: residual at layer {}", expected.layer),
            );
        }
    }

    let logits = if setting.weights == "f32" { &case.logits_table } else { &case.logits_f16 };
    let expected = fixture.tensor(logits.as_ref().unwrap_or(&case.logits));
    let mut actual = context.last_logits().expect("logits").to_vec();
    assert_close(&actual, expected, setting.tolerance, &format!("{what}: logits"));

    let last = rows.positions[tokens.len() - 1];
    for (position, (i, &expected)) in (last + 1..).zip(case.greedy.iter().enumerate()) {
        let best = (0..actual.len()).max_by(|&a, &b| actual[a].total_cmp(&actual[b])).expect("a vocabulary");
        assert_eq!(best, expected, "{what}: greedy token {i}");
        context
            .decode(&[Next { sequence: 0, token: i32::try_from(best).expect("a token"), position }])
            .expect("one more token");
        actual = context.last_logits().expect("logits").to_vec();
    }
    if let Some(name) = &case.logits_following {
        let next = Next { sequence: 0, token: case.following, position: last + 1 };
        context.decode(&[next]).expect("the token behind the prompt");
        let actual = context.last_logits().expect("logits");
        assert_close(actual, fixture.tensor(name), setting.tolerance, &format!("{what}: behind the prompt"));
    }
}

fn strategy(case: &Case) -> Strategy {
    match case.strategy.as_str() {
        // A picture that is shown smaller loses nothing after that.
        // Nor one whose cells go after the prompt.
        "" | "merge" | "downsample" | "look-m" | "look-m-averaged" | "look-m-weighted" => Strategy::Merge,
        "prune" => Strategy::Prune,
        "random" => Strategy::Random(case.seed),
        "bipartite" => Strategy::Bipartite,
        "kmeans" => Strategy::Kmeans,
        "greedy" => Strategy::Greedy,
        "assign" => Strategy::Assign,
        "prumerge" => Strategy::Prumerge,
        "visionzip" => Strategy::VisionZip,
        // In the encoder it has no steps.
        "sparsevlm" => Strategy::SparseVlm,
        other => panic!("no strategy called {other}"),
    }
}

fn against_reference(name: &str) {
    let fixture = Fixture::load(&format!("{name}.json"));
    for setting in &SETTINGS {
        let mut pair = Pair::load(name, setting);
        let mut ran = 0;
        // llama.cpp puts the class token after the patches; the other order is kept for comparison.
        for case in fixture.index.cases.iter().filter(|case| case.class_token == "last") {
            for ubatch in [256, 32] {
                let what = format!("{name} {} {} ubatch {ubatch}", setting.weights, case.name);
                run(&mut pair, &fixture, case, setting, ubatch, &what);
                ran += 1;
            }
        }
        assert!(ran >= 16, "{name}: only {ran} cases");
    }
}

#[test]
fn siglip_qwen2_merges_as_the_reference_does() {
    against_reference("siglip-qwen2");
}

#[test]
fn clip_llama_merges_as_the_reference_does() {
    against_reference("clip-llama");
}

#[test]
fn qwen2vl_merges_as_the_reference_does() {
    against_reference("qwen2vl");
}

/// Runs the cases of every pair; pair and strategy of each.
fn run_all(fixture: &Fixture) -> Vec<(&'static str, &str)> {
    let mut ran = Vec::new();
    for name in ["siglip-qwen2", "clip-llama", "qwen2vl"] {
        for setting in &SETTINGS {
            let of_pair = |case: &&Case| {
                case.pair.as_deref() == Some(name)
                    && case.weights.as_deref().is_none_or(|w| w == setting.weights)
            };
            let mut cases = fixture.index.cases.iter().filter(of_pair).peekable();
            if cases.peek().is_none() {
                continue;
            }
            let mut pair = Pair::load(name, setting);
            for case in cases {
                for ubatch in [256, 32] {
                    let what = format!("{} {} ubatch {ubatch}", setting.weights, case.name);
                    run(&mut pair, fixture, case, setting, ubatch, &what);
                }
                ran.push((name, case.strategy.as_str()));
            }
        }
    }
    ran
}

#[test]
fn a_cache_is_thinned_as_the_reference_does() {
    let fixture = Fixture::load("thinning.json");
    let ran = run_all(&fixture).len();
    assert_eq!(ran, 9, "three ways, three pairs");
}

#[test]
fn strategies_decide_as_the_reference_does() {
    let fixture = Fixture::load("strategies.json");
    let ran = run_all(&fixture);
    let in_both =
        ["prune", "random", "bipartite", "kmeans", "greedy", "assign", "prumerge", "visionzip", "sparsevlm"];
    for pair in ["siglip-qwen2", "qwen2vl"] {
        assert!(in_both.iter().all(|strategy| ran.contains(&(pair, strategy))), "{pair}: {ran:?}");
    }
    let cases = || fixture.index.cases.iter();
    assert!(cases().filter(|case| case.count_sizes).count() >= 6, "sizes count in attention");
    assert!(cases().any(|case| case.tower_score == "class"), "the class token ranks");
    assert!(cases().any(|case| case.mass > 0.0 && case.score == "question"), "the scores say how many stay");
    assert!(cases().any(|case| case.strategy == "prune" && case.score == "last-token"), "FastV");
    assert!(ran.contains(&("siglip-qwen2", "downsample")) && ran.contains(&("clip-llama", "downsample")));
}

#[test]
fn off_is_what_transformers_computes() {
    let fixture = Fixture::load("hf.json");
    let mut ran = 0;
    for case in fixture.index.cases.iter().filter(|case| case.class_token == "last") {
        let (name, weights) =
            (case.pair.as_deref().expect("a pair"), case.weights.as_deref().expect("a type"));
        let setting = SETTINGS.iter().find(|setting| setting.weights == weights).expect("a known type");
        run(&mut Pair::load(name, setting), &fixture, case, setting, 256, &case.name);
        ran += 1;
    }
    assert_eq!(ran, 6, "three pairs of two types");
}

/// The tanh approximation, which llama.cpp takes for every file, would be off ten times as far; it is looked up in a
/// table of f16 besides.
#[test]
fn a_file_with_the_exact_gelu_gets_it() {
    let fixture = Fixture::load("hf.json");
    let case = fixture.index.cases.iter().find(|case| case.name == "siglip-gelu").expect("the case");
    let setting = Setting { tolerance: 5e-6, ..SETTINGS[0] };
    run(&mut Pair::load("siglip-gelu", &setting), &fixture, case, &setting, 256, &case.name);
}
