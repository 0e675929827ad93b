//! One visual span from pixels to rows: cut, encode tile by tile, put together.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::content::Shown;
use super::processor::Cut;
use super::tower::TowerEncoder;
use super::visual::Visual;
use super::{EncodedImage, Marked, content};
use crate::assembly::{self, Arrangement, Row, Survivors};
use crate::error::{Error, Kind, Result};
use crate::native::{EncodeOptions, Encoded, PreprocessedImage, Tile};
use crate::report::milliseconds;
use crate::schedule::{Content, Grid, Plan, Schedule, Strategy, TilePlan, TowerScore};

/// The encoder's inputs.
pub(super) enum Inputs {
    /// Cut by the library.
    Library(PreprocessedImage),
    /// Marked by the library.
    Marked(Marked),
    Cuts(Vec<Cut>),
}

impl TowerEncoder {
    pub(super) fn encode_visual(
        &mut self,
        visual: &Visual<'_>,
        schedule: &Schedule,
        cancelled: &AtomicBool,
    ) -> Result<EncodedImage> {
        if self.tower.info().by_library {
            return self.encode_by_library(visual, schedule, cancelled);
        }
        if schedule.strategy.chooses_frames() {
            return self.encode_film(visual, schedule, cancelled);
        }
        let start = Instant::now();
        let (mut inputs, mut arrangement) = self.cut(visual)?;
        let mut tiles = self.tiles(&inputs)?;
        let mut full = None;
        let (mut region, mut scorer_ms) = (None, 0.0);
        if schedule.strategy.shows_less() {
            let smaller = self.smaller(visual, inputs, &tiles, arrangement, schedule, cancelled)?;
            (inputs, arrangement, full) = (smaller.inputs, smaller.arrangement, Some(smaller.unmerged));
            (region, scorer_ms) = (smaller.region, smaller.scorer_ms);
            tiles = self.tiles(&inputs)?;
        }
        let preprocess_ms = milliseconds(start);
        let patches: Vec<u32> = tiles.iter().map(|tile| tile.grid.0 * tile.grid.1).collect();
        let mut shown = Vec::new();
        let plans = match full {
            Some(_) => Plan::encoder(&Schedule::default(), &self.shape, &patches)?,
            None if schedule.auto.is_some() => {
                shown = self.shown(visual, &inputs, &tiles)?;
                let contents: Vec<Content> = shown.iter().map(|shown| shown.content).collect();
                Plan::encoder_by_content(schedule, &self.shape, &patches, &contents)
            }
            None => Plan::encoder(schedule, &self.shape, &patches)?,
        };
        let plans = match schedule.strategy {
            Strategy::Hired => self.spread(&inputs, plans, (arrangement, schedule), cancelled)?,
            _ => plans,
        };
        if self.n_pos > 1 && tiles.len() != 1 && !matches!(visual, Visual::Video(_)) {
            return Err(Error::new(
                Kind::Model,
                format!("{} tiles of one picture have no (t, h, w) positions", tiles.len()),
            ));
        }
        let mut encoded = Vec::with_capacity(tiles.len());
        for (i, plan) in plans.iter().enumerate() {
            if self.stop.is_asked() || cancelled.load(Ordering::Relaxed) {
                return Err(Error::interrupted());
            }
            encoded.push(self.planned_tile(&inputs, i, plan, (schedule, shown.get(i)), cancelled)?);
        }
        let mut image = EncodedImage {
            size: visual.size(),
            dynamic_size: self.tower.info().dynamic_size,
            tiles,
            plan: Plan::default(),
            embeddings: Vec::new(),
            cells: Vec::new(),
            times: Vec::new(),
            places: Vec::new(),
            sizes: Vec::new(),
            held: Vec::new(),
            offsets: Vec::new(),
            layout: super::Layout::default(),
            positions: schedule.positions,
            counts_sizes: false,
            strategy: schedule.strategy,
            region,
            frames: Vec::new(),
            areas: match &inputs {
                Inputs::Library(_) | Inputs::Marked(_) => Vec::new(),
                Inputs::Cuts(cuts) => cuts.iter().map(|cut| cut.area).collect(),
            },
            frames_per_tile: visual.frames_per_tile(plans.len()),
            extent: 0,
            steps: encoded
                .iter_mut()
                .enumerate()
                .flat_map(|(i, tile)| std::mem::take(&mut tile.steps).into_iter().map(move |s| (i, s)))
                .collect(),
            preprocess_ms,
            scorer_ms,
            encoder_ms: encoded.iter().map(|tile| tile.encoder_ms).sum(),
            projector_ms: encoded.iter().map(|tile| tile.projector_ms).sum(),
        };
        if self.n_pos > 1 {
            let times = self.tower.processor.times(visual, encoded.len());
            place(&mut image, &encoded, schedule.grid, &times);
            let (across, down) = encoded.first().map_or((0, 0), |tile| tile.cells);
            let side = i32::try_from(across.max(down)).unwrap_or(i32::MAX);
            image.extent = side.max(times.last().map_or(0, |last| last + 1));
        }
        let (tokens_unmerged, tokens) = self.assemble(&mut image, encoded, arrangement, schedule.grid)?;
        image.plan = Plan::of_span(schedule, &self.shape, plans, full.unwrap_or(tokens_unmerged), tokens)?;
        image.place_at(schedule.positions, schedule.counts_sizes);
        Ok(image)
    }

