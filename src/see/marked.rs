//! Pictures and videos as llama.cpp marks them: cut by the rules of their family, if these are known here, else by
//! llama.cpp itself.

use super::Visual;
use super::processor::{Cut, Prepared, Processor};
use crate::error::{Error, Kind, Result};
use crate::media::Pixels;
use crate::native::{PicturePart, PreprocessedImage, Tile, View, Vision};

/// Frames a second of a video that does not say when it shows them.
const USUAL_FPS: f64 = 2.0;

/// One span of the prompt before it is encoded.
pub(crate) struct Marked {
    /// The picture with its tiles; of a video one for each pair of frames.
    pub pictures: Vec<PreprocessedImage>,
    /// Marks and tiles in order.
    pub parts: Vec<PicturePart>,
    /// \[tiles\] pixels of each tile; empty if llama.cpp cut them.
    pub cuts: Vec<Cut>,
}

impl Marked {
    /// Cuts `visual` and has llama.cpp mark it; `vision` knows its text model.
    ///
    /// # Errors
    /// A video for a model that takes none, sizes that the model cannot take, or the library's own.
    pub(crate) fn new(vision: &mut Vision, processor: &Processor, visual: &Visual<'_>) -> Result<Self> {
        let Some(prepared) = processor.prepare(visual)? else {
            let Some(pixels) = visual.picture() else {
                return Err(Error::new(Kind::Native, "llama.cpp cuts no videos"));
            };
            let picture = vision.picture(&pixels.rgb, pixels.width, pixels.height)?;
            let parts = vision.parts(&picture)?;
            return Ok(Self { pictures: vec![picture], parts, cuts: Vec::new() });
        };
        let Prepared { cuts, grid, .. } = prepared;
        let Visual::Video(frames) = visual else {
            let views: Vec<View<'_>> = cuts.iter().map(|cut| view(&cut.first)).collect();
            let picture = vision.picture_from_views(&views, grid)?;
            let parts = vision.parts(&picture)?;
            return Ok(Self { pictures: vec![picture], parts, cuts });
        };
        let (mut pictures, mut parts) = (Vec::with_capacity(cuts.len()), Vec::new());
        for (cut, seconds) in cuts.iter().zip(times(frames)) {
            let views: Vec<View<'_>> = std::iter::once(&cut.first).chain(&cut.second).map(view).collect();
            let picture = vision.picture_from_views(&views, (0, 0))?;
            parts.push(stamp(vision, seconds)?);
            parts.extend(vision.parts(&picture)?);
            pictures.push(picture);
        }
        Ok(Self { pictures, parts, cuts })
    }

    /// Rows that are marks.
    pub(crate) fn marks(&self) -> u32 {
        self.parts.iter().filter(|part| !part.tokens.is_empty()).map(|part| part.rows).sum()
    }

    /// Sizes of the tiles.
    pub(crate) fn tiles(&self, vision: &Vision) -> Result<Vec<Tile>> {
        let tiles = self.pictures.iter().map(|picture| vision.tiles(picture)).collect::<Result<Vec<_>>>()?;
        Ok(tiles.concat())
    }

    /// The picture that tile `i` belongs to, and the tile's number there.
    pub(super) fn place(&self, i: usize) -> (&PreprocessedImage, usize) {
        match self.pictures.as_slice() {
            [only] => (only, i),
            pairs => (&pairs[i], 0),
        }
    }
}

fn view(pixels: &Pixels) -> View<'_> {
    View { rgb: &pixels.rgb, width: pixels.width, height: pixels.height }
}

/// Seconds that each pair of frames shows: the mean of the two. A last frame without a second one shows its own.
fn times(frames: &[&Pixels]) -> Vec<f64> {
    #[allow(clippy::cast_precision_loss)]
    let seconds =
        |(i, frame): (usize, &&Pixels)| frame.moment.map_or(i as f64 / USUAL_FPS, |moment| moment.seconds);
    let seconds: Vec<f64> = frames.iter().enumerate().map(seconds).collect();
    seconds.chunks(2).map(|pair| pair.iter().sum::<f64>() / pair.len() as f64).collect()
}

/// The mark before a pair of frames: `<1.5 seconds>` (Qwen3-VL).
fn stamp(vision: &Vision, seconds: f64) -> Result<PicturePart> {
    let text = vision.text().ok_or_else(|| Error::new(Kind::Native, "a video's times need a text model"))?;
    let tokens = text.tokenize(&format!("<{seconds:.1} seconds>"), false);
    let rows = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
    let extent = i32::try_from(rows).unwrap_or(i32::MAX);
    Ok(PicturePart {
        tokens,
        rows,
        extent,
        two_ways: false,
        positions: (0..extent).map(|i| [i; 4]).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Moment;

    #[test]
    fn a_pair_shows_the_mean_of_its_times() {
        let frame = |seconds: Option<f64>| Pixels {
            width: 1,
            height: 1,
            rgb: vec![0; 3],
            remark: None,
            moment: seconds.map(|seconds| Moment { seconds, fps: 4.0 }),
        };
        let of = |seconds: &[Option<f64>]| {
            let frames: Vec<Pixels> = seconds.iter().map(|&seconds| frame(seconds)).collect();
            times(&frames.iter().collect::<Vec<_>>())
        };
        assert_eq!(of(&[Some(0.0), Some(0.5), Some(1.0), Some(2.0), Some(9.0)]), [0.25, 1.5, 9.0]);
        assert_eq!(of(&[None; 4]), [0.25, 1.25], "two frames a second");
    }
}
