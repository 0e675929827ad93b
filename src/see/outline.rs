//! The tokens that a picture or video will bring, known from its size before it is encoded.

use std::sync::Arc;

use super::Visual;
use super::cutting::Cutting;
use super::library_size::{LibraryCut, cells};
use super::processor::Processor;
use super::video_rule::Treatment;
use crate::assembly::{self, Arrangement, Survivors};
use crate::error::Result;
use crate::media::views;
use crate::native::Cutter;
use crate::schedule::{Grid, Plan, Schedule, Shape, TilePlan};

/// Pixels across and down of each of the encoder's inputs, and how their tokens are arranged.
type Inputs = (Vec<(u32, u32)>, Arrangement);

/// One pair's rules for the tokens of a span.
#[derive(Debug, Clone)]
pub struct Outline {
    pub(super) processor: Processor,
    /// Pixels of a patch's side.
    pub(super) patch: u32,
    pub(super) shape: Shape,
    /// Cuts the pictures that llama.cpp cuts.
    pub(super) cutter: Option<Arc<Cutter>>,
}

/// Tokens of a span that is not encoded yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// No fewer than this.
    pub least: u32,
    /// As many as this, more or less: which cells survive decides what pooling and padding leave.
    pub about: u32,
}

impl Default for Expected {
    fn default() -> Self {
        Self { least: 1, about: 1 }
    }
}

impl Outline {
    /// Tokens that `visual` will bring under `schedule`. A picture that the model cannot take counts one.
    #[must_use]
    pub fn expected(&self, visual: &Visual<'_>, schedule: &Schedule) -> Expected {
        if schedule.strategy.chooses_frames() {
            return self.of_film(visual, schedule).unwrap_or_default();
        }
        // A strategy that acts once is held to the tokens of another schedule.
        let (schedule, sure) = match &schedule.budget {
            Some(budget) => (&**budget, false),
            // The picture's content is not known yet: here it counts whole.
            None => (schedule, schedule.auto.is_none()),
        };
        let (sizes, arrangement) = match self.processor.outline(visual) {
            Ok(Some(inputs)) => inputs,
            Ok(None) => return self.cut_by_library(visual, schedule, sure).unwrap_or_default(),
            Err(_) => return Expected::default(),
        };
        if let Some(cut) = self.marked(visual, &sizes) {
            return of_cut(&cut, schedule, &self.shape, sure).unwrap_or_default();
        }
        let pooled = self.shape.pooled.max(1);
        let side = (self.shape.group.max(1) * pooled).isqrt() * self.patch.max(1);
        let patches =
            |(width, height): (u32, u32)| (width / self.patch.max(1)) * (height / self.patch.max(1));
        let cells: Vec<(u32, u32)> =
            sizes.iter().map(|&(width, height)| (width / side, height / side)).collect();
        let patches: Vec<u32> = sizes.into_iter().map(patches).collect();
        let rows = Plan::encoder(schedule, &self.shape, &patches).and_then(|plans| {
            rows(&cells, &plans, arrangement, schedule.grid, !self.processor.newline.is_empty())
        });
        match rows {
            // Which patches stay decides which pooled cells are empty.
            Ok((about, estimated)) if sure && !estimated && pooled == 1 => {
                Expected { least: about.max(1), about }
            }
            Ok((about, _)) => Expected { least: 1, about },
            Err(_) => Expected::default(),
        }
    }

    /// A picture that is cut here into inputs of `sizes`, and marked by llama.cpp. A video's marks do not count before it is
    /// encoded: the times among them are text, which only the text model's vocabulary makes tokens of.
    fn marked(&self, visual: &Visual<'_>, sizes: &[(u32, u32)]) -> Option<LibraryCut> {
        if matches!(visual, Visual::Video(_)) {
            return None;
        }
        let canvas = self.processor.canvas(visual.size(), sizes)?;
        let (parts, tiles) = self.cutter.as_ref()?.cut(canvas.0, canvas.1).ok()?;
        let cut = LibraryCut::new(&parts, &tiles, &self.shape);
        let patch = self.patch.max(1);
        let tiles: Vec<[u32; 2]> =
            sizes.iter().map(|(across, down)| [across / patch, down / patch]).collect();
        let lines = tiles.iter().map(|tile| cells(tile, self.shape.group * self.shape.pooled).1);
        // A break stands behind each line but the last.
        let breaks = if cut.breaks > 0 { lines.map(|lines| lines.saturating_sub(1)).sum() } else { 0 };
        Some(LibraryCut { tiles, marks: cut.marks, breaks })
    }

    fn cut_by_library(&self, visual: &Visual<'_>, schedule: &Schedule, sure: bool) -> Option<Expected> {
        if matches!(visual, Visual::Video(_)) {
            return None;
        }
        let (width, height) = visual.size();
        let (parts, tiles) = self.cutter.as_ref()?.cut(width, height).ok()?;
        of_cut(&LibraryCut::new(&parts, &tiles, &self.shape), schedule, &self.shape, sure).ok()
    }
}