    pub(super) fn cut(&mut self, visual: &Visual<'_>) -> Result<(Inputs, Arrangement)> {
        if let Some(prepared) = self.tower.processor.prepare(visual)? {
            return Ok((Inputs::Cuts(prepared.cuts), prepared.arrangement));
        }
        let Some(pixels) = visual.picture() else {
            return Err(Error::new(Kind::Native, "a video was not cut into frames"));
        };
        let picture = self.tower.vision.picture(&pixels.rgb, pixels.width, pixels.height)?;
        Ok((Inputs::Library(picture), Arrangement::Plain))
    }

    pub(super) fn tiles(&self, inputs: &Inputs) -> Result<Vec<Tile>> {
        let patch = self.tower.info().patch_size.max(1);
        match inputs {
            Inputs::Library(picture) => self.tower.vision.tiles(picture),
            Inputs::Marked(marked) => marked.tiles(&self.tower.vision),
            Inputs::Cuts(cuts) => Ok(cuts
                .iter()
                .map(|cut| Tile {
                    size: (cut.first.width, cut.first.height),
                    grid: (cut.first.width / patch, cut.first.height / patch),
                })
                .collect()),
        }
    }

    /// Returns the content of each input. If the library cuts a picture, the whole is looked at, at the size of its inputs.
    pub(super) fn shown(&self, visual: &Visual<'_>, inputs: &Inputs, tiles: &[Tile]) -> Result<Vec<Shown>> {
        let side = self.tower.info().patch_size * self.shape.group.isqrt().max(1);
        let cuts = match inputs {
            Inputs::Cuts(cuts) => cuts.as_slice(),
            Inputs::Marked(marked) => &marked.cuts,
            Inputs::Library(_) => &[],
        };
        match visual.picture() {
            _ if !cuts.is_empty() => Ok(cuts
                .iter()
                .map(|cut| {
                    let first = content::of(&cut.first, side);
                    match &cut.second {
                        Some(second) => first.and(&content::of(second, side)),
                        None => first,
                    }
                })
                .collect()),
            Some(picture) => tiles
                .iter()
                .map(|tile| {
                    let (width, height) = tile.size;
                    let shown = match width == height {
                        true => self.tower.processor.padded(picture, width)?.0,
                        false => crate::media::resize(picture, width, height, self.tower.processor.filter)?,
                    };
                    Ok(content::of(&shown, side))
                })
                .collect(),
            None => Ok(Vec::new()),
        }
    }

