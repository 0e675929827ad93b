//! The comparisons that merge nothing: every input of the encoder is shown smaller, until the span has as many rows as a
//! schedule would leave it. `crop` shows a region in the picture's place before that.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::ComputeLock;
use super::compute_lock::ComputeGuard;
use super::crop::Region;
use super::encode::Inputs;
use super::processor::Cut;
use super::tower::TowerEncoder;
use super::visual::Visual;
use crate::assembly::{self, Arrangement, Survivors};
use crate::error::{Error, Field, Kind, Result};
use crate::media::{self, Pixels};
use crate::native::Tile;
use crate::report::milliseconds;
use crate::schedule::{Plan, Schedule, Strategy};

/// The encoder's inputs after that.
pub(super) struct Smaller {
    pub inputs: Inputs,
    pub arrangement: Arrangement,
    /// Rows of the span at its full size.
    pub unmerged: u32,
    /// Region that is shown in the picture's place.
    pub region: Option<Region>,
    /// Milliseconds that the text-image model took.
    pub scorer_ms: f64,
}

impl TowerEncoder {
    /// `full` are the inputs of `tiles` as they would be without the schedule.
    ///
    /// # Errors
    /// [`Kind::Model`] for an encoder that takes one size only; a strategy that crops refuses videos.
    pub(super) fn smaller(
        &mut self,
        visual: &Visual<'_>,
        full: Inputs,
        tiles: &[Tile],
        arrangement: Arrangement,
        schedule: &Schedule,
        cancelled: &AtomicBool,
    ) -> Result<Smaller> {
        let patches: Vec<u32> = tiles.iter().map(|tile| tile.grid.0 * tile.grid.1).collect();
        let group = self.shape.group.max(1);
        let of_tiles: u32 = Plan::encoder(schedule, &self.shape, &patches)?.iter().map(|p| p.tokens).sum();
        let all: u32 = patches.iter().map(|n| n / group).sum();
        let unmerged = self.rows(arrangement, &self.cells(tiles));
        let target = f64::from(unmerged) * f64::from(of_tiles) / f64::from(all.max(1));

        let vision = self.tower.info();
        if !vision.takes_smaller && !vision.mrope {
            return Err(Error::new(
                Kind::Model,
                format!(
                    "{} {}: this image encoder ({}) takes pictures of {}x{} pixels only; choose another strategy",
                    Field::Strategy,
                    schedule.strategy.name(),
                    vision.projector,
                    vision.image_size,
                    vision.image_size
                ),
            ));
        }
        if schedule.strategy != Strategy::Crop {
            let inputs = self.shown_within(visual, full, tiles, arrangement, target)?;
            return Ok(Smaller { inputs, arrangement, unmerged, region: None, scorer_ms: 0.0 });
        }
        let start = Instant::now();
        let region = self.region(visual, schedule, cancelled)?;
        let scorer_ms = milliseconds(start);
        let picture = visual.picture().ok_or_else(no_videos)?;
        let part = picture.part(region.area);
        let part = match visual {
            Visual::OneOfSeveral(_) => Visual::OneOfSeveral(&part),
            _ => Visual::Image(&part),
        };
        let (inputs, arrangement) = self.cut(&part)?;
        let tiles = self.tiles(&inputs)?;
        let mut inputs = self.shown_within(&part, inputs, &tiles, arrangement, target)?;
        if let Inputs::Cuts(cuts) = &mut inputs {
            let [left, top, ..] = region.area.map(f64::from);
            for Cut { area: [x0, y0, x1, y1], .. } in cuts {
                (*x0, *y0, *x1, *y1) = (*x0 + left, *y0 + top, *x1 + left, *y1 + top);
            }
        }
        Ok(Smaller { inputs, arrangement, unmerged, region: Some(region), scorer_ms })
    }

    /// The region of the picture that the schedule's question is about.
    fn region(&mut self, visual: &Visual<'_>, schedule: &Schedule, cancelled: &AtomicBool) -> Result<Region> {
        let picture = visual.picture().ok_or_else(no_videos)?;
        let (Some(scorer), Some(question)) = (&mut self.scorer, &schedule.question) else {
            return Err(Error::new(Kind::Native, "the strategy crop has no model or no question"));
        };
        let stop = self.stop;
        let mut turn = self.lock.as_ref().map(ComputeLock::take);
        let between = &mut || turn.iter_mut().for_each(ComputeGuard::give_way);
        scorer.region(picture, question, &[stop.flag(), cancelled], between)
    }

    /// `full`, each input at the scale with which the span has the number of rows nearest to `target`.
    fn shown_within(
        &mut self,
        visual: &Visual<'_>,
        full: Inputs,
        tiles: &[Tile],
        arrangement: Arrangement,
        target: f64,
    ) -> Result<Inputs> {
        let sizes = self.sizes(arrangement, &self.cells(tiles), target);
        let pixels = self.tower.info().patch_size * self.shape.group.max(1).isqrt();
        Ok(match full {
            Inputs::Cuts(cuts) => Inputs::Cuts(
                cuts.into_iter()
                    .zip(&sizes)
                    .map(|(cut, size)| self.shown_at(cut, *size, pixels))
                    .collect::<Result<_>>()?,
            ),
            Inputs::Library(_) | Inputs::Marked(_) => self.shown_by_library(visual, &sizes, pixels)?,
        })
    }

