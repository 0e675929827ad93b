//! From the tokens an encoder leaves of each tile to the rows of one visual span: which tokens, in
//! which order, where a newline stands. Pure: indices and weights, no embeddings.
//!
//! Survivors of merging come with the cell they stand on. Under the `faithful` grid that is their
//! own; under `reference` they are [`relabelled`] first, and everything below sees a full, smaller
//! grid, as in the authors' code.

mod anyres;
mod pool;

use crate::error::{Error, Field, Kind, Result};

/// What a family does with the tiles of one span.
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
    /// The mean of several tokens; weights sum to 1.
    Mean(Vec<Share>),
    Newline,
}

/// A token's part in a mean.
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
/// [`Kind::Schedule`] where the count is no square.
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

/// The rows of a span. Without `newline` (a pair that has none) no newline stands anywhere.
#[must_use]
pub fn rows(arrangement: Arrangement, tiles: &[Survivors], newline: bool) -> Vec<Row> {
    let mut rows = match arrangement {
        Arrangement::Plain => plain(0, tiles),
        Arrangement::View => plain(0, tiles).into_iter().chain([Row::Newline]).collect(),
        Arrangement::Anyres { grid, picture, max_tiles } => {
            let (base, rest) = tiles.split_at(tiles.len().min(1));
            let mut rows = plain(0, base);
            rows.extend(anyres::rows(rest, grid, picture, max_tiles));
            rows
        }
        Arrangement::Video { stride } => {
            let frame = |(i, tile): (usize, &Survivors)| {
                let pooled = (tile.cells.0.div_ceil(stride.max(1)), tile.cells.1.div_ceil(stride.max(1)));
                let cell = |x, y| tile.token_at(y * tile.cells.0 + x).map(|token| (i, token));
                pool::shrink(tile.cells, pooled, cell).into_iter().flatten().flatten().collect::<Vec<_>>()
            };
            let mut rows: Vec<Row> = tiles.iter().enumerate().flat_map(frame).collect();
            rows.push(Row::Newline);
            rows
        }
    };
    if !newline {
        rows.retain(|row| *row != Row::Newline);
    }
    rows
}

fn plain(first: usize, tiles: &[Survivors]) -> Vec<Row> {
    let of_tile = |(i, tile): (usize, &Survivors)| {
        (0..tile.kept.len()).map(move |token| Row::Token { tile: first + i, token })
    };
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
                for share in shares {
                    for (sum, value) in sum.iter_mut().zip(token(share.tile, share.token)) {
                        *sum += share.weight * f64::from(*value);
                    }
                }
                #[allow(clippy::cast_possible_truncation)]
                out.extend(sum.into_iter().map(|value| value as f32));
            }
        }
    }
    out
}

/// How many original tokens each row stands for, from those of each tile's tokens: as many as its
/// token, in a mean as many as its tokens do on average, so that an unmerged row stands for one.
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
        // Of a 4 x 4 frame two cells of the first and one of the last pooling cell are left.
        let sparse = Survivors { cells: (4, 4), kept: vec![0, 5, 15] };
        let share = |token| Share { tile: 0, token, weight: 0.5 };
        assert_eq!(
            rows(Arrangement::Video { stride: 2 }, &[sparse], true),
            [Row::Mean(vec![share(0), share(1)]), Row::Token { tile: 0, token: 2 }, Row::Newline]
        );
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
    }
}
