//! Rows of one visual span from the tokens that an encoder leaves of each tile: which tokens, in which order,
//! and the places of newlines. Pure: indices and weights, no embeddings.
//!
//! Survivors of merging come with the cell they stand on. Under the `faithful` grid that is their
//! own; under `reference` they are [`relabelled`] first, and everything below sees a full, smaller
//! grid, as in the authors' code.

mod anyres;
mod pool;

use crate::error::{Error, Field, Kind, Result};

/// Arrangement of the tiles of one span in a family.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arrangement {
    /// All tokens of all tiles in order.
    Plain,
    /// One view, then a newline.
    View,
    /// The whole picture first, then the tiles as one grid: without the padding, a newline after
    /// each row.
    Anyres {
        /// Tiles across and down.
        grid: (u32, u32),
        /// Pixels of the picture: what tells padding from picture.
        picture: (u32, u32),
        /// Above 1.1^2 times this many tiles' cells the grid is shrunk to about that many.
        max_tiles: Option<u32>,
    },
    /// Frames, each with sides shrunk by `stride`; one newline at the end.
    Video { stride: u32 },
}

/// The tokens of one tile: token i stands on cell `kept[i]` = row * across + column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survivors {
    /// Cells across and down.
    pub cells: (u32, u32),
    /// Ascending.
    pub kept: Vec<u32>,
}

/// One row of the span.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// Token `token` of tile `tile`.
    Token {
        tile: usize,
        token: usize,
    },
    /// The weighted mean of the tokens that are left of a cell.
    Mean(Vec<Share>),
    Newline,
}

/// A token's part in a mean. The weights of a cell that has lost none sum to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    pub tile: usize,
    pub token: usize,
    pub weight: f64,
}

impl Survivors {
    /// Every cell of a grid.
    #[must_use]
    pub fn all(cells: (u32, u32)) -> Self {
        Self { cells, kept: (0..cells.0 * cells.1).collect() }
    }

    fn token_at(&self, cell: u32) -> Option<usize> {
        self.kept.binary_search(&cell).ok()
    }
}

impl Row {
    /// The tile and the token that the row shows most of; none for a newline.
    #[must_use]
    pub fn weightiest(&self) -> Option<(usize, usize)> {
        match self {
            Row::Token { tile, token } => Some((*tile, *token)),
            Row::Mean(shares) => {
                let heavier = |a: &&Share, b: &&Share| a.weight.total_cmp(&b.weight);
                shares.iter().max_by(heavier).map(|share| (share.tile, share.token))
            }
            Row::Newline => None,
        }
    }
}

/// `count` tokens as a full square grid, in order.
///
/// # Errors
/// [`Kind::Schedule`] if the count is no square.
pub fn relabelled(count: u32) -> Result<Survivors> {
    let side = count.isqrt();
    if side * side == count {
        return Ok(Survivors::all((side, side)));
    }
    Err(Error::new(
        Kind::Schedule,
        format!(
            "{grid} reference: a tile keeps {count} tokens, which are no square grid; take {grid} faithful, or amounts that leave {} or {}",
            side * side,
            (side + 1) * (side + 1),
            grid = Field::Grid
        ),
    ))
}

/// The rows of a span, in order. Without `newline` (a pair that has none) no newline stands anywhere.
#[must_use]
pub fn rows(arrangement: Arrangement, tiles: &[Survivors], newline: bool) -> Vec<Row> {
    slots(arrangement, tiles, newline).into_iter().flatten().collect()
}

