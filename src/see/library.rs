//! Pictures and videos of projectors that llama.cpp marks: their parts, encoded tile by tile, to the rows of one span.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::content::Shown;
use super::encode::Inputs;
use super::layout::Layout;
use super::tower::TowerEncoder;
use super::visual::Visual;
use super::{EncodedImage, Marked};
use crate::error::{Error, Kind, Result};
use crate::native::{Encoded, Tile};
use crate::report::milliseconds;
use crate::schedule::{Content, Plan, Schedule, TilePlan};

impl TowerEncoder {
    pub(super) fn encode_by_library(
        &mut self,
        visual: &Visual<'_>,
        schedule: &Schedule,
        cancelled: &AtomicBool,
    ) -> Result<EncodedImage> {
        let start = Instant::now();
        let projector = self.tower.info().projector.clone();
        if matches!(visual, Visual::Video(_)) && self.tower.processor.video_sampling().is_none() {
            return Err(Error::new(
                Kind::Model,
                format!("projector {projector}: takes no videos here; give single frames as pictures"),
            ));
        }
        if schedule.strategy.shows_less() {
            return Err(Error::new(
                Kind::Model,
                format!(
                    "projector {projector}: llama.cpp sizes its pictures, so the strategy {} cannot show them smaller; choose another strategy",
                    schedule.strategy.name()
                ),
            ));
        }
        let marked = Marked::new(&mut self.tower.vision, &self.tower.processor, visual)?;
        let full = Layout::new(&marked.parts, self.n_pos);
        let tiles = marked.tiles(&self.tower.vision)?;
        let areas = marked.cuts.iter().map(|cut| cut.area).collect();
        let inputs = Inputs::Marked(marked);
        let (mut plans, shown) = self.library_plans(visual, &inputs, &full, &tiles, schedule)?;
        let preprocess_ms = milliseconds(start);

        let mut encoded = Vec::with_capacity(plans.len());
        for (i, plan) in plans.iter().enumerate() {
            if self.stop.is_asked() || cancelled.load(Ordering::Relaxed) {
                return Err(Error::interrupted());
            }
            encoded.push(self.planned_tile(&inputs, i, plan, (schedule, shown.get(i)), cancelled)?);
        }
        plans.iter_mut().zip(&encoded).for_each(|(plan, tile)| plan.tokens = tile.n_tokens);
        let mut image = EncodedImage {
            size: visual.size(),
            dynamic_size: self.tower.info().dynamic_size,
            frames_per_tile: visual.frames_per_tile(tiles.len()),
            tiles,
            areas,
            positions: schedule.positions,
            strategy: schedule.strategy,
            preprocess_ms,
            encoder_ms: encoded.iter().map(|tile| tile.encoder_ms).sum(),
            projector_ms: encoded.iter().map(|tile| tile.projector_ms).sum(),
            ..EncodedImage::default()
        };
        let unmerged = u32::try_from(full.tokens.len()).unwrap_or(u32::MAX);
        self.lay_out(&mut image, &full, &mut encoded)?;
        let rows = u32::try_from(image.layout.tokens.len()).unwrap_or(u32::MAX);
        image.plan =
            Plan::of_marked_span(schedule, &self.shape, plans, (unmerged, rows), image.layout.marks())?;
        let removed: u32 = image.plan.decoder_r().iter().sum();
        if removed > image.layout.spare() {
            return Err(Error::new(
                Kind::Schedule,
                format!(
                    "merging takes {removed} of {rows} rows, of which {} can go: the others are marks, and one of each tile stays; keep more",
                    image.layout.spare()
                ),
            ));
        }
        image.extent = full.extent;
        image.place_at(schedule.positions, schedule.counts_sizes);
        Ok(image)
    }

    /// The encoder's half for each tile, and what it shows if that decides. A tile of a projector that merges nothing counts its rows.
    fn library_plans(
        &self,
        visual: &Visual<'_>,
        inputs: &Inputs,
        full: &Layout,
        tiles: &[Tile],
        schedule: &Schedule,
    ) -> Result<(Vec<TilePlan>, Vec<Shown>)> {
        let grids = tiles.iter().map(|tile| tile.grid.0 * tile.grid.1);
        let rows = full.tiles.iter().map(|&(_, rows)| u32::try_from(rows).unwrap_or(u32::MAX));
        let patches: Vec<u32> = if self.shape.vit_can_merge { grids.collect() } else { rows.collect() };
        match schedule.auto {
            Some(_) if self.shape.vit_can_merge => {
                let shown = self.shown(visual, inputs, tiles)?;
                let contents: Vec<Content> = shown.iter().map(|shown| shown.content).collect();
                Ok((Plan::encoder_by_content(schedule, &self.shape, &patches, &contents), shown))
            }
            _ => Ok((Plan::encoder(schedule, &self.shape, &patches)?, Vec::new())),
        }
    }

