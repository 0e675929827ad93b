//! A film as the question has it shown: Free Video-LLM. Every frame is encoded whole; behind the projector it becomes a few
//! means, and those that the question chooses come once more in detail.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::cache::Key;
use super::compute_lock::ComputeGuard;
use super::crop::{ChosenFrames, FilmScores, FilmShape, largest_of_pairs, means_of_parts, no_such_grid};
use super::encode::Inputs;
use super::outline::Expected;
use super::processor::Cut;
use super::tower::TowerEncoder;
use super::visual::Visual;
use super::{ComputeLock, EncodedImage, Outline, ShownFrame};
use crate::error::{Error, Kind, Result};
use crate::media::{self, Pixels};
use crate::report::milliseconds;
use crate::schedule::{Plan, Schedule, Shape};

/// Rows of one frame, with the tile and the cell that each shows.
#[derive(Default)]
struct Rows {
    embeddings: Vec<f32>,
    places: Vec<Option<(usize, usize)>>,
}

impl Rows {
    fn extend(&mut self, other: Rows) {
        self.embeddings.extend(other.embeddings);
        self.places.extend(other.places);
    }
}

impl TowerEncoder {
    /// Encodes a video, or one picture of those it stands among.
    ///
    /// # Errors
    /// [`Kind::Model`] for a model whose frames cannot be pooled, or the library's own.
    pub(super) fn encode_film(
        &mut self,
        visual: &Visual<'_>,
        schedule: &Schedule,
        cancelled: &AtomicBool,
    ) -> Result<EncodedImage> {
        let start = Instant::now();
        let (frames, shown) = film_of(visual);
        if shown.is_empty() || !self.shape.pools_frames {
            return Err(Error::new(Kind::Model, "this model's frames cannot be pooled, or there are none"));
        }
        let film = self.film(&frames, visual, schedule, cancelled)?;
        let scorer_ms = milliseconds(start);
        let chosen = ChosenFrames::new(&film.cosines);
        let details = match visual {
            Visual::Video(_) => [chosen.asked.as_slice(), &chosen.even].concat(),
            _ => shown.clone().filter(|i| chosen.asked.contains(i) || chosen.even.contains(i)).collect(),
        };
        let all_details = if shown.len() == frames.len() { details.len() } else { chosen.either() };
        let inputs = shown.clone().map(|i| self.square(frames[i])).collect::<Result<Vec<_>>>()?;
        let areas = inputs.iter().map(|cut| cut.area).collect();
        let inputs = Inputs::Cuts(inputs);
        let tiles = self.tiles(&inputs)?;
        let patches: Vec<u32> = tiles.iter().map(|tile| tile.grid.0 * tile.grid.1).collect();
        let plans = Plan::encoder(&Schedule::default(), &self.shape, &patches)?;
        let unmerged = self.film_unmerged(visual, plans.iter().map(|plan| plan.tokens).sum());
        let cells = plans.first().map_or(0, |plan| plan.tokens);
        let whole = f64::from(unmerged) * (frames.len() / shown.len()) as f64;
        let shape = shape(&self.shape, schedule, cells, (frames.len(), all_details, whole))?;
        let width = self.tower.info().n_embd_out as usize;
        let side = cells.isqrt() as usize;
        let preprocess_ms = milliseconds(start);

        let (mut outlines, mut regions) = (Rows::default(), vec![None; plans.len()]);
        let mut image = EncodedImage {
            size: visual.size(),
            positions: schedule.positions,
            strategy: schedule.strategy,
            areas,
            frames_per_tile: visual.frames_per_tile(tiles.len()),
            preprocess_ms,
            scorer_ms,
            tiles,
            ..EncodedImage::default()
        };
        let off = Schedule::default();
        let mut detailed: Vec<Option<Rows>> = Vec::new();
        for (i, plan) in plans.iter().enumerate() {
            if self.stop.is_asked() || cancelled.load(Ordering::Relaxed) {
                return Err(Error::interrupted());
            }
            let frame = shown.start + i;
            let out = self.planned_tile(&inputs, i, plan, (&off, None), cancelled)?;
            image.encoder_ms += out.encoder_ms;
            image.projector_ms += out.projector_ms;
            outlines.extend(outline(&out.embeddings, (i, side, width), shape.coarse()));
            detailed.push(details.contains(&frame).then(|| {
                let region = shape.region(&film.similarity[frame], film.pairs);
                let pairs = largest_of_pairs(&out.embeddings, side, width);
                let rows = region.pairs.iter().flat_map(|pair| &pairs[pair * width..(pair + 1) * width]);
                regions[i] = Some(region.area((frames[frame].width, frames[frame].height)));
                Rows {
                    embeddings: rows.copied().collect(),
                    places: region.cells().map(|cell| Some((i, cell))).collect(),
                }
            }));
        }
        let mut rows = Rows::default();
        for &frame in &details {
            if let Some(Some(detail)) = detailed.get(frame - shown.start) {
                rows.embeddings.extend_from_slice(&detail.embeddings);
                rows.places.extend_from_slice(&detail.places);
            }
        }
        rows.extend(outlines);
        image.frames = shown
            .zip(regions)
            .map(|(i, region)| ShownFrame {
                score: film.cosines[i],
                asked: chosen.asked.contains(&i),
                even: chosen.even.contains(&i),
                region,
                tokens: film.tokens,
            })
            .collect();
        let tokens = u32::try_from(rows.places.len()).unwrap_or(u32::MAX);
        (image.embeddings, image.places) = (rows.embeddings, rows.places);
        image.plan = Plan::of_span(schedule, &self.shape, plans, unmerged, tokens)?;
        image.place_at(schedule.positions, false);
        Ok(image)
    }