/// The span as it is without merging, one slot for each of its rows: the row that stands there now, or
/// none if the slot has lost all its tokens. The index of a slot is the place of its row in the unmerged span.
#[must_use]
pub fn slots(arrangement: Arrangement, tiles: &[Survivors], newline: bool) -> Vec<Option<Row>> {
    let end = newline.then_some(Some(Row::Newline));
    match arrangement {
        Arrangement::Plain => plain(tiles),
        Arrangement::View => plain(tiles).into_iter().chain(end).collect(),
        Arrangement::Anyres { grid, picture, max_tiles } => {
            let (base, rest) = tiles.split_at(tiles.len().min(1));
            let mut slots = plain(base);
            slots.extend(anyres::slots(rest, grid, picture, max_tiles, newline));
            slots
        }
        Arrangement::Video { stride } => {
            let frame = |(i, tile): (usize, &Survivors)| {
                let pooled = (tile.cells.0.div_ceil(stride.max(1)), tile.cells.1.div_ceil(stride.max(1)));
                let cell = |x, y| tile.token_at(y * tile.cells.0 + x).map(|token| (i, token));
                pool::shrink(tile.cells, pooled, cell).into_iter().flatten().collect::<Vec<_>>()
            };
            tiles.iter().enumerate().flat_map(frame).chain(end).collect()
        }
    }
}

/// All cells of all tiles in order.
fn plain(tiles: &[Survivors]) -> Vec<Option<Row>> {
    fn of_tile((i, tile): (usize, &Survivors)) -> impl Iterator<Item = Option<Row>> + '_ {
        let slot = move |cell| tile.token_at(cell).map(|token| Row::Token { tile: i, token });
        (0..tile.cells.0 * tile.cells.1).map(slot)
    }
    tiles.iter().enumerate().flat_map(of_tile).collect()
}

/// The rows' embeddings, [rows, width], from those of each tile, [tokens, width].
#[must_use]
pub fn gather(rows: &[Row], tiles: &[Vec<f32>], newline: &[f32], width: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(rows.len() * width);
    let token = |tile: usize, token: usize| &tiles[tile][token * width..(token + 1) * width];
    for row in rows {
        match row {
            Row::Token { tile, token: at } => out.extend_from_slice(token(*tile, *at)),
            Row::Newline => out.extend_from_slice(newline),
            Row::Mean(shares) => {
                let mut sum = vec![0.0f64; width];
                let total: f64 = shares.iter().map(|share| share.weight).sum();
                for share in shares {
                    for (sum, value) in sum.iter_mut().zip(token(share.tile, share.token)) {
                        *sum += share.weight * f64::from(*value);
                    }
                }
                #[allow(clippy::cast_possible_truncation)]
                out.extend(sum.into_iter().map(|value| (value / total) as f32));
            }
        }
    }
    out
}

