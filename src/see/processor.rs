//! A model's own processor: how a picture or a video is cut before the encoder, and how the
//! encoder's tokens are put together after it. It is read from the projector file.

use std::path::Path;

use super::cutting::Cutting;
use super::video_rule::{Treatment, VideoRule};
use super::visual::Visual;
use crate::assembly::{self, Arrangement, Survivors};
use crate::error::{Error, Field, Kind, Result};
use crate::media::video::Sampling;
use crate::media::{Filter, Pixels, views};
use crate::native::{Gguf, VisionInfo};

/// One input of the encoder.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cut {
    pub first: Pixels,
    /// The second frame of a temporal patch.
    pub second: Option<Pixels>,
    /// The part of the picture it shows, in the picture's pixels: left, top, right, bottom.
    pub area: [f64; 4],
}

/// A picture or video ready for the encoder.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Prepared {
    /// Tiles row by row, and the whole before them (anyres) or behind them (InternVL).
    pub cuts: Vec<Cut>,
    pub arrangement: Arrangement,
    /// Tiles across and down, if llama.cpp marks a grid of them; else (0, 0).
    pub grid: (u32, u32),
}

impl Prepared {
    fn plain(cuts: Vec<Cut>) -> Self {
        Self { cuts, arrangement: Arrangement::Plain, grid: (0, 0) }
    }
}

/// A model's processor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Processor {
    pub(super) cutting: Cutting,
    pub(super) video_rule: Option<VideoRule>,
    pub filter: Filter,
    mean: [f32; 3],
    std: [f32; 3],
    /// Pixels of an encoder input's side, if that is fixed.
    pub(super) side: u32,
    /// Patches of that side.
    cells: u32,
    /// Rows a picture may have, if tiles can be left out (`--image-max-tokens`).
    max_tokens: Option<u32>,
    /// Pixels that both sides of an input of free size are multiples of.
    pub(super) factor: u32,
    /// The newline row; empty if the file has none.
    pub newline: Vec<f32>,
}

