//! Cells of each segment of the KV cache: as many as it will hold, so that merging saves memory and not only
//! time.

use crate::error::{Error, Field, Kind, Result};
use crate::see::EncodedImage;

/// Source of the first segment's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sizing {
    /// As large as the prompt and the answer need.
    Fit,
    /// This many cells (`-c`).
    Cells(u32),
}

impl Sizing {
    /// Positions that a prompt and its answer may take: those the model was trained for, or more if a person gave the
    /// context more cells.
    #[must_use]
    pub fn positions(self, trained: u32) -> u32 {
        match self {
            Sizing::Fit => trained,
            Sizing::Cells(cells) => cells.max(trained),
        }
    }
}

/// Reason why a prompt's pictures do not stand at their own positions, `last` being the one that its answer
/// would begin at.
#[must_use]
pub(super) fn closed_up(last: i32, most: u32) -> String {
    format!(
        "closed positions: own ones would go up to {last}, and the model knows {most}; fewer or smaller pictures keep them"
    )
}

/// Rows that have to fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    pub text: u32,
    /// Visual tokens that each segment computes, the first of them at the front.
    pub visual: Vec<u32>,
    /// Those of them that it holds beside the answer.
    pub held: Vec<u32>,
    pub visual_unmerged: u32,
    /// Tokens the answer may have; `None` for as many as fit.
    pub generate: Option<u32>,
}

/// Cells of each segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheLayout {
    pub merge_layers: Vec<u32>,
    pub cells: u32,
    pub deep: Vec<u32>,
    /// Cells that the same request would get with merging off.
    pub cells_unmerged: u32,
}

impl CacheLayout {
    /// Whether what fits `other` fits this.
    pub(super) fn holds(&self, other: &Self) -> bool {
        self.cells >= other.cells && self.deep.iter().zip(&other.deep).all(|(own, need)| own >= need)
    }
}

/// Cells that llama.cpp rounds a context up to. It rounds deeper segments by the device's needs.
const STEP: u32 = 256;

impl Demand {
    #[must_use]
    pub fn new(text: u32, images: &[&EncodedImage], n_segments: usize, generate: Option<u32>) -> Self {
        let sums = |of: fn(&EncodedImage) -> Vec<u32>| -> Vec<u32> {
            let by_image: Vec<Vec<u32>> = images.iter().map(|image| of(image)).collect();
            (0..n_segments).map(|i| by_image.iter().map(|of| of.get(i).copied().unwrap_or(0)).sum()).collect()
        };
        let (visual, held) = (sums(|image| image.plan.computed()), sums(EncodedImage::tokens_by_segment));
        let visual_unmerged = images.iter().map(|image| image.plan.tokens_unmerged).sum();
        Self { text, visual, held, visual_unmerged, generate }
    }

    fn prompt(&self) -> u32 {
        self.text + self.visual.first().copied().unwrap_or(0)
    }

    /// The cells that hold this, at most `trained` (the model's own limit).
    ///
    /// # Errors
    /// [`Kind::Context`] with both numbers if the prompt and one token do not fit.
    pub fn layout(&self, merge_layers: Vec<u32>, sizing: Sizing, trained: u32) -> Result<CacheLayout> {
        let prompt = self.prompt();
        let limit = match sizing {
            Sizing::Fit => trained,
            Sizing::Cells(cells) => cells,
        };
        if prompt >= limit {
            let visual = self.visual.first().copied().unwrap_or(0);
            let what = match sizing {
                Sizing::Fit => "this model was trained for a context of".to_owned(),
                Sizing::Cells(_) => format!("the context ({}) has", Field::ContextSize),
            };
            return Err(Error::new(
                Kind::Context,
                format!(
                    "the prompt has {prompt} tokens ({visual} of pictures), {what} {limit}: shorten it, merge more with {}, or give a larger context ({})",
                    Field::Keep,
                    Field::ContextSize
                ),
            ));
        }
        let first = self.visual.first().copied().unwrap_or(0);
        let layout = match sizing {
            Sizing::Fit => {
                let answer = self.generate.unwrap_or(trained).max(1).min(trained - prompt);
                // Cells that the prompt lets go are the answer's.
                let needed = |(visual, held): (u32, u32)| self.text + visual.max(held + answer);
                let pairs = || self.visual.iter().copied().zip(self.held.iter().copied());
                CacheLayout {
                    merge_layers,
                    cells: round_up(pairs().next().map_or(self.text + answer, needed)),
                    deep: pairs().skip(1).map(needed).collect(),
                    cells_unmerged: round_up(needed((self.visual_unmerged, self.visual_unmerged))),
                }
            }
            Sizing::Cells(cells) => CacheLayout {
                merge_layers,
                cells,
                deep: self.visual.iter().skip(1).map(|&held| cells - (first - held.min(first))).collect(),
                cells_unmerged: cells,
            },
        };
        Ok(layout)
    }
}

fn round_up(n: u32) -> u32 {
    n.div_ceil(STEP).saturating_mul(STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(text: u32, visual: &[u32], generate: Option<u32>) -> Demand {
        Demand { text, visual: visual.to_vec(), held: visual.to_vec(), visual_unmerged: 729, generate }
    }

    #[test]
    fn cells() {
        // (demand, sizing, cells of the segments, cells without merging)
        let cases: [(Demand, Sizing, &[u32], u32); 6] = [
            (demand(31, &[361, 253], Some(64)), Sizing::Fit, &[512, 348], 1024),
            (demand(31, &[729], Some(64)), Sizing::Fit, &[1024], 1024),
            (demand(31, &[361, 253], Some(64)), Sizing::Cells(4096), &[4096, 3988], 4096),
            (demand(31, &[361, 253], None), Sizing::Fit, &[2048, 1940], 2560),
            (demand(31, &[361, 325, 293], Some(64)), Sizing::Fit, &[512, 420, 388], 1024),
            (demand(31, &[361, 361], Some(9)), Sizing::Cells(401), &[401, 401], 401),
        ];
        for (demand, sizing, cells, unmerged) in cases {
            let layout = demand.layout(vec![2], sizing, 2048).unwrap();
            assert_eq!([vec![layout.cells], layout.deep].concat(), cells, "{demand:?} {sizing:?}");
            assert_eq!(layout.cells_unmerged, unmerged, "{demand:?} {sizing:?}");
        }
    }

    #[test]
    fn a_prompt_that_does_not_fit_names_both_numbers() {
        for (sizing, trained, limit) in
            [(Sizing::Cells(300), 4096, "300"), (Sizing::Fit, 390, "390"), (Sizing::Cells(392), 4096, "392")]
        {
            let error = demand(31, &[361], None).layout(vec![], sizing, trained).unwrap_err().to_string();
            assert!(error.contains("392 tokens") && error.contains(limit), "{error}");
        }
    }
}
