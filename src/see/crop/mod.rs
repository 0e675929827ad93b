//! A text-image model beside the pair: it finds the region of a picture, and the frames of a video, that a question is
//! about. docs/crops.md has the rules.

mod film;
mod region;
mod tokens;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

pub use film::{ChosenFrames, FilmShape, FrameRegion, Pairs, largest_of_pairs, means_of_parts};
pub use region::{Area, around_map, best, windows};
use serde::{Deserialize, Serialize};
pub use tokens::{TextTokens, Tokens};

use super::{Key, identity};
use crate::error::{Error, Field, Kind, Result};
use crate::media::{Filter, Pixels, resize};
use crate::native::{Gguf, Scorer, ScorerInfo, Scores, Wanted};
use crate::schedule::Grid;

/// Pictures computed at once: others may compute between two lots.
const AT_ONCE: usize = 4;

/// Rule by which a region was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RegionRule {
    /// Box around the strongest part of CLIPSeg's map.
    Map,
    /// Best of some windows, by CLIP.
    Windows,
}

impl RegionRule {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            RegionRule::Map => "map",
            RegionRule::Windows => "windows",
        }
    }
}

/// Region of a picture that stands for it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Region {
    /// Pixels: left, top, right, bottom.
    pub area: Area,
    pub rule: RegionRule,
    /// Largest share of the map, or cosine of the window, or of the picture, and the text.
    pub score: f32,
    /// Tokens of the question that the model read, and that it has.
    pub tokens: (u32, u32),
}

/// Cosines by which a question chooses frames of a film, and regions of them.
#[derive(Debug, Clone, PartialEq)]
pub struct FilmScores {
    /// \[frames\] cosine of each frame and the question.
    pub cosines: Vec<f32>,
    /// \[frames\] cosine of each pair of patches and the question.
    pub similarity: Vec<Vec<f32>>,
    /// The pairs of a frame.
    pub pairs: Pairs,
    /// Tokens of the question that the model read, and that it has.
    pub tokens: (u32, u32),
}

/// A loaded text-image model.
pub struct RegionScorer {
    model: Scorer,
    tokens: Tokens,
    path: PathBuf,
}

impl RegionScorer {
    /// # Errors
    /// [`crate::error::Kind::File`] or [`crate::error::Kind::Model`] for a file that is no such model.
    pub fn load(path: &Path, use_gpu: bool, threads: u32) -> Result<Self> {
        let model = Scorer::load(path, use_gpu, threads)?;
        let tokens = Tokens::read(&Gguf::open(path)?, path, model.info().n_text as usize)?;
        Ok(Self { model, tokens, path: path.to_owned() })
    }

    #[must_use]
    pub fn info(&self) -> &ScorerInfo {
        self.model.info()
    }

    /// Hash of what its choices depend on, beside picture and text.
    ///
    /// # Errors
    /// [`crate::error::Kind::File`] for a file that cannot be read.
    pub fn identity(&self) -> Result<Key> {
        identity::of_scorer(&self.path, &self.info().backend)
    }

    #[must_use]
    pub fn tokenize(&self, text: &str) -> TextTokens {
        self.tokens.tokenize(text)
    }

    /// Features of a text, of any length.
    ///
    /// # Errors
    /// The library's own.
    pub fn text(&mut self, text: &str) -> Result<Vec<f32>> {
        let tokens = self.tokens.tokenize(text);
        self.model.text(&tokens.ids, tokens.pooled)
    }

    /// Scores of pictures, each shown whole at the model's size. `between` is called when nothing is computed.
    ///
    /// # Errors
    /// As [`Scorer::images`]; [`crate::error::Kind::Media`] for a picture without pixels.
    pub fn images(
        &mut self,
        pictures: &[&Pixels],
        wanted: Wanted<'_>,
        stop: &[&AtomicBool],
        between: &mut dyn FnMut(),
    ) -> Result<Scores> {
        let mut all = Scores::default();
        for some in pictures.chunks(AT_ONCE) {
            let mut pixels = Vec::new();
            for picture in some {
                self.shown(picture, &mut pixels)?;
            }
            let scores = self.model.images(&pixels, wanted, stop)?;
            all.features.extend(scores.features);
            all.patches.extend(scores.patches);
            all.map.extend(scores.map);
            between();
        }
        Ok(all)
    }