impl Processor {
    /// Reads what `file` says; `tokens` bounds the rows of a picture, from below and above. The second value is one line for each
    /// thing the file lacks, with what that costs.
    ///
    /// # Errors
    /// [`Kind::File`] for values that mean nothing.
    pub(crate) fn read(
        file: &Gguf,
        path: &Path,
        vision: &VisionInfo,
        tokens: (Option<u32>, Option<u32>),
    ) -> Result<(Self, Vec<String>)> {
        if vision.by_library {
            return Self::of_library(file, path, vision, tokens);
        }
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let bad = |text: String| Error::new(Kind::File, format!("{}: {text}", path.display()));
        let newline = match file.row("v.image_newline")? {
            Some(row) => row,
            None => file.row("model.image_newline")?.unwrap_or_default(),
        };
        if !newline.is_empty() && newline.len() != vision.n_embd_out as usize {
            return Err(bad(format!(
                "the newline row has {} values, the projector gives {}",
                newline.len(),
                vision.n_embd_out
            )));
        }
        let resample = file.string("illava.vision.resample");
        let filter = match &resample {
            None => Filter::default(),
            Some(text) => Filter::named(text).ok_or_else(|| {
                bad(format!("illava.vision.resample is `{text}`; bicubic and bilinear are known"))
            })?,
        };
        let colour = |key: &str| -> Result<[f32; 3]> {
            let values = file.floats(key).unwrap_or_default();
            #[allow(clippy::cast_possible_truncation)]
            match values.as_slice() {
                [r, g, b, ..] => Ok([*r as f32, *g as f32, *b as f32]),
                _ => Err(bad(format!("key {key} needs three numbers"))),
            }
        };
        let mut remarks = Vec::new();
        let cutting = Cutting::of_file(file, vision, tokens, &bad)?;
        if tokens.0.is_some() && !matches!(cutting, Cutting::Dynamic { .. }) {
            remarks.push(format!(
                "{}: has no effect, since this model's number of tokens does not follow a picture's size",
                Field::ImageMinTokens
            ));
        }
        if let Cutting::Anyres { pinpoints, max_tiles, unpad } = &cutting {
            // A file of ours that bounds its tiles and lists none means it: one view.
            if pinpoints.is_empty() && max_tiles.is_none() {
                remarks.push(format!("{name}: names no resolutions (clip.vision.image_grid_pinpoints), so only the whole picture is shown, at {0}x{0} pixels, and details are lost; convert the model again with tools/convert.py", vision.image_size));
            } else if *unpad && newline.is_empty() {
                remarks.push(format!("{name}: has no newline row (v.image_newline), so nothing marks where a row of the picture ends, and answers about places get worse; convert the model again with tools/convert.py"));
            }
        }
        let order = named(file, "clip.vision.class_token", "illava.vision.class_token");
        if vision.class_token && order.as_deref() != Some("first") {
            remarks.push(format!("{name}: has its class token in llama.cpp's order, so the first patch is dropped and the class token takes the last one's place; convert the model again with tools/convert.py to have it as published"));
        }
        remarks.extend(unsaid(file, &name, cutting == Cutting::Library));
        let cutting = match cutting {
            Cutting::Anyres { pinpoints, max_tiles: None, .. } if pinpoints.is_empty() => Cutting::Library,
            other => other,
        };
        let mut pooled = matches!(cutting, Cutting::Anyres { max_tiles: Some(_), .. });
        if let Some(what) = VideoRule::unknown(file).filter(|_| pooled && !vision.mrope) {
            remarks.push(format!("{name}: {what}, so a video's frames go in as single pictures"));
            pooled = false;
        }
        let clocked = vision.projector == "qwen2.5vl_merger";
        let video_rule = VideoRule::read(file, vision.mrope, clocked, pooled).map_err(bad)?;
        Ok((
            Self {
                cutting,
                video_rule,
                filter,
                mean: colour("clip.vision.image_mean")?,
                std: colour("clip.vision.image_std")?,
                side: vision.image_size,
                cells: vision.image_size / vision.patch_size.max(1),
                max_tokens: tokens.1,
                factor: vision.patch_size * vision.group.isqrt(),
                newline,
            },
            remarks,
        ))
    }

    /// That of a projector whose pictures llama.cpp marks. It also cuts those of a family whose rules are not known here.
    fn of_library(
        file: &Gguf,
        path: &Path,
        vision: &VisionInfo,
        tokens: (Option<u32>, Option<u32>),
    ) -> Result<(Self, Vec<String>)> {
        let bad = |text: String| Error::new(Kind::File, format!("{}: {text}", path.display()));
        let cutting = Cutting::marked(file, vision, tokens, &bad)?;
        let qwen3 = vision.projector == "qwen3vl_merger";
        let mut remarks = Vec::new();
        if matches!(cutting, Cutting::Square | Cutting::Tiles { .. }) {
            for (field, given) in [(Field::ImageMinTokens, tokens.0), (Field::ImageMaxTokens, tokens.1)] {
                if given.is_some() {
                    remarks.push(format!(
                        "{field}: has no effect, since this model has its own number of tokens"
                    ));
                }
            }
        }
        let processor = Self {
            filter: if cutting == Cutting::Square { Filter::Bilinear } else { Filter::default() },
            cutting,
            video_rule: qwen3.then(|| VideoRule::stamped(file)).transpose().map_err(bad)?,
            mean: [0.0; 3],
            std: [1.0; 3],
            side: vision.image_size,
            cells: vision.image_size / vision.patch_size.max(1),
            max_tokens: tokens.1,
            factor: vision.patch_size * vision.group.isqrt().max(1),
            newline: Vec::new(),
        };
        Ok((processor, remarks))
    }

