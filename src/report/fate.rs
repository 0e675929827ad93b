//! Fate of every cell, from a trace: when it was merged, into which, and the attention it received.
//!
//! A cell is one token of the encoder's output grid if nothing were merged: a patch, or a 2x2 group of
//! patches if the projector joins them before anything is ranked.

use serde::{Deserialize, Serialize};

use super::trace::{Half, ImageTile, PromptPart, Step, Trace};
use crate::error::{Error, Kind, Result};

/// Cells times stages of all pictures of one trace: 2 GB of memory. A trace of ours stays below a tenth of
/// it. A few bytes of another file may claim any grid.
const MAX_SCORES: usize = 1 << 27;
/// Largest side of a picture in pixels, and largest ratio of its sides: panels all have one width.
const MAX_SIDE: u32 = 1 << 16;
const MAX_ASPECT: u32 = 256;

/// One picture, step by step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fate {
    /// Number of the picture in the request.
    pub index: usize,
    /// Pixels of the picture as it was given, upright.
    pub width: u32,
    pub height: u32,
    /// Strategy, as in the trace.
    pub strategy: String,
    /// Stages. Number 0 is before any step; then come the encoder's, layer by layer, then the decoder's.
    pub stages: Vec<Stage>,
    pub tiles: Vec<TileFate>,
    /// Region shown in the picture's place: left, top, right, bottom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<[u32; 4]>,
}

/// Picture after one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Layer; `None` before any step.
    pub half: Option<Half>,
    pub layer: u32,
    /// Cells alive.
    pub left: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TileFate {
    pub tile: usize,
    /// Cells across and down.
    pub columns: u32,
    pub rows: u32,
    /// Part of the picture that the tile shows: left, top, right, bottom.
    pub pixels: Option<[f64; 4]>,
    /// First frame of a video that the tile shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<usize>,
    /// Region of a chosen frame that is shown in detail: left, top, right, bottom in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<[u32; 4]>,
    /// Cosine of a frame and the question, if the question chooses frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
    /// [rows * columns], row by row.
    pub cells: Vec<Cell>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Stage that merged the cell; 0 for a cell kept to the end.
    pub gone: usize,
    /// Later stages that have the cell again: each stretch of layers may choose for itself what its cache keeps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub returns: Vec<usize>,
    /// Tile and cell that hold it since; none if it was dropped, or if the trace does not say (LOOK-M).
    pub into: Option<(usize, usize)>,
    /// Attention received, for each stage but the first; `None` if the cell was not ranked.
    pub scores: Vec<Option<f32>>,
}

impl Cell {
    /// Whether the cell is still there after `stage`.
    #[must_use]
    pub fn is_left(&self, stage: usize) -> bool {
        self.gone == 0 || self.gone > stage || self.returns.contains(&stage)
    }

    /// Score that the ranking of `stage` saw, or the last one before it that ranked this cell. Before any
    /// step it is the score that the first ranking will see.
    #[must_use]
    pub fn score(&self, stage: usize) -> Option<f32> {
        self.scores.iter().take(stage.max(1)).rev().find_map(|score| *score)
    }
}

/// Returns the fate of every picture of `trace`, in its order.
///
/// # Errors
/// [`Kind::File`] for more cells and steps than a trace can have.
pub fn fates(trace: &Trace) -> Result<Vec<Fate>> {
    let mut room = MAX_SCORES;
    let pictures = trace.images.chunk_by(|one, next| one.index == next.index);
    pictures.enumerate().map(|(span, tiles)| fate(trace, tiles, span, &mut room)).collect()
}

