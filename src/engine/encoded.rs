//! A picture after the encoder and the projector.

use serde::{Deserialize, Serialize};

use crate::native::{MergeStep, Tile};
use crate::schedule::Plan;

/// One picture's embeddings, all tiles in order, and how they came to be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EncodedImage {
    /// Pixels of the picture as it was given, upright.
    pub size: (u32, u32),
    /// The number of tokens follows the picture's size: a tile is the whole picture.
    pub dynamic_size: bool,
    pub tiles: Vec<Tile>,
    pub plan: Plan,
    /// [plan.tokens, n_embd].
    pub embeddings: Vec<f32>,
    /// [plan.tokens] (row, column) on the grid of output cells, for models with (t, h, w)
    /// positions; empty for the others.
    pub cells: Vec<(i32, i32)>,
    /// Positions the span takes up.
    pub extent: i32,
    /// Steps with their tile.
    pub steps: Vec<(usize, MergeStep)>,
    pub preprocess_ms: f64,
    pub encoder_ms: f64,
    pub projector_ms: f64,
}

impl EncodedImage {
    /// Tokens in each segment of the decoder.
    #[must_use]
    pub fn tokens_by_segment(&self) -> Vec<u32> {
        self.plan.segments.iter().map(|segment| segment.tokens).collect()
    }

    /// Bytes it takes in memory, near enough to bound a cache by.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let steps =
            self.steps.iter().map(|(_, step)| step.scores.len() + step.kept.len() + step.merged.len());
        let words = self.embeddings.len() + 2 * self.cells.len() + steps.sum::<usize>();
        4 * words as u64 + size_of::<Self>() as u64
    }

    /// The part of the picture that tile `i` shows, in pixels of the picture: left, top, right,
    /// bottom. A fixed-size tile is padded to its shape with the picture in the middle.
    #[must_use]
    pub fn tile_area(&self, i: usize) -> Option<[f64; 4]> {
        let (width, height) = (f64::from(self.size.0), f64::from(self.size.1));
        if self.tiles.len() != 1 || i != 0 {
            return None;
        }
        if self.dynamic_size {
            return Some([0.0, 0.0, width, height]);
        }
        let tile = self.tiles.first()?;
        let (across, down) = (f64::from(tile.size.0), f64::from(tile.size.1));
        let scale = (across / width).min(down / height);
        let (margin_x, margin_y) = ((across / scale - width) / 2.0, (down / scale - height) / 2.0);
        Some([-margin_x, -margin_y, width + margin_x, height + margin_y])
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::schedule::Segment;

    /// A picture of `tokens` tokens of which `deep` reach the deeper segment, 2 floats each.
    pub fn picture(tokens: u32, deep: u32) -> EncodedImage {
        EncodedImage {
            size: (640, 480),
            dynamic_size: false,
            tiles: vec![Tile { size: (384, 384), grid: (27, 27) }],
            plan: Plan {
                tiles: Vec::new(),
                tokens_unmerged: tokens * 2,
                tokens,
                decoder: vec![crate::schedule::Step {
                    layer: 2,
                    r: tokens - deep,
                    n_in: tokens,
                    n_out: deep,
                }],
                segments: vec![Segment { layers: (0, 2), tokens }, Segment { layers: (2, 4), tokens: deep }],
            },
            embeddings: (0..tokens * 2).map(|x| x as f32).collect(),
            cells: Vec::new(),
            extent: i32::try_from(tokens).unwrap(),
            steps: Vec::new(),
            preprocess_ms: 1.0,
            encoder_ms: 2.0,
            projector_ms: 3.0,
        }
    }

    #[test]
    fn areas() {
        let fixed = picture(4, 2);
        assert_eq!(fixed.tile_area(0), Some([0.0, -80.0, 640.0, 560.0]));
        assert_eq!(
            EncodedImage { dynamic_size: true, ..fixed.clone() }.tile_area(0),
            Some([0.0, 0.0, 640.0, 480.0])
        );
        assert_eq!(fixed.tile_area(1), None);
    }
}