    /// A frame squeezed into the encoder's square.
    fn square(&self, frame: &Pixels) -> Result<Cut> {
        let side = self.tower.info().image_size;
        let first = media::resize(frame, side, side, self.tower.processor.filter)?;
        Ok(Cut { first, second: None, area: [0.0, 0.0, f64::from(frame.width), f64::from(frame.height)] })
    }

    /// Rows that the span has with merging off: `all` of the frames' cells for a model that takes no videos.
    fn film_unmerged(&self, visual: &Visual<'_>, all: u32) -> u32 {
        self.outline().unmerged(visual).unwrap_or(all)
    }

    /// The cosines of the film. Those of several pictures are kept until the last of them is encoded.
    fn film(
        &mut self,
        frames: &[&Pixels],
        visual: &Visual<'_>,
        schedule: &Schedule,
        cancelled: &AtomicBool,
    ) -> Result<FilmScores> {
        let (Some(scorer), Some(question)) = (&mut self.scorer, &schedule.question) else {
            return Err(Error::new(
                Kind::Native,
                "a strategy that chooses frames has no model or no question",
            ));
        };
        let key = match visual {
            Visual::Among { all, .. } => Some(key(all, question, schedule)),
            _ => None,
        };
        let is_last = !matches!(visual, Visual::Among { at, .. } if at + 1 < frames.len());
        let known = self.chosen.take().filter(|(known, _)| Some(*known) == key);
        let film = match known {
            Some((_, film)) => film,
            None => {
                let stop = self.stop;
                let mut turn = self.lock.as_ref().map(ComputeLock::take);
                let between = &mut || turn.iter_mut().for_each(ComputeGuard::give_way);
                scorer.film(frames, (question, schedule.grid), &[stop.flag(), cancelled], between)?
            }
        };
        self.chosen = key.filter(|_| !is_last).map(|key| (key, film.clone()));
        Ok(film)
    }
}

impl Outline {
    /// Rows of a span without merging; `None` if the model's own rules do not say.
    pub(super) fn unmerged(&self, visual: &Visual<'_>) -> Option<u32> {
        let expected = self.expected(visual, &Schedule::default());
        (expected != Expected::default()).then_some(expected.about)
    }

    /// Rows of a film under `schedule`, which chooses frames.
    pub(super) fn of_film(&self, visual: &Visual<'_>, schedule: &Schedule) -> Result<Expected> {
        let (frames, shown) = film_of(visual);
        let side = self.patch.max(1) * self.shape.group.isqrt().max(1);
        let cells = (self.processor.side / side).pow(2);
        let all = u32::try_from(shown.len()).unwrap_or(u32::MAX).saturating_mul(cells);
        let whole = self.unmerged(visual).unwrap_or(all);
        let whole = f64::from(whole) * (frames.len() / shown.len().max(1)) as f64;
        let all_details = match visual {
            Visual::Video(_) => ChosenFrames::expected(frames.len()),
            _ => ChosenFrames::expected(frames.len()).min(frames.len()),
        };
        let shape = shape(&self.shape, schedule, cells, (frames.len(), all_details, whole))?;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).max(1);
        Ok(match visual {
            Visual::Video(_) => {
                let about = count(shape.rows(frames.len(), all_details));
                Expected { least: about, about }
            }
            // It is chosen or not.
            _ => Expected { least: count(shape.rows(1, 0)), about: count(shape.rows(1, 1)) },
        })
    }
}

/// The frames that are compared, and those of them that the span shows.
fn film_of<'a>(visual: &Visual<'a>) -> (Vec<&'a Pixels>, std::ops::Range<usize>) {
    match visual {
        Visual::Video(frames) => (frames.clone(), 0..frames.len()),
        Visual::Among { pictures, at, .. } => (pictures.clone(), *at..(at + 1).min(pictures.len())),
        Visual::Image(picture) | Visual::OneOfSeveral(picture) => (vec![picture], 0..1),
    }
}

/// Rows of a film whose frames have `cells` cells: the authors' amounts, or those that fit the schedule's budget for
/// (frames, those in detail, rows without merging).
fn shape(
    model: &Shape,
    schedule: &Schedule,
    cells: u32,
    (frames, details, unmerged): (usize, usize, f64),
) -> Result<FilmShape> {
    let side = cells.isqrt() as usize;
    let own = FilmShape::new(side, schedule.grid).ok_or_else(|| no_such_grid("the image encoder", side))?;
    if schedule.budget.as_ref().is_none_or(|budget| budget.is_off()) {
        return Ok(own);
    }
    let patches = cells * model.group.max(1);
    let left: u32 = Plan::encoder(schedule, model, &[patches])?.iter().map(|plan| plan.tokens).sum();
    Ok(own.within(frames, details, unmerged * f64::from(left) / f64::from(cells.max(1))))
}

/// A frame in outline: `to` x `to` means, each at the place of its middle cell.
fn outline(embeddings: &[f32], (tile, side, width): (usize, usize, usize), to: usize) -> Rows {
    let middle = |i: usize| (2 * i + 1) * side / (2 * to.max(1));
    let places = (0..to * to).map(|i| Some((tile, middle(i / to) * side + middle(i % to)))).collect();
    Rows { embeddings: means_of_parts(embeddings, side, width, to), places }
}

/// Hash of what the cosines of a film depend on; `all` stands for its pictures.
fn key(all: &Key, question: &str, schedule: &Schedule) -> Key {
    let mut hash = blake3::Hasher::new();
    hash.update(all);
    for text in [question, schedule.grid.name()] {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    *hash.finalize().as_bytes()
}