    /// Encodes one tile as its plan has it, and counts the cells that each token stands for. If its content is known,
    /// cells with edges merge last.
    pub(super) fn planned_tile(
        &mut self,
        inputs: &Inputs,
        i: usize,
        plan: &TilePlan,
        (schedule, shown): (&Schedule, Option<&Shown>),
        cancelled: &AtomicBool,
    ) -> Result<Encoded> {
        let steps: Vec<(u32, u32)> = plan.steps.iter().map(|step| (step.layer, step.r)).collect();
        let stop = self.stop;
        let shown = shown.filter(|_| schedule.strategy == Strategy::Bipartite);
        let options = EncodeOptions {
            steps: &steps,
            // Every tile has a draw of its own.
            strategy: super::strategy::native(schedule.strategy, i),
            reference_grid: schedule.grid == Grid::Reference,
            threads: self.tower.options.threads,
            stop: &[stop.flag(), cancelled],
            class_scores: schedule.vit_score == TowerScore::Class,
            count_sizes: schedule.vit_sizes,
            held: shown.map_or(&[], |shown| &shown.edges),
        };
        let mut out = self.tile(inputs, i, &options)?;
        // Which patches stay decides which pooled cells are empty.
        let fits = match self.shape.pooled > 1 && !plan.steps.is_empty() {
            true => out.n_tokens <= plan.tokens,
            false => out.n_tokens == plan.tokens,
        };
        if !fits {
            return Err(Error::new(
                Kind::Native,
                format!("the encoder gave {} tokens, the plan has {}", out.n_tokens, plan.tokens),
            ));
        }
        let side = self.shape.pooled.max(1).isqrt() as usize;
        out.sizes = super::sizes::of_tile(&out, side);
        if let Some(shown) = shown {
            out.held = shown.of_tokens(&out.kept, side, out.cells.0 as usize);
        }
        Ok(out)
    }

    pub(super) fn tile(&mut self, inputs: &Inputs, i: usize, options: &EncodeOptions<'_>) -> Result<Encoded> {
        let cut = match inputs {
            Inputs::Library(picture) => return self.compute(picture, i, options),
            Inputs::Marked(marked) => {
                let (picture, tile) = marked.place(i);
                return self.compute(picture, tile, options);
            }
            Inputs::Cuts(cuts) => &cuts[i],
        };
        let (width, height) = (cut.first.width, cut.first.height);
        let first = self.tower.processor.normalised(&cut.first);
        let picture = match &cut.second {
            None => self.tower.vision.picture_from_pixels(&first, width, height)?,
            Some(second) => {
                let second = self.tower.processor.normalised(second);
                self.tower.vision.picture_from_frames(&first, &second, width, height)?
            }
        };
        self.compute(&picture, 0, options)
    }

    fn compute(
        &mut self,
        picture: &PreprocessedImage,
        tile: usize,
        options: &EncodeOptions<'_>,
    ) -> Result<Encoded> {
        let Some(lock) = &self.lock else { return self.tower.vision.encode(picture, tile, options) };
        let mut guard = lock.take();
        self.tower.vision.encode_in_pieces(picture, tile, options, || guard.give_way())
    }

