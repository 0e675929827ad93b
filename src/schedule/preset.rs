//! Presets: layers and amounts for the models they were tuned on.

use serde::{Deserialize, Serialize};

use super::{Amount, Shape, Strategy};

/// Schedule with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Preset {
    /// The most alike merge, and sizes count. It is the nearest to the unmerged run on every pair of the
    /// measurements.
    Balanced,
    /// The paper's section 4.1: 729 -> 361 -> 253.
    Paper,
    /// The authors' README for image benchmarks.
    Image,
    /// The authors' README for video benchmarks.
    Video,
    /// The authors' VLMEvalKit configuration for Qwen2-VL.
    Qwen2Vl,
}

/// One half of a preset on its reference model.
pub(super) struct PresetHalf {
    pub layers: &'static [u32],
    /// Depth of the model whose layers `layers` names.
    pub depth: u32,
    /// Amount of every step.
    pub amount: Amount,
}

impl Preset {
    pub const ALL: [Preset; 5] =
        [Preset::Balanced, Preset::Paper, Preset::Image, Preset::Video, Preset::Qwen2Vl];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Preset::Balanced => "balanced",
            Preset::Paper => "paper",
            Preset::Image => "image",
            Preset::Video => "video",
            Preset::Qwen2Vl => "qwen2vl",
        }
    }

    /// Strategy of the preset, if no other one is asked for.
    #[must_use]
    pub fn strategy(self) -> Strategy {
        match self {
            Preset::Balanced => Strategy::Bipartite,
            _ => Strategy::Merge,
        }
    }

    pub(super) fn encoder(self, shape: &Shape) -> PresetHalf {
        let of_729 = |r| Amount::Scaled { r, of: 729 };
        match self {
            // Measured on a tower of 12 blocks. A token taken in the decoder costs less of the answer than
            // one taken in the encoder. The encoder gives half as much if it takes little of the time.
            Preset::Balanced => PresetHalf {
                layers: &[5, 6, 7, 8],
                depth: 12,
                amount: of_729(if shape.text_dominates() { 46 } else { 92 }),
            },
            Preset::Paper | Preset::Video => {
                PresetHalf { layers: &[3, 4, 5, 6], depth: 27, amount: of_729(92) }
            }
            Preset::Image => PresetHalf { layers: &[5, 6, 7, 8], depth: 27, amount: of_729(92) },
            Preset::Qwen2Vl => {
                PresetHalf { layers: &[12, 13, 14, 15], depth: 32, amount: Amount::Share(0.16) }
            }
        }
    }

    pub(super) fn decoder(self) -> PresetHalf {
        match self {
            Preset::Balanced => PresetHalf { layers: &[2], depth: 28, amount: Amount::Keep(0.50) },
            Preset::Paper => {
                PresetHalf { layers: &[2], depth: 28, amount: Amount::Scaled { r: 108, of: 361 } }
            }
            Preset::Image => PresetHalf { layers: &[8], depth: 28, amount: Amount::Keep(0.70) },
            Preset::Video => PresetHalf { layers: &[2], depth: 28, amount: Amount::Keep(0.70) },
            Preset::Qwen2Vl => PresetHalf { layers: &[6, 7, 8], depth: 28, amount: Amount::Keep(0.90) },
        }
    }

    /// Whether the preset was evaluated on image encoders of this shape.
    pub(super) fn tried_on(self, shape: &Shape) -> bool {
        let is = |layers: std::ops::RangeInclusive<u32>| {
            layers.contains(&shape.vit_layers) && shape.vit_tokens == 729 && shape.group * shape.pooled == 1
        };
        match self {
            Preset::Balanced => is(12..=12),
            Preset::Qwen2Vl => shape.is_qwen2vl,
            _ => is(26..=27),
        }
    }
}