    /// Appends a picture as the model takes it: [3, side, side], normalised.
    fn shown(&self, picture: &Pixels, pixels: &mut Vec<f32>) -> Result<()> {
        let &ScorerInfo { image_size: side, mean, std, bilinear, .. } = self.info();
        let filter = if bilinear { Filter::Bilinear } else { Filter::Bicubic };
        let picture = resize(picture, side, side, filter)?;
        for channel in 0..3 {
            let values = picture.rgb.iter().skip(channel).step_by(3);
            pixels.extend(values.map(|&value| (f32::from(value) / 255.0 - mean[channel]) / std[channel]));
        }
        Ok(())
    }

    /// The region of `picture` that `question` is about; `between` as in [`RegionScorer::images`].
    ///
    /// # Errors
    /// As [`RegionScorer::images`].
    pub fn region(
        &mut self,
        picture: &Pixels,
        question: &str,
        stop: &[&AtomicBool],
        between: &mut dyn FnMut(),
    ) -> Result<Region> {
        let (text, tokens) = self.question(question)?;
        let size = (picture.width, picture.height);
        if self.info().has_map {
            let wanted = Wanted { map: Some(&text), ..Wanted::default() };
            let scores = self.images(&[picture], wanted, stop, between)?;
            let peak = scores.map.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let area = around_map(&scores.map, self.info().map_size as usize, size);
            return Ok(Region { area, rule: RegionRule::Map, score: 1.0 / (1.0 + (-peak).exp()), tokens });
        }
        let windows = windows(size.0, size.1);
        let parts: Vec<Pixels> = windows.iter().map(|&area| picture.part(area)).collect();
        let parts: Vec<&Pixels> = parts.iter().collect();
        let scores = self.images(&parts, Wanted::default(), stop, between)?;
        let cosines = cosines(&scores.features, &text);
        let chosen = best(&cosines, 1).first().copied().unwrap_or(0);
        Ok(Region { area: windows[chosen], rule: RegionRule::Windows, score: cosines[chosen], tokens })
    }
}

impl RegionScorer {
    /// The cosines of `frames` and `question`; `grid` as for [`Pairs::new`], `between` as in [`RegionScorer::images`].
    ///
    /// # Errors
    /// As [`RegionScorer::images`]; [`Kind::Model`] for a grid that the model's patches do not have.
    pub fn film(
        &mut self,
        frames: &[&Pixels],
        (question, grid): (&str, Grid),
        stop: &[&AtomicBool],
        between: &mut dyn FnMut(),
    ) -> Result<FilmScores> {
        let side = (self.info().image_size / self.info().patch_size.max(1)) as usize;
        let pairs = Pairs::new(side, grid).ok_or_else(|| no_such_grid("the crop model", side))?;
        let (text, tokens) = self.question(question)?;
        let (mut cosines, mut similarity) = (Vec::new(), Vec::new());
        for some in frames.chunks(AT_ONCE) {
            let scores = self.images(some, Wanted { patches: true, ..Wanted::default() }, stop, between)?;
            cosines.extend(self::cosines(&scores.features, &text));
            for patches in scores.patches.chunks_exact((side * side * text.len()).max(1)) {
                similarity.push(self::cosines(&largest_of_pairs(patches, side, text.len()), &text));
            }
        }
        Ok(FilmScores { cosines, similarity, pairs, tokens })
    }

    /// Features of a question, and the tokens of it that were read and that it has.
    fn question(&mut self, question: &str) -> Result<(Vec<f32>, (u32, u32))> {
        let tokens = self.tokens.tokenize(question);
        let text = self.model.text(&tokens.ids, tokens.pooled)?;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Ok((text, (count(tokens.ids.len()), count(tokens.whole))))
    }
}

/// The refusal of the authors' reading of pairs.
pub(crate) fn no_such_grid(whose: &str, side: usize) -> Error {
    Error::new(
        Kind::Model,
        format!(
            "{} reference: {whose} has {side} cells on a side, and the authors' code needs an even number; take {} faithful",
            Field::Grid,
            Field::Grid
        ),
    )
}

/// Cosine of each row of `rows` and `text`; 0 for a row without length.
#[must_use]
pub fn cosines(rows: &[f32], text: &[f32]) -> Vec<f32> {
    let dot =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum() };
    let of = |row: &[f32]| {
        let length = (dot(row, row) * dot(text, text)).sqrt();
        #[allow(clippy::cast_possible_truncation)]
        let cosine = (dot(row, text) / length) as f32;
        if cosine.is_finite() { cosine } else { 0.0 }
    };
    rows.chunks_exact(text.len().max(1)).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosines_of_rows() {
        assert_eq!(cosines(&[1.0, 0.0, 0.0, -2.0, 0.0, 0.0], &[3.0, 0.0]), [1.0, 0.0, 0.0]);
        assert_eq!(cosines(&[], &[1.0]), [0.0; 0]);
    }
}
