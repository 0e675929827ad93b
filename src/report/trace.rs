//! The trace: what the decoder was given and what every merge step did.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Trace {
    /// In order.
    pub prompt: Vec<PromptPart>,
    pub images: Vec<ImageTile>,
    pub steps: Vec<Step>,
    /// What was shown, in the order of `images`' numbers, as a person named it; empty where nobody did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
}

/// Token ids, or a visual span with the number of tokens it brings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PromptPart {
    Tokens {
        tokens: Vec<i32>,
    },
    Span {
        span: usize,
        n: u32,
        /// [n] the tile and the cell of its output grid that each row shows, `null` for a row that
        /// shows none (a newline); left out where the rows are one tile's survivors in order.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cells: Option<Vec<Option<(usize, usize)>>>,
    },
}

/// One tile of a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageTile {
    /// The picture's number in the request.
    pub index: usize,
    /// Pixels of the picture as it was given, upright.
    pub width: u32,
    pub height: u32,
    pub tile: usize,
    /// Patches, across and down.
    pub grid: [u32; 2],
    /// The part of the picture that the tile shows: left, top, right, bottom. It reaches beyond
    /// the picture where the tile is padded; absent where the tiling does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pixels: Option<[f64; 4]>,
    /// Of a video: the frame it shows, the first of them where it takes several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Half {
    Encoder,
    Decoder,
}

/// One merge step. Indices name original tokens: of the tile's grid in the encoder, of the
/// span's encoder output in the decoder.
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
    /// [n_in]
    pub scores: Vec<f32>,
    /// [n_out], ascending.
    pub kept: Vec<i32>,
    /// [r + 1], least attended first.
    pub merged: Vec<i32>,
    pub into: i32,
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
            into: 2,
        };
        let trace = Trace {
            prompt: vec![
                PromptPart::Tokens { tokens: vec![1, 2] },
                PromptPart::Span { span: 0, n: 361, cells: None },
            ],
            images: vec![ImageTile {
                index: 0,
                width: 640,
                height: 480,
                tile: 0,
                grid: [27, 27],
                pixels: Some([0.0, -80.0, 640.0, 560.0]),
                frame: None,
            }],
            steps: vec![step],
            files: Vec::new(),
        };
        let value = serde_json::to_value(&trace).unwrap();
        assert_eq!(value["prompt"], serde_json::json!([{"tokens": [1, 2]}, {"span": 0, "n": 361}]));
        assert_eq!(value["steps"][0]["half"], "decoder");
        assert_eq!(value["steps"][0].get("image"), None);
        assert_eq!(value["steps"][0]["into"], 2);
        assert_eq!(value["images"][0]["grid"], serde_json::json!([27, 27]));
    }
}