    /// One made by hand, its inputs `side` pixels wide in patches of `patch`.
    #[cfg(test)]
    pub(super) fn of_parts(cutting: Cutting, video_rule: Option<VideoRule>, side: u32, patch: u32) -> Self {
        Self {
            cutting,
            video_rule,
            filter: Filter::default(),
            mean: [0.5; 3],
            std: [0.5; 3],
            side,
            cells: side / patch,
            max_tokens: None,
            factor: patch * 2,
            newline: Vec::new(),
        }
    }

    /// Whether llama.cpp cuts the pictures.
    pub(super) fn is_library(&self) -> bool {
        self.cutting == Cutting::Library
    }

    /// Whether a picture is cut otherwise if the conversation shows several.
    pub(crate) fn counts_pictures(&self) -> bool {
        matches!(self.cutting, Cutting::Anyres { max_tiles: Some(_), .. })
    }

    /// Rule for the frames of a video; `None` if videos are not taken.
    pub(crate) fn video_sampling(&self) -> Option<Sampling> {
        self.video_rule.as_ref().map(|video_rule| video_rule.sampling)
    }

    /// Position in time of each of the `tiles` pairs of frames of a video: its number, or where its time is on a clock
    /// (Qwen2.5-VL).
    pub(super) fn times(&self, visual: &Visual<'_>, tiles: usize) -> Vec<i32> {
        let fps = match visual {
            Visual::Video(frames) => frames.first().and_then(|frame| frame.moment).map(|moment| moment.fps),
            _ => None,
        };
        let ticks = self.video_rule.as_ref().map_or(1.0, |rule| rule.ticks(fps));
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
        (0..tiles).map(|tile| (tile as f32 * ticks) as i32).collect()
    }

    /// Words of `inspect` on videos.
    pub(crate) fn describe_videos(&self) -> Option<String> {
        self.video_rule.as_ref().map(VideoRule::describe)
    }

    /// Frames of the video that `inspect` shows, one of eight seconds; `None` if videos are not taken.
    pub(crate) fn usual_frames(&self) -> Option<usize> {
        self.video_sampling().map(|sampling| sampling.frames_of(8.0))
    }

    /// Name in `inspect` of the way pictures are cut.
    pub(crate) fn describe(&self) -> String {
        self.cutting.describe()
    }

    /// Cuts a picture or a video; `None` if the library has to.
    ///
    /// # Errors
    /// [`Kind::Media`] for what this model cannot take.
    pub(crate) fn prepare(&self, visual: &Visual<'_>) -> Result<Option<Prepared>> {
        match visual {
            Visual::Video(frames) => self.video(frames).map(Some),
            Visual::Image(picture) => self.picture(picture),
            Visual::OneOfSeveral(_) | Visual::Among { .. } => match visual.picture() {
                None => Err(Error::new(Kind::Native, "a picture that is none of those it stands among")),
                Some(picture) if self.counts_pictures() => self.view(picture).map(Some),
                Some(picture) => self.picture(picture),
            },
        }
    }

