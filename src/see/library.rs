//! Pictures of projectors that llama.cpp cuts and marks: its parts, encoded tile by tile, to the rows of one span.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::EncodedImage;
use super::layout::Layout;
use super::tower::TowerEncoder;
use super::visual::Visual;
use crate::error::{Error, Kind, Result};
use crate::native::EncodeOptions;
use crate::report::milliseconds;
use crate::schedule::{Plan, Schedule, Strategy, TilePlan};

impl TowerEncoder {
    pub(super) fn encode_by_library(
        &mut self,
        visual: &Visual<'_>,
        schedule: &Schedule,
        cancelled: &AtomicBool,
    ) -> Result<EncodedImage> {
        let start = Instant::now();
        let projector = self.tower.info().projector.clone();
        let (Visual::Image(pixels) | Visual::OneOfSeveral(pixels)) = visual else {
            return Err(Error::new(
                Kind::Model,
                format!("projector {projector}: takes no videos here; give single frames as pictures"),
            ));
        };
        if schedule.strategy == Strategy::Downsample {
            return Err(Error::new(
                Kind::Model,
                format!(
                    "projector {projector}: llama.cpp sizes its pictures, so none can be downsampled; choose another strategy"
                ),
            ));
        }
        let picture = self.tower.vision.picture(&pixels.rgb, pixels.width, pixels.height)?;
        let layout = Layout::new(&self.tower.vision.parts(&picture)?, self.n_pos);
        let tiles = self.tower.vision.tiles(&picture)?;
        let preprocess_ms = milliseconds(start);

        let options = EncodeOptions {
            steps: &[],
            strategy: super::strategy::native(Strategy::default(), 0),
            reference_grid: false,
            threads: self.tower.options.threads,
            stop: &[self.stop.flag(), cancelled],
            class_scores: false,
            count_sizes: false,
        };
        let width = self.tower.info().n_embd_out as usize;
        let mut image = EncodedImage {
            size: visual.size(),
            dynamic_size: self.tower.info().dynamic_size,
            embeddings: vec![0.0; layout.tokens.len() * width],
            places: vec![None; layout.tokens.len()],
            positions: schedule.positions,
            strategy: schedule.strategy,
            preprocess_ms,
            ..EncodedImage::default()
        };
        let mut plans = Vec::with_capacity(tiles.len());
        for (i, &(first, rows)) in layout.tiles.iter().enumerate() {
            if self.stop.is_asked() || cancelled.load(Ordering::Relaxed) {
                return Err(Error::interrupted());
            }
            let encoded = self.compute(&picture, i, &options)?;
            if encoded.n_tokens as usize != rows {
                return Err(Error::new(
                    Kind::Native,
                    format!("the encoder gave {} tokens where its layout has {rows}", encoded.n_tokens),
                ));
            }
            image.embeddings[first * width..(first + rows) * width].copy_from_slice(&encoded.embeddings);
            (0..rows).for_each(|cell| image.places[first + cell] = Some((i, cell)));
            image.encoder_ms += encoded.encoder_ms;
            image.projector_ms += encoded.projector_ms;
            plans.push(TilePlan {
                patches: encoded.n_tokens,
                steps: Vec::new(),
                tokens: encoded.n_tokens,
                amounts: None,
            });
        }
        let rows = u32::try_from(layout.tokens.len()).unwrap_or(u32::MAX);
        image.plan = Plan::of_span(schedule, &self.shape, plans, rows, rows)?;
        let removed: u32 = image.plan.decoder_r().iter().sum();
        if removed > layout.spare() {
            return Err(Error::new(
                Kind::Schedule,
                format!(
                    "merging takes {removed} of {rows} rows, of which {} can go: the others are marks, and one of each tile stays; keep more",
                    layout.spare()
                ),
            ));
        }
        image.tiles = tiles;
        image.extent = layout.extent;
        image.layout = layout;
        image.place_at(schedule.positions, schedule.counts_sizes);
        Ok(image)
    }
}
