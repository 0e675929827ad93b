//! Report of a run: counts, timings, memory, and the trace of every merge step. It is pure data; the field
//! names are the interface.

mod budget;
mod compare;
pub(crate) mod digits;
mod fate;
mod fit;
mod memory;
mod spread;
mod summary;
mod trace;

pub use budget::Budget;
pub use compare::{compare, quantity};
pub use fate::{Cell, Fate, Stage, TileFate, fates};
pub use fit::{fitted, pasted};
pub use memory::{peak_rss, rss};
pub use spread::Spread;
pub use summary::summary;
pub use trace::{Half, ImageTile, PromptPart, Step, Trace};

use std::time::Instant;

use serde::{Deserialize, Serialize};

/// Report of one answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub model: Model,
    pub merge: Merge,
    pub tokens: Tokens,
    pub ms: Milliseconds,
    pub tokens_per_second: Rates,
    pub bytes: Bytes,
    pub threads: u32,
    pub backend: String,
    /// Instructions of the CPU's kernels for many rows; "stock" for llama.cpp's.
    #[serde(default)]
    pub kernels: String,
    pub seed: u32,
    /// Text of the answer.
    pub text: String,
    /// Deviations from the request or the file, one line each; left out without any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Model {
    /// Names of files without their folders.
    pub text: String,
    pub projector: String,
    pub arch: String,
    pub text_type: String,
    pub projector_type: String,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Merge {
    /// Strategy for the tokens that went; "off" if none did.
    pub strategy: String,
    /// Seed of the random strategy.
    #[serde(default)]
    pub strategy_seed: u32,
    /// Name of the preset, "custom" or "off".
    pub schedule: String,
    /// Attention that ranks in the encoder: "received" from all rows, or "class".
    #[serde(default)]
    pub vit_score: String,
    /// Whether a token that stands for several counts as often in the encoder's attention.
    #[serde(default)]
    pub vit_sizes: bool,
    pub vit_layers: Vec<u32>,
    /// Patches removed at each of these layers, for one tile of the first picture.
    pub vit_r: Vec<u32>,
    pub llm_layers: Vec<u32>,
    /// Tokens removed at each of these layers, for the first picture.
    pub llm_r: Vec<u32>,
    pub score: String,
    pub grid: String,
    /// Positions of a merged picture's rows in the decoder: `own` or `closed`.
    #[serde(default)]
    pub positions: String,
    /// Budgets of the schedule `auto`, of each picture with its tiles; left out by others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<Budget>,
    /// Regions shown in the place of pictures, by a strategy that crops; left out by others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regions: Vec<Region>,
    /// Frames and pictures of which a strategy chose some; left out by others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub frames: Vec<Frame>,
}

/// Region that a text-image model chose for the question.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Region {
    /// Number of the picture in the request.
    pub image: usize,
    /// Left, top, right and bottom in pixels of the picture.
    pub pixels: [u32; 4],
    /// `map` of CLIPSeg or `windows` of CLIP.
    pub rule: String,
    /// Largest share of the map, or cosine of the window and the question.
    pub score: f32,
}

/// Frame of a video, or picture of several, that a question chose or not.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Frame {
    /// Number of the picture or video in the request.
    pub image: usize,
    /// Number of the frame among those of the video that were taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<usize>,
    /// Cosine of the frame and the question.
    pub score: f32,
    /// Reasons why it is shown in detail: `question`, `even`; none for a frame in outline.
    pub chosen: Vec<String>,
    /// Pixels shown in detail: left, top, right, bottom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixels: Option<[u32; 4]>,
}

/// Tokens of one answer. Visual ones are counted over all its pictures.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tokens {
    pub text: u32,
    /// Visual tokens of the encoder without merging.
    pub visual: u32,
    pub visual_after_encoder: u32,
    pub visual_kv: Vec<VisualKv>,
    pub generated: u32,
}

/// Visual tokens in the KV cache of a half-open range of layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VisualKv {
    pub layers: [u32; 2],
    pub tokens: u32,
}

/// Returns the wall-clock milliseconds from `since` to now.
#[must_use]
pub fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