/// Tokens of a picture that llama.cpp cuts.
fn of_cut(cut: &LibraryCut, schedule: &Schedule, shape: &Shape, sure: bool) -> Result<Expected> {
    let patches: Vec<u32> = cut.tiles.iter().map(|[across, down]| across * down).collect();
    let plans = Plan::encoder(schedule, shape, &patches)?;
    let cells: Vec<(u32, u32)> =
        cut.tiles.iter().map(|tile| cells(tile, shape.group * shape.pooled)).collect();
    let (tokens, _) = rows(&cells, &plans, Arrangement::Plain, schedule.grid, false)?;
    let about = tokens + cut.breaks + cut.marks;
    // Which patches stay decides which pooled cells, and which lines, are empty.
    let merged = plans.iter().any(|plan| plan.steps.iter().any(|step| step.r > 0));
    let sure = sure && !(merged && (shape.pooled > 1 || cut.breaks > 0));
    Ok(Expected { least: if sure { about.max(1) } else { 1 }, about })
}

impl Processor {
    /// The size that llama.cpp cuts into as many tiles as a picture of `size` is cut into here.
    fn canvas(&self, size: (u32, u32), sizes: &[(u32, u32)]) -> Option<(u32, u32)> {
        match self.cutting {
            Cutting::Tiles { tiles } => {
                let grid = views::nearest_grid(size, self.side, tiles);
                Some((grid.0 * self.side, grid.1 * self.side))
            }
            _ => sizes.first().copied(),
        }
    }

    /// The inputs that [`Processor::prepare`] makes; `None` if the library cuts.
    ///
    /// # Errors
    /// As [`Processor::prepare`].
    pub(super) fn outline(&self, visual: &Visual<'_>) -> Result<Option<Inputs>> {
        let square = (self.side, self.side);
        let picture = visual.size();
        Ok(match (visual, &self.cutting, &self.video_rule) {
            (Visual::Video(frames), _, Some(rule)) => match rule.treatment {
                Treatment::Frames { stride } => {
                    Some((vec![square; frames.len()], Arrangement::Video { stride }))
                }
                Treatment::Pairs { .. } | Treatment::Stamped { .. } if frames.is_empty() => None,
                Treatment::Pairs { .. } | Treatment::Stamped { .. } => {
                    let size = self.frame_size(picture, frames.len())?;
                    Some((vec![size; frames.len().div_ceil(2)], Arrangement::Plain))
                }
            },
            (Visual::Video(_), _, None) | (_, Cutting::Library, _) => None,
            (Visual::OneOfSeveral(_) | Visual::Among { .. }, _, _) if self.counts_pictures() => {
                Some((vec![square], Arrangement::View))
            }
            (_, Cutting::Square | Cutting::Pad, _) => Some((vec![square], Arrangement::Plain)),
            (_, Cutting::Dynamic { pixels }, _) => {
                Some((vec![views::smart_size(picture, self.factor, *pixels)?], Arrangement::Plain))
            }
            (_, Cutting::Tiles { tiles }, _) => {
                let grid = views::nearest_grid(picture, self.side, *tiles);
                let tiles = if grid == (1, 1) { 0 } else { grid.0 * grid.1 };
                Some((vec![square; tiles as usize + 1], Arrangement::Plain))
            }
            (_, Cutting::Bounded { longest, tokens }, _) => {
                Some((vec![self.bounded(picture, *longest, *tokens)], Arrangement::Plain))
            }
            (_, Cutting::Anyres { pinpoints, max_tiles, unpad }, _) => {
                let arrange = |grid| match unpad {
                    true => Arrangement::Anyres { grid, picture, max_tiles: *max_tiles },
                    false => Arrangement::Plain,
                };
                let pinpoints = self.affordable(pinpoints, &arrange);
                match views::best_resolution(picture, &pinpoints) {
                    None => Some((vec![square], Arrangement::Plain)),
                    Some(best) => {
                        let grid = (best.0 / self.side, best.1 / self.side);
                        Some((vec![square; 1 + (grid.0 * grid.1) as usize], arrange(grid)))
                    }
                }
            }
        })
    }
}