    /// The rows of the span that are left, in their order, with what each stands for and where.
    fn lay_out(&self, image: &mut EncodedImage, full: &Layout, encoded: &mut [Encoded]) -> Result<()> {
        let shown: Vec<Vec<Row>> = encoded.iter().map(tile_rows).collect();
        let kept: Vec<Vec<usize>> =
            shown.iter().map(|rows| rows.iter().map(|row| row.place).collect()).collect();
        let (layout, rows) = full.keep(&kept)?;
        let width = self.tower.info().n_embd_out as usize;
        image.embeddings.resize(layout.tokens.len() * width, 0.0);
        image.places.resize(layout.tokens.len(), None);
        let counted = encoded.iter().any(|tile| !tile.sizes.is_empty());
        image.sizes.resize(if counted { layout.tokens.len() } else { 0 }, 1.0);
        let held = encoded.iter().any(|tile| !tile.held.is_empty());
        image.held.resize(if held { layout.tokens.len() } else { 0 }, 0);
        for (i, (tile, &(first, _))) in encoded.iter_mut().zip(&layout.tiles).enumerate() {
            for (row, at) in shown[i].iter().zip(first..) {
                let Some(token) = row.token else {
                    image.embeddings[at * width..(at + 1) * width].copy_from_slice(&tile.line_break);
                    continue;
                };
                let values = &tile.embeddings[token * width..(token + 1) * width];
                image.embeddings[at * width..(at + 1) * width].copy_from_slice(values);
                image.places[at] = Some((i, tile.kept[token].unsigned_abs() as usize));
                if let Some(&size) = tile.sizes.get(token) {
                    image.sizes[at] = size;
                }
                if let Some(&held) = tile.held.get(token) {
                    image.held[at] = held;
                }
            }
            image.steps.extend(std::mem::take(&mut tile.steps).into_iter().map(|step| (i, step)));
        }
        if self.n_pos == 1 {
            let int = |row| i32::try_from(row).unwrap_or(i32::MAX);
            image.offsets = rows.into_iter().chain([full.tokens.len()]).map(int).collect();
        }
        image.layout = layout;
        Ok(())
    }
}

/// A row of a tile: its place among the tile's unmerged rows, and its number among the tokens; none for a break.
struct Row {
    place: usize,
    token: Option<usize>,
}

/// The rows of a tile in order: its tokens, and breaks behind the lines of the grid that have one left. The grid's last
/// line has no break.
fn tile_rows(tile: &Encoded) -> Vec<Row> {
    let (across, down) = (tile.cells.0.max(1) as usize, tile.cells.1 as usize);
    let breaks = usize::from(!tile.line_break.is_empty());
    let line = |token: usize| tile.kept.get(token).map(|cell| cell.unsigned_abs() as usize / across);
    let mut rows = Vec::with_capacity(tile.kept.len());
    for (token, cell) in tile.kept.iter().enumerate() {
        let (cell, here) = (cell.unsigned_abs() as usize, line(token).unwrap_or(0));
        rows.push(Row { place: cell + here * breaks, token: Some(token) });
        if breaks > 0 && here + 1 < down && line(token + 1) != Some(here) {
            rows.push(Row { place: here * (across + 1) + across, token: None });
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_break_follows_each_line_with_a_token() {
        let rows = |kept: &[i32], line_break: &[f32]| -> Vec<(usize, bool)> {
            let tile = Encoded {
                kept: kept.to_vec(),
                cells: (3, 3),
                line_break: line_break.to_vec(),
                ..Encoded::default()
            };
            tile_rows(&tile).iter().map(|row| (row.place, row.token.is_none())).collect()
        };
        let all: Vec<i32> = (0..9).collect();
        assert_eq!(rows(&all, &[0.5]), (0..11).map(|place| (place, place % 4 == 3)).collect::<Vec<_>>());
        assert_eq!(rows(&all, &[]), (0..9).map(|place| (place, false)).collect::<Vec<_>>());
        assert_eq!(rows(&[1, 7], &[0.5]), [(1, false), (3, true), (9, false)]);
        assert_eq!(rows(&[4], &[0.5]), [(5, false), (7, true)]);
    }
}