    fn cells(&self, tiles: &[Tile]) -> Vec<(u32, u32)> {
        tiles.iter().map(|tile| cells(tile.grid, self.shape.group.max(1))).collect()
    }

    fn rows(&self, arrangement: Arrangement, cells: &[(u32, u32)]) -> u32 {
        let full: Vec<Survivors> = cells.iter().map(|&cells| Survivors::all(cells)).collect();
        let rows = assembly::rows(arrangement, &full, !self.tower.processor.newline.is_empty());
        u32::try_from(rows.len()).unwrap_or(u32::MAX)
    }

    /// Cells across and down of each tile with which the span has the number of rows nearest to
    /// `target`; of two as near, the smaller one.
    fn sizes(&self, arrangement: Arrangement, full: &[(u32, u32)], target: f64) -> Vec<(u32, u32)> {
        let longest = full.iter().map(|&(across, down)| across.max(down)).max().unwrap_or(1);
        // An encoder of any size may be a cell off the picture's shape; one of a fixed size takes squares.
        let slack: &[f64] = if self.tower.info().mrope { &[0.0, -1.0, 1.0] } else { &[0.0] };
        let candidates = (1..=longest).flat_map(|side| {
            slack.iter().map(move |off| scaled(full, f64::from(side) / f64::from(longest), *off))
        });
        let distance = |sizes: &Vec<(u32, u32)>| {
            let rows = self.rows(arrangement, sizes);
            ((f64::from(rows) - target).abs(), rows)
        };
        let nearest = candidates
            .map(|sizes| (distance(&sizes), sizes))
            .min_by(|(a, _), (b, _)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        nearest.map_or_else(|| full.to_vec(), |(_, sizes)| sizes)
    }

    fn shown_at(&self, cut: Cut, (across, down): (u32, u32), pixels: u32) -> Result<Cut> {
        let resize = |picture: &Pixels| {
            media::resize(picture, across * pixels, down * pixels, self.tower.processor.filter)
        };
        Ok(Cut { first: resize(&cut.first)?, second: cut.second.as_ref().map(resize).transpose()?, ..cut })
    }

    /// For files whose pictures llama.cpp cuts: it pads them to a square.
    fn shown_by_library(&mut self, visual: &Visual<'_>, sizes: &[(u32, u32)], pixels: u32) -> Result<Inputs> {
        let (Some(picture), [(across, _)]) = (visual.picture(), sizes) else {
            return Err(Error::new(
                Kind::Model,
                format!(
                    "{}: this file leaves the tiles of a picture to llama.cpp, which has them at one size; convert the model again with tools/convert.py",
                    Field::Strategy
                ),
            ));
        };
        let (first, area) = self.tower.processor.padded(picture, across * pixels)?;
        Ok(Inputs::Cuts(vec![Cut { first, second: None, area }]))
    }
}

/// The refusal of a video.
fn no_videos() -> Error {
    Error::usage(format!(
        "{} crop: it shows one region of a picture, and a video has one in each frame; choose another strategy, or give single frames as pictures",
        Field::Strategy
    ))
}

/// Output cells of a tile of `grid` patches: one a group of patches, which is square.
fn cells(grid: (u32, u32), group: u32) -> (u32, u32) {
    let side = group.isqrt().max(1);
    (grid.0 / side, grid.1 / side)
}

/// `full` at `scale`, the shorter sides longer by `off` cells.
fn scaled(full: &[(u32, u32)], scale: f64, off: f64) -> Vec<(u32, u32)> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let side = |n: u32, off: f64| ((f64::from(n) * scale).round() + off).max(1.0) as u32;
    let tile = |&(across, down): &(u32, u32)| match across >= down {
        true => (side(across, 0.0), side(down, off)),
        false => (side(across, off), side(down, 0.0)),
    };
    full.iter().map(tile).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_nearly_kept() {
        assert_eq!(scaled(&[(27, 27)], 19.0 / 27.0, 0.0), [(19, 19)]);
        assert_eq!(scaled(&[(30, 20), (20, 30)], 0.5, 0.0), [(15, 10), (10, 15)]);
        assert_eq!(scaled(&[(30, 20), (20, 30)], 0.5, -1.0), [(15, 9), (9, 15)]);
        assert_eq!(scaled(&[(30, 1)], 0.1, -1.0), [(3, 1)]);
    }

    #[test]
    fn cells_of_groups() {
        assert_eq!(cells((27, 27), 1), (27, 27));
        assert_eq!(cells((12, 8), 4), (6, 4));
    }
}