/// Returns the fate of the picture that `images`, at least one, are tiles of. `room` shrinks by its scores.
fn fate(trace: &Trace, images: &[ImageTile], span: usize, room: &mut usize) -> Result<Fate> {
    let (index, width, height) = (images[0].index, images[0].width, images[0].height);
    let (short, long) = (width.min(height), width.max(height));
    if long > MAX_SIDE || long / short.max(1) > MAX_ASPECT {
        let text = format!(
            "the trace's picture {} is {width}x{height} pixels; drawn are sides up to {MAX_SIDE} and up to 1:{MAX_ASPECT}",
            index.saturating_add(1)
        );
        return Err(Error::new(Kind::File, text));
    }
    let steps = |half: Half| trace.steps.iter().filter(move |step| step.half == half);
    let encoder: Vec<&Step> = steps(Half::Encoder).filter(|step| step.image == Some(index)).collect();
    let decoder: Vec<&Step> = steps(Half::Decoder).filter(|step| step.span == Some(span)).collect();
    let mut layers: Vec<u32> = encoder.iter().map(|step| step.layer).collect();
    layers.sort_unstable();
    layers.dedup();
    // A picture that the decoder takes in several spans has a step for each of them at one layer.
    let mut merges: Vec<u32> = decoder.iter().map(|step| step.layer).collect();
    merges.sort_unstable();
    merges.dedup();
    let total = layers.len() + merges.len();

    // A cell without a score takes as much as one with three.
    let scores =
        |image: &ImageTile| image.grid.iter().fold(total + 3, |n, &side| n.saturating_mul(side as usize));
    let wanted = images.iter().map(scores).fold(0, usize::saturating_add);
    *room = room.checked_sub(wanted).ok_or_else(|| {
        let text = format!(
            "the trace's picture {} has {wanted} cells and scores, all pictures at most {MAX_SCORES}; give a trace of `illava run`",
            index.saturating_add(1)
        );
        Error::new(Kind::File, text)
    })?;
    let mut tiles = Vec::with_capacity(images.len());
    let mut survivors = Vec::with_capacity(images.len());
    for image in images {
        let own: Vec<&Step> =
            encoder.iter().copied().filter(|step| step.tile.unwrap_or(0) == image.tile).collect();
        let (mut tile, mut alive) = empty(image, &own, total);
        for step in own {
            let stage = layers.partition_point(|&layer| layer < step.layer) + 1;
            alive = encoder_step(&mut tile, &alive, step, stage);
        }
        survivors.push(alive);
        tiles.push(tile);
    }

    if let Some(rows) = span_rows(trace, span, &tiles, &survivors).filter(|_| !decoder.is_empty()) {
        for step in &decoder {
            let stage = layers.len() + merges.partition_point(|&layer| layer < step.layer) + 1;
            decoder_step(&mut tiles, &rows, step, stage);
        }
    }

    let stage = |number: usize, half: Option<Half>, layer: u32| Stage {
        half,
        layer,
        left: tiles.iter().flat_map(|tile| &tile.cells).filter(|cell| cell.is_left(number)).count(),
    };
    let mut stages = vec![stage(0, None, 0)];
    stages.extend(layers.iter().enumerate().map(|(i, &layer)| stage(i + 1, Some(Half::Encoder), layer)));
    stages.extend(
        merges.iter().enumerate().map(|(k, &layer)| stage(layers.len() + k + 1, Some(Half::Decoder), layer)),
    );
    let strategy = trace.strategy.clone();
    Ok(Fate {
        index,
        width,
        height,
        strategy,
        stages,
        tiles,
        region: images[0].region.filter(|_| images[0].score.is_none()),
    })
}

fn empty(image: &ImageTile, steps: &[&Step], stages: usize) -> (TileFate, Vec<usize>) {
    let [across, down] = image.grid;
    // The unit of the first ranking tells whether patches or 2x2 groups are merged.
    let grouped =
        steps.first().is_some_and(|step| u64::from(step.n_in) * 4 == u64::from(across) * u64::from(down));
    let side = if grouped { 2 } else { 1 };
    let (columns, rows) = (across / side, down / side);
    let n = columns as usize * rows as usize;
    let cell = Cell { gone: 0, returns: Vec::new(), into: None, scores: vec![None; stages] };
    let tile = TileFate {
        tile: image.tile,
        columns,
        rows,
        pixels: image.pixels,
        frame: image.frame,
        region: image.score.and(image.region),
        score: image.score,
        cells: vec![cell; n],
    };
    (tile, (0..n).collect())
}

/// Marks the effect of one step of the encoder on a tile. Returns the survivors.
fn encoder_step(tile: &mut TileFate, alive: &[usize], step: &Step, stage: usize) -> Vec<usize> {
    let count = tile.cells.len();
    let number = |index: i32| usize::try_from(index).ok().filter(|&cell| cell < count);
    for (&cell, &score) in alive.iter().zip(&step.scores) {
        if let Some(cell) = tile.cells.get_mut(cell) {
            cell.scores[stage - 1] = Some(score);
        }
    }
    for gone in step.gone() {
        let into = step.taken_up_by(gone).and_then(number).map(|cell| (tile.tile, cell));
        if let Some(cell) = number(gone).and_then(|gone| tile.cells.get_mut(gone)) {
            cell.gone = stage;
            cell.into = into;
        }
    }
    step.kept.iter().filter_map(|&cell| number(cell)).collect()
}