    fn picture(&self, picture: &Pixels) -> Result<Option<Prepared>> {
        let one =
            |first: Pixels, area: [f64; 4]| Some(Prepared::plain(vec![Cut { first, second: None, area }]));
        Ok(match &self.cutting {
            Cutting::Library => None,
            Cutting::Square => {
                one(crate::media::resize(picture, self.side, self.side, self.filter)?, whole(picture))
            }
            Cutting::Pad => {
                let (square, area) = self.padded(picture, self.side)?;
                one(square, area)
            }
            Cutting::Dynamic { pixels } => {
                let (width, height) =
                    views::smart_size((picture.width, picture.height), self.factor, *pixels)?;
                one(crate::media::resize(picture, width, height, self.filter)?, whole(picture))
            }
            Cutting::Anyres { pinpoints, max_tiles, unpad } => {
                let arrange = |grid: (u32, u32)| match unpad {
                    true => Arrangement::Anyres {
                        grid,
                        picture: (picture.width, picture.height),
                        max_tiles: *max_tiles,
                    },
                    false => Arrangement::Plain,
                };
                let pinpoints = self.affordable(pinpoints, &arrange);
                if pinpoints.is_empty() {
                    let base = crate::media::resize(picture, self.side, self.side, self.filter)?;
                    return Ok(one(base, whole(picture)));
                }
                let tiled = views::anyres(picture, self.side, &pinpoints, self.filter)?;
                let base = Cut { first: tiled.base, second: None, area: whole(picture) };
                let tiles = tiled.tiles.into_iter().zip(tiled.areas);
                let cuts = tiles.map(|(first, area)| Cut { first, second: None, area });
                let arrangement = arrange(tiled.grid);
                Some(Prepared {
                    cuts: std::iter::once(base).chain(cuts).collect(),
                    arrangement,
                    grid: (0, 0),
                })
            }
            Cutting::Tiles { tiles } => {
                let tiled = views::tiled(picture, self.side, *tiles, self.filter)?;
                let base = Cut { first: tiled.base, second: None, area: whole(picture) };
                let tiles = tiled.tiles.into_iter().zip(tiled.areas);
                let cuts = tiles.map(|(first, area)| Cut { first, second: None, area });
                let cuts = cuts.chain(std::iter::once(base)).collect();
                Some(Prepared { grid: tiled.grid, ..Prepared::plain(cuts) })
            }
            Cutting::Bounded { longest, tokens } => {
                let (width, height) = self.bounded((picture.width, picture.height), *longest, *tokens);
                one(crate::media::resize(picture, width, height, self.filter)?, whole(picture))
            }
        })
    }

    /// The resolutions that give a picture no more rows than it may have; none: the whole alone.
    pub(super) fn affordable(
        &self,
        pinpoints: &[(u32, u32)],
        arrange: &dyn Fn((u32, u32)) -> Arrangement,
    ) -> Vec<(u32, u32)> {
        let Some(most) = self.max_tokens else { return pinpoints.to_vec() };
        let full = Survivors::all((self.cells, self.cells));
        let fits = |&(width, height): &(u32, u32)| {
            let grid = (width / self.side, height / self.side);
            let tiles = vec![full.clone(); 1 + (grid.0 * grid.1) as usize];
            assembly::rows(arrange(grid), &tiles, !self.newline.is_empty()).len() <= most as usize
        };
        pinpoints.iter().copied().filter(fits).collect()
    }

    /// A picture padded to a square with the mean colour, `side` pixels across, and the part of it that shows.
    pub(crate) fn padded(&self, picture: &Pixels, side: u32) -> Result<(Pixels, [f64; 4])> {
        views::padded_square(picture, side, self.mean_colour(), self.filter)
    }

    /// One view of a picture among several.
    fn view(&self, picture: &Pixels) -> Result<Prepared> {
        let (first, area) = self.padded(picture, self.side)?;
        let cuts = vec![Cut { first, second: None, area }];
        Ok(Prepared { arrangement: Arrangement::View, ..Prepared::plain(cuts) })
    }

    fn video(&self, frames: &[&Pixels]) -> Result<Prepared> {
        let resize =
            |frame: &Pixels, size: (u32, u32)| crate::media::resize(frame, size.0, size.1, self.filter);
        match (self.video_rule.as_ref().map(|video_rule| video_rule.treatment), frames.first()) {
            (_, None) => {
                Err(Error::new(Kind::Media, "a video without frames; give one that shows something"))
            }
            (None, _) => Err(Error::new(
                Kind::Model,
                "this model takes no videos; give single frames as pictures, or take a LLaVA-OneVision or Qwen2-VL pair",
            )),
            (Some(Treatment::Frames { stride }), _) => {
                let cut = |frame: &&Pixels| {
                    Ok(Cut {
                        first: resize(frame, (self.side, self.side))?,
                        second: None,
                        area: whole(frame),
                    })
                };
                let cuts = frames.iter().map(cut).collect::<Result<Vec<_>>>()?;
                Ok(Prepared { arrangement: Arrangement::Video { stride }, ..Prepared::plain(cuts) })
            }
            (Some(Treatment::Pairs { .. } | Treatment::Stamped { .. }), Some(shape)) => {
                let size = self.frame_size((shape.width, shape.height), frames.len())?;
                let cut = |pair: &[&Pixels]| {
                    let second = resize(pair.get(1).unwrap_or(&pair[0]), size)?;
                    Ok(Cut { first: resize(pair[0], size)?, second: Some(second), area: whole(pair[0]) })
                };
                Ok(Prepared::plain(frames.chunks(2).map(cut).collect::<Result<Vec<_>>>()?))
            }
        }
    }