    /// The span's embeddings; how many rows it would have without merging, and how many it has.
    fn assemble(
        &self,
        image: &mut EncodedImage,
        encoded: Vec<Encoded>,
        arrangement: Arrangement,
        grid: Grid,
    ) -> Result<(u32, u32)> {
        let newline = &self.tower.processor.newline;
        let full: Vec<Survivors> = encoded.iter().map(|tile| Survivors::all(tile.cells)).collect();
        let unmerged = count(assembly::slots(arrangement, &full, !newline.is_empty()).len());
        let cell = |tile: usize, token: usize| (tile, encoded[tile].kept[token].unsigned_abs() as usize);
        if arrangement == Arrangement::Plain {
            if encoded.len() > 1 {
                let tiles = encoded.iter().enumerate();
                image.places =
                    tiles.flat_map(|(i, tile)| (0..tile.kept.len()).map(move |t| Some(cell(i, t)))).collect();
            }
            let tokens = encoded.iter().map(|tile| tile.n_tokens).sum();
            if self.n_pos == 1 {
                let mut first = 0;
                for tile in &encoded {
                    image.offsets.extend(tile.kept.iter().map(|cell| first + cell));
                    first += i32::try_from(tile.cells.0 * tile.cells.1).unwrap_or(i32::MAX);
                }
                image.offsets.push(first);
            }
            image.sizes = encoded.iter().flat_map(|tile| tile.sizes.iter().copied()).collect();
            image.held = encoded.iter().flat_map(|tile| tile.held.iter().copied()).collect();
            image.embeddings = encoded.into_iter().flat_map(|tile| tile.embeddings).collect();
            return Ok((unmerged, tokens));
        }
        let relabel = grid == Grid::Reference && arrangement != Arrangement::View;
        let survivors = encoded
            .iter()
            .map(|tile| {
                if relabel && tile.n_tokens != tile.cells.0 * tile.cells.1 {
                    return assembly::relabelled(tile.n_tokens);
                }
                let kept = tile.kept.iter().map(|&cell| cell.unsigned_abs()).collect();
                Ok(Survivors { cells: tile.cells, kept })
            })
            .collect::<Result<Vec<_>>>()?;
        let slots = assembly::slots(arrangement, &survivors, !newline.is_empty());
        let end = slots.len();
        let (offsets, rows): (Vec<usize>, Vec<Row>) =
            slots.into_iter().enumerate().filter_map(|(place, row)| Some((place, row?))).unzip();
        if self.n_pos == 1 {
            let int = |place| i32::try_from(place).unwrap_or(i32::MAX);
            image.offsets = offsets.into_iter().chain([end]).map(int).collect();
        }
        image.places =
            rows.iter().map(|row| row.weightiest().map(|(tile, token)| cell(tile, token))).collect();
        if encoded.iter().all(|tile| !tile.sizes.is_empty()) {
            let sizes: Vec<&[f32]> = encoded.iter().map(|tile| tile.sizes.as_slice()).collect();
            image.sizes = assembly::sizes(&rows, &sizes);
        }
        if encoded.iter().all(|tile| !tile.held.is_empty()) {
            let held = |row: &Row| row.weightiest().map_or(0, |(tile, token)| encoded[tile].held[token]);
            image.held = rows.iter().map(held).collect();
        }
        let embeddings: Vec<Vec<f32>> = encoded.into_iter().map(|tile| tile.embeddings).collect();
        let width = self.tower.info().n_embd_out as usize;
        image.embeddings = assembly::gather(&rows, &embeddings, newline, width);
        Ok((unmerged, count(rows.len())))
    }
}

/// Cells and times of every token, for (t, h, w) positions; `times` are those of the tiles.
fn place(image: &mut EncodedImage, encoded: &[Encoded], grid: Grid, times: &[i32]) {
    let Some(first) = encoded.first() else { return };
    let int = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    let (across, down) = (int(first.cells.0).max(1), int(first.cells.1).max(1));
    let is_video = encoded.len() > 1;
    let mut push = |tile: usize, cell: i32| {
        image.cells.push((cell / across, cell % across));
        if is_video {
            image.times.push(times.get(tile).copied().unwrap_or(0));
        }
    };
    match grid {
        Grid::Faithful => {
            for (i, tile) in encoded.iter().enumerate() {
                tile.kept.iter().for_each(|&cell| push(i, cell));
            }
        }
        // The survivors of the whole span take its first positions, in order.
        Grid::Reference => {
            let total: u32 = encoded.iter().map(|tile| tile.n_tokens).sum();
            let cells = across * down;
            (0..int(total)).for_each(|i| push((i / cells).unsigned_abs() as usize, i % cells));
        }
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