/// Returns how many rows of the unmerged span each row stands for, from the cells that each tile's tokens
/// stand for. A row counts as many as its token, in a mean the weighted sum of its tokens. An unmerged row
/// then stands for one, and a picture's rows together for as many as there were, pooled or not.
#[must_use]
#[allow(clippy::cast_possible_truncation)]
pub fn sizes(rows: &[Row], tiles: &[&[f32]]) -> Vec<f32> {
    let of = |tile: usize, token: usize| f64::from(tiles[tile][token]);
    rows.iter()
        .map(|row| match row {
            Row::Token { tile, token } => tiles[*tile][*token],
            Row::Newline => 1.0,
            Row::Mean(shares) => {
                shares.iter().map(|share| share.weight * of(share.tile, share.token)).sum::<f64>() as f32
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(rows: &[Row]) -> Vec<Option<(usize, usize)>> {
        rows.iter()
            .map(|row| match row {
                Row::Token { tile, token } => Some((*tile, *token)),
                Row::Newline => None,
                Row::Mean(_) => panic!("a mean"),
            })
            .collect()
    }

    #[test]
    fn views() {
        let tile = Survivors { cells: (2, 2), kept: vec![0, 3] };
        assert_eq!(
            tokens(&rows(Arrangement::View, std::slice::from_ref(&tile), true)),
            [Some((0, 0)), Some((0, 1)), None]
        );
        assert_eq!(rows(Arrangement::View, std::slice::from_ref(&tile), false).len(), 2);
        assert_eq!(
            tokens(&rows(Arrangement::Plain, &[tile.clone(), tile], true)),
            [Some((0, 0)), Some((0, 1)), Some((1, 0)), Some((1, 1))]
        );
    }

    #[test]
    fn frames_shrink_by_half() {
        let full = Survivors::all((27, 27));
        let count = |stride| rows(Arrangement::Video { stride }, &vec![full.clone(); 3], true).len();
        assert_eq!(count(2), 3 * 14 * 14 + 1, "OneVision's 196 tokens a frame and one newline");
        assert_eq!((count(3), count(1)), (3 * 9 * 9 + 1, 3 * 729 + 1));
        // Two cells of the first and one of the last pooling cell are left of a 4 x 4 frame.
        let sparse = Survivors { cells: (4, 4), kept: vec![0, 5, 15] };
        let share = |token| Share { tile: 0, token, weight: 0.25 };
        let slots = slots(Arrangement::Video { stride: 2 }, &[sparse], true);
        assert_eq!(
            slots,
            [
                Some(Row::Mean(vec![share(0), share(1)])),
                None,
                None,
                Some(Row::Mean(vec![share(2)])),
                Some(Row::Newline)
            ]
        );
        // The sixteen cells make four pooled ones, however they were merged.
        let rows: Vec<Row> = slots.into_iter().flatten().collect();
        assert_eq!(sizes(&rows, &[&[5.0, 7.0, 4.0]]), [3.0, 1.0, 1.0]);
    }

    #[test]
    fn places_of_the_unmerged_span() {
        let places = |arrangement, tiles: &[Survivors], newline| {
            let slots = slots(arrangement, tiles, newline);
            let place = |(i, slot): (usize, &Option<Row>)| slot.as_ref().map(|_| i);
            (slots.iter().enumerate().filter_map(place).collect::<Vec<_>>(), slots.len())
        };
        let tile = Survivors { cells: (3, 2), kept: vec![0, 4] };
        let two = [tile.clone(), tile.clone()];
        assert_eq!(places(Arrangement::Plain, &two, true), (vec![0, 4, 6, 10], 12));
        assert_eq!(places(Arrangement::View, &two[..1], true), (vec![0, 4, 6], 7));
        assert_eq!(places(Arrangement::View, &two[..1], false), (vec![0, 4], 6));
        // A view, then lines of three cells with a slot for the newline; the second tile's line 0 lost all.
        let anyres = Arrangement::Anyres { grid: (1, 2), picture: (30, 40), max_tiles: None };
        let three = [tile.clone(), tile.clone(), Survivors { cells: (3, 2), kept: vec![5] }];
        assert_eq!(places(anyres, &three, true), (vec![0, 4, 6, 9, 11, 13, 20, 21], 22));
        assert_eq!(places(anyres, &three, false), (vec![0, 4, 6, 10, 17], 18));
    }

    #[test]
    fn squares() {
        assert_eq!(relabelled(361).unwrap().cells, (19, 19));
        let error = relabelled(284).unwrap_err().to_string();
        assert!(error.contains("284") && error.contains("256 or 289"), "{error}");
    }

    #[test]
    fn gathering() {
        let rows = [
            Row::Newline,
            Row::Token { tile: 1, token: 0 },
            Row::Mean(vec![
                Share { tile: 0, token: 0, weight: 0.25 },
                Share { tile: 0, token: 1, weight: 0.75 },
            ]),
        ];
        let out = gather(&rows, &[vec![0.0, 4.0, 8.0, 0.0], vec![5.0, 6.0]], &[1.0, 2.0], 2);
        assert_eq!(out, [1.0, 2.0, 5.0, 6.0, 6.0, 1.0]);
        assert_eq!(sizes(&rows, &[&[1.0, 3.0], &[7.0]]), [1.0, 7.0, 2.5]);
        let half = [Row::Mean(vec![Share { tile: 0, token: 1, weight: 0.25 }])];
        assert_eq!(
            gather(&half, &[vec![0.0, 4.0, 8.0, 0.0]], &[], 2),
            [8.0, 0.0],
            "a mean of one is that one"
        );
    }
}