    /// Width and height of the frames of a video of `frames` of them of `size`, for a model that takes pairs.
    pub(super) fn frame_size(&self, size: (u32, u32), frames: usize) -> Result<(u32, u32)> {
        let frames = frames as u64;
        let pixels = match self.video_rule.as_ref().map(|rule| rule.treatment) {
            Some(Treatment::Pairs { pixels, total, .. }) => {
                // Each frame's even share of the whole, two frames making one patch in time.
                let most = pixels.1.min(total * 2 / frames.max(1));
                (pixels.0, most.max(pixels.0 * 21 / 20))
            }
            Some(Treatment::Stamped { pixels }) => {
                return views::smart_frame_size(size, frames, self.factor, pixels);
            }
            Some(Treatment::Frames { .. }) | None => return Ok((self.side, self.side)),
        };
        views::smart_size(size, self.factor, pixels)
    }

    /// Width and height of a picture of `size` whose sides end at `longest`, within the bounds of its tokens.
    pub(super) fn bounded(
        &self,
        size: (u32, u32),
        longest: u32,
        (least, most): (Option<u32>, Option<u32>),
    ) -> (u32, u32) {
        let unit = self.factor.max(1);
        let tokens = |(width, height): (u32, u32)| u64::from(width / unit) * u64::from(height / unit);
        let at = |longest| views::bounded_size(size, unit, longest);
        let mut side = longest.max(unit);
        while most.is_some_and(|most| tokens(at(side)) > u64::from(most.max(1))) && side > unit {
            side -= unit;
        }
        let shown = at(side);
        match least.map(u64::from).filter(|&least| tokens(shown) < least) {
            None => shown,
            Some(least) => {
                let pixels = least * u64::from(unit) * u64::from(unit);
                views::smart_size(size, unit, (pixels, u64::MAX)).unwrap_or(shown)
            }
        }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn mean_colour(&self) -> [u8; 3] {
        self.mean.map(|mean| (mean * 255.0).clamp(0.0, 255.0) as u8)
    }

    /// The encoder's input, [height, width, 3].
    pub(crate) fn normalised(&self, picture: &Pixels) -> Vec<f32> {
        views::normalised(picture, self.mean, self.std)
    }
}

/// The text under a key, or under the name that older files have for it.
fn named(file: &Gguf, key: &str, older: &str) -> Option<String> {
    file.string(key).or_else(|| file.string(older))
}

/// Remarks on settings that other converters leave out; a recommended schedule was evaluated with the pair as it is.
fn unsaid(file: &Gguf, name: &str, library_cuts: bool) -> Option<String> {
    if file.string("illava.vision.family").is_some() || file.string("illava.merge.evaluated").is_some() {
        return None;
    }
    let mut costs = Vec::new();
    if library_cuts {
        costs.push("llama.cpp cuts and resizes pictures by its own rules");
    }
    if named(file, "clip.vision.projector.hidden_act", "illava.vision.projector_activation").is_none() {
        costs.push("its projector takes the tanh approximation of GELU, up to 5e-4 off");
    }
    (!costs.is_empty()).then(|| {
        format!(
            "{name}: does not say how its model is run (illava.vision.*), so {}; convert the model again with tools/convert.py to have it as published",
            costs.join(", and ")
        )
    })
}

fn whole(picture: &Pixels) -> [f64; 4] {
    [0.0, 0.0, f64::from(picture.width), f64::from(picture.height)]
}

#[cfg(test)]
mod tests;
