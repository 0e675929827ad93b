//! Trace: the rows that the decoder got and the effect of every merge step.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Trace {
    /// Strategy for the tokens that went; `off` without any.
    #[serde(default)]
    pub strategy: String,
    /// Parts of the prompt, in order.
    pub prompt: Vec<PromptPart>,
    pub images: Vec<ImageTile>,
    pub steps: Vec<Step>,
    /// Names that a person gave to the pictures, in the order of `images`' numbers; empty if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
}

/// Token ids, or a visual span with the number of tokens it brings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PromptPart {
    Tokens {
        tokens: Vec<i32>,
    },
    Span {
        span: usize,
        n: u32,
        /// \[n\] tile and cell of the output grid that each row shows, `null` for a row that shows none (a
        /// newline). It is left out if the rows are one tile's survivors in order.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cells: Option<Vec<Option<(usize, usize)>>>,
        /// \[n\] position of each row in the decoder, from the span's first position on. It is left out if
        /// the rows stand one after another, and for (t, h, w) positions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        positions: Option<Vec<i32>>,
        /// \[n\] weight of each row in the decoder's attention: it counts that often. It is left out if each
        /// counts once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sizes: Option<Vec<f32>>,
    },
}

/// One tile of a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageTile {
    /// Number of the picture in the request.
    pub index: usize,
    /// Pixels of the picture as it was given, upright.
    pub width: u32,
    pub height: u32,
    pub tile: usize,
    /// Patches, across and down.
    pub grid: [u32; 2],
    /// Part of the picture that the tile shows: left, top, right, bottom. It reaches beyond the picture if
    /// the tile is padded. It is absent if the tiling does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixels: Option<[f64; 4]>,
    /// Frame of a video that the tile shows, the first of them if it takes several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<usize>,
    /// Tokens that the tile keeps under `auto`, and the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<super::Budget>,
    /// Region shown in the picture's place, or in detail beside it: left, top, right, bottom in its pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<[u32; 4]>,
    /// Cosine of the frame and the question, by a strategy that chooses frames: one without a region is in outline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Half {
    Encoder,
    Decoder,
}

/// One step. Indices name original tokens: of the tile's grid in the encoder, of the span's encoder
/// output in the decoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub half: Half,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tile: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<usize>,
    pub layer: u32,
    pub n_in: u32,
    pub n_out: u32,
    /// \[n_in\] attention received; empty if the strategy uses none.
    pub scores: Vec<f32>,
    /// \[n_out\], ascending.
    pub kept: Vec<i32>,
    /// By `merge`: [r + 1], least attended first, the last of which stays. By others: \[r\], those that went.
    pub merged: Vec<i32>,
    /// By `merge`, the token that took up the others; `null` by others.
    pub into: Option<i32>,
    /// By strategies that merge by groups: those of two tokens and more, each with the survivor last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<Vec<i32>>>,
    /// \[n_out\] original tokens that each survivor stands for, if the strategy counts them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sizes: Vec<f32>,
}

impl Step {
    /// Returns the tokens that went.
    pub fn gone(&self) -> impl Iterator<Item = i32> + '_ {
        self.merged.iter().copied().filter(|&token| Some(token) != self.into)
    }

    /// Returns the survivor that took up a token that went; none if it was dropped.
    #[must_use]
    pub fn taken_up_by(&self, gone: i32) -> Option<i32> {
        let groups = self.groups.as_deref().unwrap_or_default();
        let group = groups.iter().find(|group| group.contains(&gone));
        self.into.or_else(|| group.and_then(|group| group.last().copied()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape() {
        let step = Step {
            half: Half::Decoder,
            image: None,
            tile: None,
            span: Some(0),
            layer: 8,
            n_in: 3,
            n_out: 2,
            scores: vec![0.5, 0.25, 0.25],
            kept: vec![0, 2],
            merged: vec![1, 2],
            into: Some(2),
            groups: None,
            sizes: Vec::new(),
        };
        let trace = Trace {
            strategy: "merge".into(),
            prompt: vec![
                PromptPart::Tokens { tokens: vec![1, 2] },
                PromptPart::Span { span: 0, n: 361, cells: None, positions: None, sizes: None },
            ],
            images: vec![ImageTile {
                index: 0,
                width: 640,
                height: 480,
                tile: 0,
                grid: [27, 27],
                pixels: Some([0.0, -80.0, 640.0, 560.0]),
                frame: None,
                budget: None,
                region: None,
                score: None,
            }],
            steps: vec![step],
            files: Vec::new(),
        };
        let value = serde_json::to_value(&trace).unwrap();
        assert_eq!(value["prompt"], serde_json::json!([{"tokens": [1, 2]}, {"span": 0, "n": 361}]));
        assert_eq!(value["steps"][0]["half"], "decoder");
        assert_eq!(value["steps"][0].get("image"), None);
        assert_eq!(value["steps"][0]["into"], 2);
        assert_eq!(value["steps"][0].get("groups"), None);
        assert_eq!(value["images"][0]["grid"], serde_json::json!([27, 27]));
    }

    #[test]
    fn who_took_up_whom() {
        let step = |into: Option<i32>, merged: &[i32], groups: Option<Vec<Vec<i32>>>| Step {
            half: Half::Encoder,
            image: Some(0),
            tile: Some(0),
            span: None,
            layer: 1,
            n_in: 9,
            n_out: 6,
            scores: Vec::new(),
            kept: Vec::new(),
            merged: merged.to_vec(),
            into,
            groups,
            sizes: Vec::new(),
        };
        let taken = |step: &Step| -> Vec<(i32, Option<i32>)> {
            step.gone().map(|gone| (gone, step.taken_up_by(gone))).collect()
        };
        let merge = step(Some(4), &[7, 2, 4], None);
        assert_eq!(taken(&merge), [(7, Some(4)), (2, Some(4))]);
        let pruned = step(None, &[7, 2], None);
        assert_eq!(taken(&pruned), [(7, None), (2, None)]);
        let grouped = step(None, &[0, 2, 7], Some(vec![vec![2, 1], vec![0, 7, 8]]));
        assert_eq!(taken(&grouped), [(0, Some(8)), (2, Some(1)), (7, Some(8))]);
    }
}