/// Rows of a span whose tiles have `cells` output cells, with every tile's survivors spread evenly over them, and
/// whether that is an estimate: which cells survive decides what lies in the padding and what shares a pooled cell.
pub(crate) fn rows(
    cells: &[(u32, u32)],
    plans: &[TilePlan],
    arrangement: Arrangement,
    grid: Grid,
    newline: bool,
) -> Result<(u32, bool)> {
    let merged = plans.iter().any(|plan| plan.steps.iter().any(|step| step.r > 0));
    let gridded = matches!(arrangement, Arrangement::Anyres { .. } | Arrangement::Video { .. });
    let relabel = merged && gridded && grid == Grid::Reference;
    let spread = |&cells: &(u32, u32), plan: &TilePlan| {
        if relabel {
            return assembly::relabelled(plan.tokens);
        }
        let all = u64::from(cells.0 * cells.1);
        let kept = (0..plan.tokens)
            .map(|i| u32::try_from(u64::from(i) * all / u64::from(plan.tokens.max(1))).unwrap_or(0));
        Ok(Survivors { cells, kept: kept.collect() })
    };
    let survivors = cells.iter().zip(plans).map(|(c, p)| spread(c, p)).collect::<Result<Vec<Survivors>>>()?;
    let rows = assembly::rows(arrangement, &survivors, newline).len();
    Ok((u32::try_from(rows).unwrap_or(u32::MAX), merged && gridded && !relabel))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Pixels;
    use crate::media::video::Sampling;
    use crate::see::video_rule::VideoRule;

    fn processor(cutting: Cutting, treatment: Option<Treatment>) -> Processor {
        let sampling = Sampling::Uniform { frames: 4, multiple: 1 };
        let rule = treatment.map(|treatment| VideoRule { sampling, treatment });
        Processor::of_parts(cutting, rule, 28, 14)
    }

    /// Inputs cut from the pixels have the sizes that are foretold without them.
    #[test]
    fn sizes_are_those_of_the_cuts() {
        let pinpoints = vec![(28, 56), (56, 28), (56, 56), (84, 28)];
        let anyres = |max_tiles, unpad| Cutting::Anyres { pinpoints: pinpoints.clone(), max_tiles, unpad };
        let frames = Some(Treatment::Frames { stride: 2 });
        let pairs = Some(Treatment::Pairs { pixels: (784, 12_544), total: 25_088, clock: false });
        for (cutting, treatment) in [
            (Cutting::Square, None),
            (Cutting::Pad, None),
            (Cutting::Tiles { tiles: (1, 6) }, None),
            (Cutting::Bounded { longest: 64, tokens: (None, None) }, None),
            (Cutting::Bounded { longest: 64, tokens: (None, Some(1)) }, None),
            (Cutting::Dynamic { pixels: (784, 12_544) }, Some(Treatment::Stamped { pixels: (784, 25_088) })),
            (Cutting::Dynamic { pixels: (784, 12_544) }, pairs),
            (anyres(Some(9), true), frames),
            (anyres(None, true), None),
            (anyres(None, false), None),
            (Cutting::Anyres { pinpoints: Vec::new(), max_tiles: None, unpad: true }, None),
        ] {
            let processor = processor(cutting.clone(), treatment);
            for (width, height) in [(20, 30), (64, 48), (300, 40), (41, 197), (28, 28), (100, 100)] {
                let rgb = vec![7; (width * height * 3) as usize];
                let pixels = Pixels { width, height, rgb, remark: None, moment: None };
                let mut visuals = vec![Visual::Image(&pixels), Visual::OneOfSeveral(&pixels)];
                if treatment.is_some() {
                    visuals.extend([1, 2, 5].map(|n| Visual::Video(vec![&pixels; n])));
                }
                for visual in visuals {
                    let prepared = processor.prepare(&visual).unwrap().unwrap();
                    let sizes: Vec<_> =
                        prepared.cuts.iter().map(|cut| (cut.first.width, cut.first.height)).collect();
                    let outline = processor.outline(&visual).unwrap().unwrap();
                    assert_eq!(outline, (sizes, prepared.arrangement), "{cutting:?} {width}x{height}");
                }
            }
        }
    }

    #[test]
    fn merging_counts() {
        let so400m = crate::schedule::so400m();
        let shape = Shape { vit_layers: 4, vit_layers_run: 4, vit_tokens: 4, llm_layers: 4, ..so400m };
        let outline = Outline {
            processor: processor(Cutting::Square, None),
            patch: 14,
            shape: shape.clone(),
            cutter: None,
        };
        let pixels = Pixels { width: 9, height: 9, rgb: vec![0; 243], remark: None, moment: None };
        let expected = |schedule: &Schedule| outline.expected(&Visual::Image(&pixels), schedule);
        assert_eq!(expected(&Schedule::default()), Expected { least: 4, about: 4 });
        let choice = crate::schedule::Choice {
            vit: Some(crate::schedule::Half {
                layers: vec![1],
                amounts: vec![crate::schedule::Amount::Count(1)],
            }),
            ..Default::default()
        };
        let schedule = crate::schedule::select(&choice, &shape, None).unwrap();
        assert_eq!(expected(&schedule), Expected { least: 3, about: 3 });
    }

    #[test]
    fn rows_of_a_cut_picture_count() {
        let shape = Shape { group: 4, vit_tokens: 48, vit_layers_run: 27, ..crate::schedule::so400m() };
        let cut = |breaks| LibraryCut { tiles: vec![[8, 6]], marks: 3, breaks };
        let of = |breaks, schedule: &Schedule| of_cut(&cut(breaks), schedule, &shape, true).unwrap();
        assert_eq!(of(2, &Schedule::default()), Expected { least: 17, about: 17 });
        let choice = crate::schedule::Choice {
            vit: Some(crate::schedule::Half {
                layers: vec![3],
                amounts: vec![crate::schedule::Amount::Count(16)],
            }),
            ..Default::default()
        };
        let merged = crate::schedule::select(&choice, &shape, None).unwrap();
        assert_eq!(of(0, &merged), Expected { least: 11, about: 11 }, "eight cells of twelve");
        assert_eq!(of(2, &merged), Expected { least: 1, about: 13 }, "a line may lose its break");
    }
}
