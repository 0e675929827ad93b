//! One visual span of a prompt: a picture or a video after the encoder, the projector
//! and the assembly.

use serde::{Deserialize, Serialize};

use super::Layout;
use super::crop::{Area, Region};
use crate::native::{MergeStep, Tile};
use crate::schedule::{Plan, Positions, Strategy};

/// The embeddings of one picture with all its tiles, or of one video with all its frames, and how
/// they came to be.
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
    /// [plan.tokens] place in time, for videos of such models; empty for the others.
    pub times: Vec<i32>,
    /// [plan.tokens] the tile and the cell of its output grid that each row shows: the weightiest one of a
    /// mean, none for a newline; empty if the rows are the one tile's tokens.
    pub places: Vec<Option<(usize, usize)>>,
    /// \[tiles\] the part of the picture each shows, in its pixels: left, top, right, bottom; empty if the
    /// library cut the picture.
    pub areas: Vec<[f64; 4]>,
    /// Frames of a video that each tile takes; 0 for a picture.
    #[serde(default)]
    pub frames_per_tile: usize,
    /// [plan.tokens] rows of the unmerged span that each row stands for; empty if nothing tells, then one each.
    pub sizes: Vec<f32>,
    /// [plan.tokens] 1 for a row that merges last, with edges under a budget by content; empty: none.
    #[serde(default)]
    pub held: Vec<u8>,
    /// [plan.tokens + 1] where each row stands in the unmerged span, and where that ends, for models with one
    /// position row; empty for those with (t, h, w).
    pub offsets: Vec<i32>,
    /// Marks and places of rows that llama.cpp laid out.
    #[serde(default)]
    pub layout: Layout,
    /// Which positions its rows take in the decoder.
    pub positions: Positions,
    /// Whether the decoder's attention counts the sizes.
    pub counts_sizes: bool,
    /// Strategy by which its tokens were removed, and will be in the decoder.
    pub strategy: Strategy,
    /// Region that stands for the picture.
    #[serde(default)]
    pub region: Option<Region>,
    /// \[tiles\] how each frame is shown, by a strategy that chooses frames; empty by others.
    #[serde(default)]
    pub frames: Vec<ShownFrame>,
    /// Positions the span takes up.
    pub extent: i32,
    /// Steps with their tile.
    pub steps: Vec<(usize, MergeStep)>,
    pub preprocess_ms: f64,
    /// The part of preprocessing that a text-image model took.
    #[serde(default)]
    pub scorer_ms: f64,
    pub encoder_ms: f64,
    pub projector_ms: f64,
}

/// One frame of a film, or one picture of several, that a question chose or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ShownFrame {
    /// Cosine of the frame and the question.
    pub score: f32,
    /// It is among those that go best with the question.
    pub asked: bool,
    /// It is among those at even distances.
    pub even: bool,
    /// Pixels that are shown in detail: left, top, right, bottom; `None` for a frame in outline.
    pub region: Option<Area>,
    /// Tokens of the question that the text-image model read, and that it has.
    pub tokens: (u32, u32),
}

impl EncodedImage {
    /// Tokens in each segment of the decoder's cache once the prompt is computed.
    #[must_use]
    pub fn tokens_by_segment(&self) -> Vec<u32> {
        self.plan.segments.iter().map(|segment| segment.tokens).collect()
    }

    /// Gives its rows their positions in the decoder, and attention their sizes to count or not. A grid of
    /// (t, h, w) positions stays.
    pub fn place_at(&mut self, positions: Positions, counts_sizes: bool) {
        if self.is_in_line() {
            let closed = i32::try_from(self.plan.tokens).unwrap_or(i32::MAX);
            self.extent = match positions {
                Positions::Own => self.offsets.last().copied().unwrap_or(closed),
                Positions::Closed => closed,
            };
        }
        self.positions = positions;
        self.counts_sizes = counts_sizes && positions == Positions::Own;
    }

