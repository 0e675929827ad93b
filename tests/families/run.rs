//! A converted pair, and its greedy answer with the logits of every step.

use std::path::{Path, PathBuf};

use illava::answer::{Engine, Entry, LlamaEngine, MergeStep, Rows};
use illava::native::{self, Context, ContextOptions, Gguf, LoadOptions, Next, Prefill, TextModel};
use illava::pair::{FlashAttention, KvType, LoadSettings, Weights};
use illava::schedule::Strategy;
use illava::see::EncodedImage;
use illava::stop::Stop;

use super::fixture::Case;

/// Weights of one type, with the settings their tolerance is stated for.
pub struct Setting {
    pub weights: &'static str,
    /// Largest relative error, |a - b| / |b| over the whole vector.
    pub tolerance: f64,
    pub flash_attention: FlashAttention,
    pub kv: &'static str,
}

/// Tolerances. The error of F16 files has their own rounding in it, since transformers runs the weights as
/// they are: 1.4e-3 at the most with this library's kernels. Without them the last setting makes up to 6e-3,
/// since ggml sums the values of few queries in f16 there.
pub const SETTINGS: [Setting; 3] = [
    Setting { weights: "f32", tolerance: 1e-4, flash_attention: FlashAttention::Off, kv: "f32" },
    Setting { weights: "f16", tolerance: 5e-3, flash_attention: FlashAttention::Off, kv: "f32" },
    Setting { weights: "f16", tolerance: 6e-3, flash_attention: FlashAttention::On, kv: "f16" },
];

pub struct Pair {
    pub engine: LlamaEngine,
    text: TextModel,
    remarks: Vec<String>,
    /// Mean and standard deviation of the file.
    pub normalisation: ([f32; 3], [f32; 3]),
}

impl Pair {
    pub fn settings(family: &str, setting: &Setting) -> LoadSettings {
        let models = std::env::var_os("ILLAVA_TEST_MODELS")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-models"), PathBuf::from);
        let folder = models.join(format!("hf-{family}-{}", setting.weights));
        let (text, projector) = (folder.join("text.gguf"), folder.join("mmproj.gguf"));
        assert!(text.exists(), "{} is missing: run tools/test-models.sh", text.display());
        Self::settings_of(text, projector, setting)
    }

    fn settings_of(text: PathBuf, projector: PathBuf, setting: &Setting) -> LoadSettings {
        let kv = KvType::named(setting.kv).expect("a cache type");
        LoadSettings {
            text,
            projector: Some(projector),
            threads: 1,
            threads_batch: 1,
            batch: 512,
            ubatch: 512,
            gpu_layers: Some(0),
            placement: illava::pair::Placement::default(),
            projector_offload: false,
            projector_repack: false,
            weights: Weights::default(),
            flash_attention: setting.flash_attention,
            type_k: kv,
            type_v: kv,
            image_min_tokens: None,
            image_max_tokens: None,
            crop_model: None,
            chat_template: None,
            stop: Stop::new(),
        }
    }

    pub fn load(family: &str, setting: &Setting) -> Self {
        let pair = Self::with(&Self::settings(family, setting));
        assert!(pair.remarks.is_empty(), "nothing is missing in converted files: {:?}", pair.remarks);
        pair
    }

    /// The pair of two files.
    #[allow(dead_code)] // Not every test that has this module reads files of its own.
    pub fn open(text: PathBuf, projector: PathBuf, setting: &Setting) -> Self {
        Self::with(&Self::settings_of(text, projector, setting))
    }

    fn with(settings: &LoadSettings) -> Self {
        let (text, projector) = (settings.text.clone(), settings.projector.clone().expect("a projector"));
        let (engine, remarks) = LlamaEngine::load(settings, |_| ()).expect("the pair loads");
        let file = Gguf::open(&projector).expect("the header is read");
        let three = |key: &str| {
            let values = file.floats(key).expect("three numbers");
            [values[0] as f32, values[1] as f32, values[2] as f32]
        };
        Self {
            engine,
            text: TextModel::load(
                &text,
                &LoadOptions { gpu_layers: Some(0), ..LoadOptions::default() },
                |_| true,
            )
            .expect("the text model loads"),
            remarks,
            normalisation: (three("clip.vision.image_mean"), three("clip.vision.image_std")),
        }
    }