/// Wall-clock milliseconds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Milliseconds {
    /// Reading both files. A program that stays pays for it once.
    #[serde(serialize_with = "digits::thousandths")]
    pub load: f64,
    /// From the file to the pixels of the encoder's input.
    #[serde(serialize_with = "digits::thousandths")]
    pub decode_media: f64,
    /// The part of `decode_media` that a text-image model took to find regions and frames; left out without one.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "digits::maybe_thousandths")]
    pub crop_model: Option<f64>,
    #[serde(serialize_with = "digits::thousandths")]
    pub encoder: f64,
    #[serde(serialize_with = "digits::thousandths")]
    pub projector: f64,
    /// From the last embedding to the first logits.
    #[serde(serialize_with = "digits::thousandths")]
    pub prefill: f64,
    /// From the request to its first token, loading not included.
    #[serde(serialize_with = "digits::thousandths")]
    pub first_token: f64,
    /// From the first token to the last.
    #[serde(serialize_with = "digits::thousandths")]
    pub generate: f64,
    /// From the request to its last token, loading not included.
    #[serde(serialize_with = "digits::thousandths")]
    pub total: f64,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Rates {
    /// Rows a second that went through the first decoder layers.
    #[serde(serialize_with = "digits::thousandths")]
    pub prefill: f64,
    /// Tokens a second after the first.
    #[serde(serialize_with = "digits::thousandths")]
    pub generate: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bytes {
    /// Bytes of text model and projector.
    pub weights: u64,
    /// Bytes of the KV cache as allocated.
    pub kv: u64,
    /// Bytes of the KV cache that the same request would need with merging off, by the same sizing.
    pub kv_without_merge: u64,
    /// Bytes of the compute buffers of encoder and decoder, as many as stood at once.
    pub compute: u64,
    /// Bytes of the process's peak resident set; `null` if the system does not tell.
    pub peak_rss: Option<u64>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn example() -> Report {
        Report {
            model: Model {
                text: "t.gguf".into(),
                projector: "p.gguf".into(),
                arch: "qwen2".into(),
                text_type: "Q4_K_M".into(),
                projector_type: "F16".into(),
            },
            merge: Merge {
                strategy: "merge".into(),
                strategy_seed: 0,
                vit_score: "received".into(),
                vit_sizes: false,
                schedule: "paper".into(),
                vit_layers: vec![3],
                vit_r: vec![92],
                llm_layers: vec![2],
                llm_r: vec![108],
                score: "image".into(),
                grid: "faithful".into(),
                positions: "own".into(),
                budgets: vec![Budget { cells: 729, why: "a page".into(), ..Budget::default() }],
                regions: vec![Region { pixels: [0, 0, 320, 240], rule: "map".into(), ..Region::default() }],
                frames: vec![Frame { pixels: Some([0; 4]), frame: Some(0), ..Frame::default() }],
            },
            tokens: Tokens {
                text: 31,
                visual: 729,
                visual_after_encoder: 361,
                visual_kv: vec![
                    VisualKv { layers: [0, 2], tokens: 361 },
                    VisualKv { layers: [2, 28], tokens: 253 },
                ],
                generated: 64,
            },
            ms: Milliseconds { load: 1.0, encoder: 200.0, first_token: 500.0, ..Milliseconds::default() },
            tokens_per_second: Rates { prefill: 100.0, generate: 10.0 },
            bytes: Bytes {
                weights: 1 << 20,
                kv: 1000,
                kv_without_merge: 3000,
                compute: 1,
                peak_rss: Some(5),
            },
            threads: 2,
            backend: "CPU".into(),
            kernels: "stock".into(),
            seed: 42,
            text: "a cat".into(),
            remarks: Vec::new(),
        }
    }

    #[test]
    fn the_object_has_the_promised_fields() {
        let value = serde_json::to_value(example()).unwrap();
        for pointer in [
            "/model/text",
            "/model/projector",
            "/model/arch",
            "/model/text_type",
            "/model/projector_type",
            "/merge/strategy",
            "/merge/vit_layers",
            "/merge/vit_r",
            "/merge/llm_layers",
            "/merge/llm_r",
            "/merge/score",
            "/merge/grid",
            "/merge/positions",
            "/merge/budgets/0/cells",
            "/merge/budgets/0/why",
            "/merge/regions/0/pixels",
            "/merge/regions/0/rule",
            "/merge/frames/0/pixels",
            "/tokens/text",
            "/tokens/visual",
            "/tokens/visual_after_encoder",
            "/tokens/visual_kv/0/layers",
            "/tokens/visual_kv/1/tokens",
            "/tokens/generated",
            "/ms/load",
            "/ms/decode_media",
            "/ms/encoder",
            "/ms/projector",
            "/ms/prefill",
            "/ms/first_token",
            "/ms/generate",
            "/ms/total",
            "/tokens_per_second/prefill",
            "/tokens_per_second/generate",
            "/bytes/weights",
            "/bytes/kv",
            "/bytes/kv_without_merge",
            "/bytes/compute",
            "/bytes/peak_rss",
            "/threads",
            "/backend",
            "/kernels",
            "/seed",
            "/text",
        ] {
            assert!(value.pointer(pointer).is_some(), "{pointer}");
        }
        assert_eq!(value["tokens"]["visual_kv"][1]["layers"], serde_json::json!([2, 28]));
        assert_eq!(serde_json::from_value::<Report>(value).unwrap(), example());
    }
}
