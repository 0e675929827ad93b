//! The presets, as published: layers and amounts for the models they were tuned on.

use serde::{Deserialize, Serialize};

use super::Amount;

/// A named schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Preset {
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
    /// Layers of the model that `layers` are counted on.
    pub depth: u32,
    /// What every step removes.
    pub amount: Amount,
}

impl Preset {
    pub const ALL: [Preset; 4] = [Preset::Paper, Preset::Image, Preset::Video, Preset::Qwen2Vl];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Preset::Paper => "paper",
            Preset::Image => "image",
            Preset::Video => "video",
            Preset::Qwen2Vl => "qwen2vl",
        }
    }

    pub(super) fn encoder(self) -> PresetHalf {
        let of_729 = Amount::Scaled { r: 92, of: 729 };
        match self {
            Preset::Paper | Preset::Video => PresetHalf { layers: &[3, 4, 5, 6], depth: 27, amount: of_729 },
            Preset::Image => PresetHalf { layers: &[5, 6, 7, 8], depth: 27, amount: of_729 },
            Preset::Qwen2Vl => {
                PresetHalf { layers: &[12, 13, 14, 15], depth: 32, amount: Amount::Share(0.16) }
            }
        }
    }

    pub(super) fn decoder(self) -> PresetHalf {
        match self {
            Preset::Paper => {
                PresetHalf { layers: &[2], depth: 28, amount: Amount::Scaled { r: 108, of: 361 } }
            }
            Preset::Image => PresetHalf { layers: &[8], depth: 28, amount: Amount::Keep(0.70) },
            Preset::Video => PresetHalf { layers: &[2], depth: 28, amount: Amount::Keep(0.70) },
            Preset::Qwen2Vl => PresetHalf { layers: &[6, 7, 8], depth: 28, amount: Amount::Keep(0.90) },
        }
    }
}