    /// Logits before each of the case's greedy tokens; a step that was merged is compared by `merging`.
    pub fn greedy(
        &mut self,
        case: &Case,
        images: &[EncodedImage],
        merge_layers: &[u32],
        setting: &Setting,
    ) -> Vec<Vec<f32>> {
        self.greedy_with_steps(case, images, merge_layers, setting).0
    }

    pub fn greedy_with_steps(
        &mut self,
        case: &Case,
        images: &[EncodedImage],
        merge_layers: &[u32],
        setting: &Setting,
    ) -> (Vec<Vec<f32>>, Vec<MergeStep>) {
        let mut entries = Vec::new();
        let mut spans = 0..;
        for part in &case.parts {
            match part {
                Some(tokens) => entries.extend(tokens.iter().copied().map(Entry::Token)),
                None => entries.push(Entry::Image(spans.next().expect("endless"))),
            }
        }
        let facts = self.engine.facts();
        let rows = Rows::new(&entries, images, 0, facts.n_embd_in as usize, facts.n_pos);
        let cells = u32::try_from(rows.tokens.len()).expect("a short prompt") + 64;
        let kv = KvType::named(setting.kv).expect("a cache type");
        let options = ContextOptions {
            cells,
            deep_cells: vec![cells; merge_layers.len()],
            merge_layers: merge_layers.to_vec(),
            batch: 512,
            ubatch: 512,
            threads: 1,
            threads_batch: 1,
            flash_attention: setting.flash_attention,
            type_k: kv,
            type_v: kv,
            offload: false,
            stop: None,
        };
        let mut context = Context::new(&self.text, &options, 1).expect("the context is made");
        let call = Prefill {
            tokens: &rows.tokens,
            embeddings: &rows.embeddings,
            positions: &rows.positions,
            spans: &rows.spans,
            strategy: match rows.strategy {
                Strategy::Bipartite => native::Strategy::Bipartite,
                _ => native::Strategy::Merge,
            },
            sizes: &rows.sizes,
            counts_sizes: rows.counts_sizes,
            two_ways: &rows.two_ways,
            ..Prefill::default()
        };
        let steps = context.prefill(0, &call).expect("the prompt is prefilled");
        let last = rows.positions[rows.tokens.len() - 1];
        let mut logits = vec![context.last_logits().expect("logits").to_vec()];
        for (position, &token) in (last + 1..).zip(&case.greedy[..case.greedy.len() - 1]) {
            context.decode(&[Next { sequence: 0, token, position }]).expect("one more token");
            logits.push(context.last_logits().expect("logits").to_vec());
        }
        (logits, steps)
    }
}

/// Compares the logits of every step, `expected` [steps, vocabulary], and the token each would choose.
pub fn assert_steps(actual: &[Vec<f32>], expected: &[f32], greedy: &[i32], setting: &Setting, name: &str) {
    let vocabulary = expected.len() / greedy.len();
    assert_eq!(actual.len(), greedy.len(), "{name}: steps");
    for (i, (actual, expected)) in actual.iter().zip(expected.chunks(vocabulary)).enumerate() {
        let actual = &actual[..vocabulary];
        let square = |x: f64| x * x;
        let error: f64 =
            actual.iter().zip(expected).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
        let norm: f64 = expected.iter().map(|&b| square(f64::from(b))).sum();
        let distance = (error / norm).sqrt();
        let limit = setting.tolerance;
        let what = format!("{name} {} kv {} step {i}", setting.weights, setting.kv);
        assert!(distance <= limit, "{what}: relative error {distance:.1e}, allowed {limit:.0e}");
        let best = (0..vocabulary).max_by(|&a, &b| actual[a].total_cmp(&actual[b])).expect("a vocabulary");
        assert_eq!(i32::try_from(best).expect("a token"), greedy[i], "{what}: the token chosen");
    }
}
