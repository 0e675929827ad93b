//! Facts of a text-image model, and the regions that it chooses of pictures for a question.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use crate::error::Result;
use crate::media::Pixels;
use crate::report::{digits, milliseconds};
use crate::see::crop::RegionScorer;

/// A text-image model as `inspect` shows it.
#[derive(Debug, Serialize)]
pub struct CropFacts {
    pub name: String,
    /// `CLIP` or `CLIPSeg`.
    pub kind: &'static str,
    /// Pixels per side of its pictures and of a patch.
    pub image_size: u32,
    pub patch_size: u32,
    /// Tokens of a text that it reads at most.
    pub text_tokens: u32,
    pub bytes: u64,
    pub regions: Vec<CropChoice>,
}

/// Region of one picture.
#[derive(Debug, Serialize)]
pub struct CropChoice {
    pub picture: String,
    pub width: u32,
    pub height: u32,
    /// Left, top, right, bottom.
    pub pixels: [u32; 4],
    pub rule: &'static str,
    /// Largest share of the map, or cosine of the window and the question.
    pub score: f32,
    /// Milliseconds that finding it took.
    #[serde(serialize_with = "digits::thousandths")]
    pub ms: f64,
    /// Tokens of the question that were read, and that it has.
    pub question_tokens: (u32, u32),
}

impl CropFacts {
    /// Loads the model at `path` and lets it choose a region of each of `pictures`, by their names.
    ///
    /// # Errors
    /// As [`RegionScorer::load`] and [`RegionScorer::region`].
    pub fn new(path: &Path, pictures: &[(String, Pixels)], question: &str, threads: u32) -> Result<Self> {
        let mut model = RegionScorer::load(path, false, threads)?;
        let info = model.info().clone();
        let region = |(name, pixels): &(String, Pixels)| {
            let start = Instant::now();
            let region = model.region(pixels, question, &[], &mut || ())?;
            Ok(CropChoice {
                picture: name.clone(),
                width: pixels.width,
                height: pixels.height,
                pixels: region.area,
                rule: region.rule.name(),
                score: region.score,
                ms: milliseconds(start),
                question_tokens: region.tokens,
            })
        };
        Ok(Self {
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            kind: if info.has_map { "CLIPSeg" } else { "CLIP" },
            image_size: info.image_size,
            patch_size: info.patch_size,
            text_tokens: info.n_text,
            bytes: info.weight_bytes,
            regions: pictures.iter().map(region).collect::<Result<_>>()?,
        })
    }
}