    /// The row that each of its spans in the decoder begins at: one span, or one for each tile that llama.cpp laid out.
    #[must_use]
    pub fn span_rows(&self) -> Vec<usize> {
        if self.layout.is_empty() { vec![0] } else { self.layout.firsts() }
    }

    /// Whether its rows take up more positions than there are of them.
    #[must_use]
    pub fn has_gaps(&self) -> bool {
        self.is_in_line() && self.extent.unsigned_abs() > self.plan.tokens
    }

    /// Whether its rows stand one behind the other, and on no grid.
    fn is_in_line(&self) -> bool {
        self.cells.is_empty() && self.layout.axes.is_empty()
    }

    /// [plan.tokens] the position of each row where the span begins at `first`, for models with one position row.
    #[must_use]
    pub fn row_positions(&self, first: i32) -> Vec<i32> {
        let n = self.plan.tokens as usize;
        match self.positions {
            Positions::Own if self.offsets.len() > n => {
                self.offsets[..n].iter().map(|at| first + at).collect()
            }
            _ => (first..).take(n).collect(),
        }
    }

    /// Bytes it takes in memory, near enough to bound a cache by.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let steps = self.steps.iter().map(|(_, step)| {
            let grouped: usize = step.groups.iter().map(|group| group.len() + 6).sum();
            step.scores.len() + step.kept.len() + step.merged.len() + grouped
        });
        let rows = self.embeddings.len() + 2 * self.cells.len() + 4 * self.places.len();
        let rows = rows + self.sizes.len() + self.offsets.len() + self.held.len() / 4;
        let rows = rows + self.layout.tokens.len() + 4 * self.layout.axes.len();
        let words = rows + steps.sum::<usize>();
        4 * words as u64 + size_of::<Self>() as u64
    }

    /// The part of the picture that tile `i` shows, in pixels of the picture: left, top, right,
    /// bottom. A fixed-size tile cut by the library is padded to its shape with the picture in the middle.
    #[must_use]
    pub fn tile_area(&self, i: usize) -> Option<[f64; 4]> {
        if !self.areas.is_empty() {
            return self.areas.get(i).copied();
        }
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
                marks: 0,
                decoder: vec![crate::schedule::Step {
                    layer: 2,
                    r: tokens - deep,
                    n_in: tokens,
                    n_out: deep,
                    mass: None,
                }],
                segments: vec![Segment { layers: (0, 2), tokens }, Segment { layers: (2, 4), tokens: deep }],
                thins: false,
            },
            embeddings: (0..tokens * 2).map(|x| x as f32).collect(),
            cells: Vec::new(),
            times: Vec::new(),
            places: Vec::new(),
            areas: Vec::new(),
            frames_per_tile: 0,
            sizes: Vec::new(),
            held: Vec::new(),
            offsets: Vec::new(),
            layout: Layout::default(),
            positions: Positions::Closed,
            counts_sizes: false,
            strategy: Strategy::Merge,
            region: None,
            frames: Vec::new(),
            extent: i32::try_from(tokens).unwrap(),
            steps: Vec::new(),
            preprocess_ms: 1.0,
            scorer_ms: 0.0,
            encoder_ms: 2.0,
            projector_ms: 3.0,
        }
    }

    #[test]
    fn positions() {
        let mut image = EncodedImage { offsets: vec![1, 4, 5, 9], ..picture(3, 1) };
        image.place_at(Positions::Own, true);
        assert_eq!((image.row_positions(10), image.extent), (vec![11, 14, 15], 9));
        assert!(image.counts_sizes && image.has_gaps());
        image.place_at(Positions::Closed, true);
        assert_eq!((image.row_positions(10), image.extent), (vec![10, 11, 12], 3));
        assert!(!image.has_gaps());
        assert!(!image.counts_sizes, "sizes are counted at own positions only");
        let mut grid = EncodedImage { cells: vec![(0, 0); 3], extent: 5, ..picture(3, 1) };
        grid.place_at(Positions::Own, true);
        assert_eq!(grid.extent, 5, "(t, h, w) positions have an extent of their own");
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