/// Source of a row of the span: tile (its place in the list) and cell. A row of newlines has none; a row made
/// of four single patches has four.
type RowCells = Vec<Vec<(usize, usize)>>;

fn decoder_step(tiles: &mut [TileFate], rows: &RowCells, step: &Step, stage: usize) {
    let row = |index: i32| usize::try_from(index).ok().and_then(|index| rows.get(index));
    // Rows enter in their order: those that stay and those that go.
    let mut entered: Vec<i32> = step.kept.iter().copied().chain(step.gone()).collect();
    entered.sort_unstable();
    for (&index, &score) in entered.iter().zip(&step.scores) {
        for &(tile, cell) in row(index).into_iter().flatten() {
            tiles[tile].cells[cell].scores[stage - 1] = Some(score);
        }
    }
    let first = |cells: &Vec<(usize, usize)>| cells.first().copied();
    for gone in step.gone() {
        let into = step.taken_up_by(gone).and_then(row).and_then(first);
        let into = into.map(|(tile, cell)| (tiles[tile].tile, cell));
        for &(tile, cell) in row(gone).into_iter().flatten() {
            let cell = &mut tiles[tile].cells[cell];
            if cell.gone == 0 {
                (cell.gone, cell.into) = (stage, into);
            }
        }
    }
    for &(tile, cell) in step.kept.iter().filter_map(|&index| row(index)).flatten() {
        let cell = &mut tiles[tile].cells[cell];
        if cell.gone > 0 {
            cell.returns.push(stage);
        }
    }
}

