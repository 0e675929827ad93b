//! The ways in which pictures are cut, and how a projector's file says which is its own.

use crate::error::{Error, Result};
use crate::native::{Gguf, VisionInfo};

/// Makes an error of a file's fault.
type BadFile<'a> = &'a dyn Fn(String) -> Error;

/// How pictures are cut.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cutting {
    /// By llama.cpp's own preprocessing: files that do not say what their model wants.
    Library,
    /// Squeezed into a square.
    Square,
    /// Padded to a square with the mean colour (LLaVA-1.5).
    Pad,
    /// The whole and its tiles (LLaVA-NeXT, LLaVA-OneVision).
    Anyres {
        /// Width and height, in the file's order.
        pinpoints: Vec<(u32, u32)>,
        max_tiles: Option<u32>,
        unpad: bool,
    },
    /// Resized to whole patch groups (Qwen-VL).
    Dynamic { pixels: (u64, u64) },
    /// Stretched over the grid of tiles whose shape is nearest, and the whole behind them (InternVL).
    Tiles { tiles: (u32, u32) },
    /// Made smaller until no side is above `longest` pixels, and stretched to whole tokens (Pixtral). `tokens` bounds
    /// these, from below and above.
    Bounded { longest: u32, tokens: (Option<u32>, Option<u32>) },
}

/// Pixels of a picture at least and at most that Qwen2-VL and Qwen2.5-VL were published with, for files that do not say.
pub(super) const AUTHORS_PIXELS: (u64, u64) = (56 * 56, 16_384 * 28 * 28);
/// The same of Qwen3-VL.
pub(super) const QWEN3_PIXELS: (u64, u64) = (256 * 256, 4096 * 4096);
/// Tiles of a picture at least and at most that InternVL was published with.
pub(super) const INTERNVL_TILES: (u32, u32) = (1, 12);
/// Tiles of a picture at most that a file may name.
const MOST_TILES: u32 = 256;

impl Cutting {
    /// That of a projector whose pictures llama.cpp marks. It also cuts those of a family whose rules are not known here.
    ///
    /// # Errors
    /// A key whose value means nothing.
    pub(super) fn marked(
        file: &Gguf,
        vision: &VisionInfo,
        tokens: (Option<u32>, Option<u32>),
        bad: BadFile<'_>,
    ) -> Result<Self> {
        Ok(match vision.projector.as_str() {
            "qwen3vl_merger" => dynamic(file, vision, tokens, QWEN3_PIXELS, bad)?,
            "gemma3" => Cutting::Square,
            "internvl" => {
                let number = |name: &str, usual| file.u32(&format!("clip.vision.{name}")).unwrap_or(usual);
                let least = number("preproc_min_tiles", INTERNVL_TILES.0);
                let most = number("preproc_max_tiles", INTERNVL_TILES.1);
                if !(1..=most).contains(&least) || most > MOST_TILES {
                    return Err(bad(format!(
                        "clip.vision.preproc_min_tiles is {least} and preproc_max_tiles {most}; they must be in order, from 1 to {MOST_TILES}"
                    )));
                }
                Cutting::Tiles { tiles: (least, most) }
            }
            "pixtral" => Cutting::Bounded { longest: vision.image_size, tokens },
            _ => Cutting::Library,
        })
    }

    /// That of a projector whose pictures are laid out here.
    ///
    /// # Errors
    /// As [`Cutting::marked`].
    pub(super) fn of_file(
        file: &Gguf,
        vision: &VisionInfo,
        (min_tokens, max_tokens): (Option<u32>, Option<u32>),
        bad: BadFile<'_>,
    ) -> Result<Self> {
        if vision.mrope {
            return dynamic(file, vision, (min_tokens, max_tokens), AUTHORS_PIXELS, bad);
        }
        let numbers = file.integers("clip.vision.image_grid_pinpoints").unwrap_or_default();
        let side =
            |n: i64| u32::try_from(n).ok().filter(|&n| n > 0 && n.is_multiple_of(vision.image_size.max(1)));
        let pinpoints = numbers
            .as_chunks()
            .0
            .iter()
            .map(|&[across, down]| Some((side(across)?, side(down)?)))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| {
                bad(format!(
                    "clip.vision.image_grid_pinpoints holds sizes that are no multiple of {}",
                    vision.image_size
                ))
            })?;
        let aspect = file
            .string("illava.vision.image_aspect_ratio")
            .or_else(|| file.string("clip.vision.image_aspect_ratio"))
            .or_else(|| (!pinpoints.is_empty()).then(|| "anyres".to_owned()));
        let Some(aspect) = aspect else { return Ok(Cutting::Library) };
        Ok(match aspect.as_str() {
            "pad" => Cutting::Pad,
            "square" => Cutting::Square,
            text if text.starts_with("anyres") => Cutting::Anyres {
                max_tiles: file
                    .u32("illava.vision.anyres_max_tiles")
                    .or_else(|| text.strip_prefix("anyres_max_")?.parse().ok())
                    .filter(|&n| n > 0),
                unpad: file
                    .string("clip.vision.mm_patch_merge_type")
                    .is_none_or(|kind| kind.contains("unpad")),
                pinpoints,
            },
            other => {
                return Err(bad(format!(
                    "illava.vision.image_aspect_ratio is `{other}`; pad, square, anyres and anyres_max_N are known"
                )));
            }
        })
    }

    /// Name in `inspect` of the way pictures are cut.
    pub(super) fn describe(&self) -> String {
        match self {
            Cutting::Library => "as llama.cpp does".to_owned(),
            Cutting::Square => "squeezed into a square".to_owned(),
            Cutting::Pad => "padded to a square".to_owned(),
            Cutting::Anyres { pinpoints, .. } if pinpoints.is_empty() => "the whole alone".to_owned(),
            Cutting::Anyres { pinpoints, max_tiles: Some(most), .. } => {
                format!(
                    "the whole and tiles (anyres, {} shapes), cells of {most} tiles at most",
                    pinpoints.len()
                )
            }
            Cutting::Anyres { pinpoints, .. } => {
                format!("the whole and tiles (anyres, {} shapes)", pinpoints.len())
            }
            Cutting::Dynamic { pixels } => format!("at their own size, {} to {} pixels", pixels.0, pixels.1),
            Cutting::Tiles { tiles } => format!("the whole and {} to {} tiles", tiles.0, tiles.1),
            Cutting::Bounded { longest, .. } => format!("at their own size, sides up to {longest} pixels"),
        }
    }
}

/// Bounds of a picture's pixels: the file's keys, or `usual`, as far as those of its tokens leave them.
fn dynamic(
    file: &Gguf,
    vision: &VisionInfo,
    (min_tokens, max_tokens): (Option<u32>, Option<u32>),
    usual: (u64, u64),
    bad: BadFile<'_>,
) -> Result<Cutting> {
    let bound = |name: &str, usual| file.u32(&format!("clip.vision.{name}")).map_or(usual, u64::from);
    let least = bound("image_min_pixels", usual.0);
    let most = bound("image_max_pixels", usual.1.max(least));
    if least > most {
        return Err(bad(format!("clip.vision.image_min_pixels is {least}, above image_max_pixels {most}")));
    }
    let group = u64::from(vision.patch_size).pow(2) * u64::from(vision.group);
    let most = max_tokens.map_or(most, |tokens| most.min(u64::from(tokens) * group));
    let least = min_tokens.map_or(least, |tokens| least.max(u64::from(tokens) * group));
    Ok(Cutting::Dynamic { pixels: (least.min(most), most) })
}