/// Returns `None` if the trace does not tell which row is which cell.
fn span_rows(trace: &Trace, span: usize, tiles: &[TileFate], survivors: &[Vec<usize>]) -> Option<RowCells> {
    let (n, told) = trace.prompt.iter().find_map(|part| match part {
        PromptPart::Span { span: number, n, cells, .. } if *number == span => Some((*n as usize, cells)),
        _ => None,
    })?;
    if let Some(cells) = told {
        let find = |place: &Option<(usize, usize)>| {
            let (tile, cell) = (*place)?;
            let at = tiles.iter().position(|some| some.tile == tile)?;
            (cell < tiles[at].cells.len()).then_some((at, cell))
        };
        return (cells.len() == n)
            .then(|| cells.iter().map(|place| find(place).into_iter().collect()).collect());
    }
    let [alive] = survivors else { return None };
    if alive.len() == n {
        return Some(alive.iter().map(|&cell| vec![(0, cell)]).collect());
    }
    // Single patches merged before a projector that joins four: four survivors in a row are one token.
    (alive.len() == n * 4)
        .then(|| alive.chunks(4).map(|four| four.iter().map(|&cell| (0, cell)).collect()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(half: Half, layer: u32, scores: &[f32], kept: &[i32], merged: &[i32]) -> Step {
        let n = |len: usize| u32::try_from(len).unwrap();
        Step {
            half,
            image: (half == Half::Encoder).then_some(0),
            tile: (half == Half::Encoder).then_some(0),
            span: (half == Half::Decoder).then_some(0),
            layer,
            n_in: n(scores.len()),
            n_out: n(kept.len()),
            scores: scores.to_vec(),
            kept: kept.to_vec(),
            merged: merged.to_vec(),
            into: merged.last().copied(),
            groups: None,
            sizes: Vec::new(),
        }
    }

    fn tile(grid: [u32; 2]) -> ImageTile {
        ImageTile {
            index: 0,
            width: 60,
            height: 40,
            tile: 0,
            grid,
            pixels: Some([0.0, 0.0, 60.0, 40.0]),
            frame: None,
            budget: None,
            region: None,
            score: None,
        }
    }

    #[test]
    fn both_halves_of_one_tile() {
        let trace = Trace {
            strategy: "merge".into(),
            prompt: vec![PromptPart::Span { span: 0, n: 4, cells: None, positions: None, sizes: None }],
            images: vec![tile([3, 2])],
            steps: vec![
                step(Half::Encoder, 3, &[0.6, 0.1, 0.5, 0.2, 0.4, 0.3], &[0, 2, 4, 5], &[1, 3, 5]),
                // Rows 0..4 are the cells 0, 2, 4, 5.
                step(Half::Decoder, 2, &[0.9, 0.2, 0.8, 0.3], &[0, 2, 3], &[1, 3]),
            ],
            ..Trace::default()
        };
        let [fate] = fates(&trace).unwrap().try_into().unwrap();
        assert_eq!(fate.stages.iter().map(|stage| stage.left).collect::<Vec<_>>(), [6, 4, 3]);
        let cells = &fate.tiles[0].cells;
        assert_eq!(cells.iter().map(|cell| cell.gone).collect::<Vec<_>>(), [0, 1, 2, 1, 0, 0]);
        assert_eq!(cells[1].into, Some((0, 5)));
        assert_eq!(cells[2].into, Some((0, 5)), "row 3 of the span is cell 5");
        assert_eq!(cells[5].scores, [Some(0.3), Some(0.3)]);
        assert_eq!(cells[1].scores, [Some(0.1), None]);
        assert_eq!(cells[1].score(2), Some(0.1));
        assert_eq!(cells[4].score(0), Some(0.4));
        assert_eq!(cells[4].score(2), Some(0.8));
    }

    #[test]
    fn dropped_cells_went_into_nothing_and_grouped_ones_into_their_own() {
        let dropped = Step { into: None, ..step(Half::Encoder, 1, &[], &[0, 2], &[1, 3]) };
        let groups = Some(vec![vec![3, 0], vec![1, 2]]);
        let grouped = Step { groups, ..dropped.clone() };
        for (name, one, into) in
            [("prune", dropped, [None; 2]), ("kmeans", grouped, [Some((0, 2)), Some((0, 0))])]
        {
            let one = Step { n_in: 4, ..one };
            let trace = Trace {
                strategy: name.into(),
                prompt: vec![PromptPart::Span { span: 0, n: 2, cells: None, positions: None, sizes: None }],
                images: vec![tile([2, 2])],
                steps: vec![one],
                files: Vec::new(),
            };
            let fate = &fates(&trace).unwrap()[0];
            let cells = &fate.tiles[0].cells;
            assert_eq!(cells.iter().map(|cell| cell.gone).collect::<Vec<_>>(), [0, 1, 0, 1], "{name}");
            assert_eq!([cells[1].into, cells[3].into], into, "{name}");
            assert_eq!((fate.strategy.as_str(), cells[0].score(1)), (name, None));
        }
    }

    #[test]
    fn groups_of_patches() {
        let trace = Trace {
            strategy: "merge".into(),
            prompt: vec![PromptPart::Span { span: 0, n: 2, cells: None, positions: None, sizes: None }],
            images: vec![tile([6, 2])],
            steps: vec![step(Half::Encoder, 1, &[0.1, 0.2, 0.3], &[1, 2], &[0, 1])],
            ..Trace::default()
        };
        let fate = &fates(&trace).unwrap()[0];
        assert_eq!((fate.tiles[0].columns, fate.tiles[0].rows), (3, 1));
        assert_eq!(fate.tiles[0].cells[0].into, Some((0, 1)));
    }

    #[test]
    fn single_patches_make_rows_of_four() {
        let trace = Trace {
            strategy: "merge".into(),
            prompt: vec![PromptPart::Span { span: 0, n: 2, cells: None, positions: None, sizes: None }],
            images: vec![tile([4, 3])],
            steps: vec![
                step(Half::Encoder, 1, &[0.5; 12], &[4, 5, 6, 7, 8, 9, 10, 11], &[0, 1, 2, 3, 4]),
                step(Half::Decoder, 1, &[0.1, 0.9], &[1], &[0, 1]),
            ],
            ..Trace::default()
        };
        let fate = &fates(&trace).unwrap()[0];
        assert_eq!(fate.stages.iter().map(|stage| stage.left).collect::<Vec<_>>(), [12, 8, 4]);
        assert_eq!(fate.tiles[0].cells[7].into, Some((0, 8)));
    }

    #[test]
    fn tiles_and_newlines() {
        let second = ImageTile { tile: 1, ..tile([2, 1]) };
        let trace = Trace {
            strategy: "merge".into(),
            prompt: vec![PromptPart::Span {
                span: 0,
                n: 4,
                cells: Some(vec![Some((0, 0)), Some((1, 0)), Some((1, 1)), None]),
                positions: None,
                sizes: None,
            }],
            images: vec![tile([1, 1]), second],
            steps: vec![step(Half::Decoder, 2, &[0.4, 0.1, 0.3, 0.2], &[0, 2, 3], &[1, 3])],
            ..Trace::default()
        };
        let fate = &fates(&trace).unwrap()[0];
        assert_eq!(fate.tiles[1].cells[0].gone, 1);
        assert_eq!(fate.tiles[1].cells[0].into, None, "a newline shows no part of the picture");
        assert_eq!(fate.stages[1].left, 2);
    }

    #[test]
    fn two_spans_of_one_picture() {
        // Two tiles of two cells, with a mark before each: rows 1 and 2, rows 4 and 5.
        let second = ImageTile { tile: 1, ..tile([2, 1]) };
        let cells = [None, Some((0, 0)), Some((0, 1)), None, Some((1, 0)), Some((1, 1))];
        let trace = Trace {
            strategy: "merge".into(),
            prompt: vec![PromptPart::Span {
                span: 0,
                n: 6,
                cells: Some(cells.to_vec()),
                positions: None,
                sizes: None,
            }],
            images: vec![tile([2, 1]), second],
            steps: vec![
                step(Half::Decoder, 2, &[0.4, 0.1], &[1], &[2, 1]),
                step(Half::Decoder, 2, &[0.2, 0.3], &[5], &[4, 5]),
            ],
            ..Trace::default()
        };
        let fate = &fates(&trace).unwrap()[0];
        assert_eq!(fate.stages.iter().map(|stage| stage.left).collect::<Vec<_>>(), [4, 2]);
        let [first, second] = [0, 1].map(|tile: usize| &fate.tiles[tile].cells);
        assert_eq!((first[1].into, second[0].into), (Some((0, 0)), Some((1, 1))));
        assert_eq!((first[0].scores[0], second[1].scores[0]), (Some(0.4), Some(0.3)));
    }

    #[test]
    fn a_grid_of_another_file_takes_no_memory() {
        for (grid, tiles) in [([u32::MAX, u32::MAX], 1), ([65_536, 1024], 1), ([1024, 1024], 60)] {
            let images = vec![tile(grid); tiles];
            let error = fates(&Trace { images, ..Trace::default() }).unwrap_err().to_string();
            assert!(error.contains("picture 1 has"), "{error}");
        }
        for (width, height) in [(1, 60_000), (u32::MAX, u32::MAX)] {
            let images = vec![ImageTile { width, height, ..tile([2, 2]) }];
            let error = fates(&Trace { images, ..Trace::default() }).unwrap_err().to_string();
            assert!(error.contains("pixels; drawn are"), "{error}");
        }
        assert!(fates(&Trace::default()).unwrap().is_empty());
    }

    #[test]
    fn cells_that_there_are_not_are_passed_over() {
        let trace = Trace {
            prompt: vec![PromptPart::Span { span: 0, n: 2, cells: None, positions: None, sizes: None }],
            images: vec![tile([2, 2])],
            steps: vec![
                step(Half::Encoder, 1, &[0.5; 4], &[0, 1, 546], &[2, 3, 900]),
                step(Half::Decoder, 1, &[0.1, 0.9, 0.2], &[1, -7], &[0, 77]),
            ],
            ..Trace::default()
        };
        let fate = &fates(&trace).unwrap()[0];
        assert_eq!(fate.tiles[0].cells.iter().map(|cell| cell.into).collect::<Vec<_>>(), [None; 4]);
    }

    #[test]
    fn tiles_without_places_tell_the_encoder_only() {
        let trace = Trace {
            strategy: "merge".into(),
            prompt: vec![PromptPart::Span { span: 0, n: 3, cells: None, positions: None, sizes: None }],
            images: vec![tile([1, 1]), ImageTile { tile: 1, ..tile([2, 1]) }],
            steps: vec![step(Half::Decoder, 2, &[0.4, 0.1, 0.3], &[0, 2], &[1, 2])],
            ..Trace::default()
        };
        assert!(
            fates(&trace).unwrap()[0].tiles.iter().flat_map(|tile| &tile.cells).all(|cell| cell.gone == 0)
        );
    }
}
