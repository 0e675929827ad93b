//! The rows of a picture that llama.cpp laid out: marks between tiles, and where they stand.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::native::PicturePart;

/// Empty for the families that are laid out here, whose rows are all embeddings.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    /// \[rows\] tokens of the text model; below 0 if the row is an embedding.
    pub tokens: Vec<i32>,
    /// \[rows\] (time, height, width, the fourth) from the span's first position, -1 for a fourth that is 0 wherever the
    /// span stands; empty for models with one position row.
    pub axes: Vec<[i32; 4]>,
    /// First row and number of rows of each tile.
    pub tiles: Vec<(usize, usize)>,
    /// The rows of a tile attend to each other both ways.
    pub two_ways: bool,
    /// Positions the span takes up.
    pub extent: i32,
}

impl Layout {
    /// The layout of `parts` for a decoder with `n_pos` position rows.
    pub(super) fn new(parts: &[PicturePart], n_pos: usize) -> Self {
        let mut layout = Self::default();
        for part in parts {
            let (first, rows) = (layout.tokens.len(), part.rows as usize);
            if part.tokens.is_empty() {
                layout.tiles.push((first, rows));
                layout.tokens.resize(first + rows, -1);
            } else {
                layout.tokens.extend_from_slice(&part.tokens);
            }
            layout.two_ways |= part.two_ways;
            if n_pos > 1 {
                let start = layout.extent;
                let placed = part.positions.iter().map(|&[t, h, w, fourth]| {
                    [start + t, start + h, start + w, if fourth < 0 { -1 } else { start + fourth }]
                });
                layout.axes.extend(placed);
            }
            layout.extent += part.extent;
        }
        layout
    }

    /// The layout whose tile `i` has its rows `kept[i]` left, ascending, and the row of this one that each of its rows
    /// was. Positions stay.
    pub(super) fn keep(&self, kept: &[Vec<usize>]) -> Result<(Self, Vec<usize>)> {
        let fits = |(&(_, rows), kept): (&(usize, usize), &Vec<usize>)| kept.iter().all(|&row| row < rows);
        if self.tiles.len() != kept.len() || !self.tiles.iter().zip(kept).all(fits) {
            return Err(Error::new(Kind::Native, "the encoder gave other tiles than llama.cpp laid out"));
        }
        let mut left = Self { two_ways: self.two_ways, extent: self.extent, ..Self::default() };
        let (mut rows, mut next) = (Vec::new(), 0);
        for (&(first, count), kept) in self.tiles.iter().zip(kept) {
            rows.extend(next..first);
            left.tiles.push((rows.len(), kept.len()));
            rows.extend(kept.iter().map(|row| first + row));
            next = first + count;
        }
        rows.extend(next..self.tokens.len());
        left.tokens = rows.iter().map(|&row| self.tokens[row]).collect();
        if !self.axes.is_empty() {
            left.axes = rows.iter().map(|&row| self.axes[row]).collect();
        }
        Ok((left, rows))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Rows that are no tile's.
    pub(super) fn marks(&self) -> u32 {
        let rows = self.tiles.iter().map(|(_, rows)| rows).sum::<usize>();
        u32::try_from(self.tokens.len() - rows).unwrap_or(u32::MAX)
    }

    /// Rows that merging can take away: one of every tile stays.
    #[must_use]
    pub fn spare(&self) -> u32 {
        u32::try_from(self.tiles.iter().map(|(_, rows)| rows - 1).sum::<usize>()).unwrap_or(u32::MAX)
    }

    /// The first row of each tile.
    #[must_use]
    pub fn firsts(&self) -> Vec<usize> {
        self.tiles.iter().map(|&(first, _)| first).collect()
    }

    /// The tiles as spans: `removed` rows at each merge layer, shared out by the rows that a tile has left.
    #[must_use]
    pub fn spans(&self, removed: &[u32]) -> Vec<(usize, usize, Vec<u32>)> {
        let mut spans: Vec<(usize, usize, Vec<u32>)> = self
            .tiles
            .iter()
            .map(|&(first, rows)| (first, rows, Vec::with_capacity(removed.len())))
            .collect();
        let mut left: Vec<u32> =
            self.tiles.iter().map(|&(_, rows)| u32::try_from(rows).unwrap_or(u32::MAX)).collect();
        for &amount in removed {
            let mut rest = u64::from(amount);
            let mut all: u64 = left.iter().map(|&rows| u64::from(rows.saturating_sub(1))).sum();
            for (span, rows) in spans.iter_mut().zip(&mut left) {
                let spare = u64::from(rows.saturating_sub(1));
                // The share so far never lags behind a whole row, so that nothing is over at the end.
                let taken = if all == 0 { 0 } else { (rest * spare).div_ceil(all).min(spare) };
                (rest, all) = (rest.saturating_sub(taken), all - spare);
                let taken = u32::try_from(taken).unwrap_or(u32::MAX);
                *rows -= taken;
                span.2.push(taken);
            }
        }
        spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(tokens: &[i32]) -> PicturePart {
        let rows = tokens.len() as i32;
        let positions = (0..rows).map(|i| [i, i, i, i]).collect();
        PicturePart { tokens: tokens.to_vec(), rows: rows as u32, extent: rows, two_ways: false, positions }
    }

    fn grid(across: i32, down: i32) -> PicturePart {
        let positions = (0..across * down).map(|i| [0, i / across, i % across, -1]).collect();
        let rows = (across * down) as u32;
        PicturePart { rows, extent: across.max(down), positions, ..PicturePart::default() }
    }

    #[test]
    fn marks_and_tiles_follow_each_other() {
        let layout = Layout::new(&[marks(&[7, 8]), grid(3, 2), marks(&[9])], 4);
        assert_eq!(layout.tokens, [7, 8, -1, -1, -1, -1, -1, -1, 9]);
        assert_eq!((layout.extent, layout.tiles.as_slice()), (6, [(2, 6)].as_slice()));
        assert_eq!(layout.axes[2..5], [[2, 2, 2, -1], [2, 2, 3, -1], [2, 2, 4, -1]]);
        assert_eq!(layout.axes[5], [2, 3, 2, -1]);
        assert_eq!(layout.axes[8], [5, 5, 5, 5]);
        assert!(Layout::new(&[marks(&[7])], 1).axes.is_empty());
    }

    #[test]
    fn survivors_keep_their_places() {
        let layout = Layout::new(&[marks(&[7, 8]), grid(3, 2), marks(&[9]), grid(2, 2)], 4);
        let (left, rows) = layout.keep(&[vec![0, 4], vec![3]]).unwrap();
        assert_eq!(rows, [0, 1, 2, 6, 8, 12]);
        assert_eq!(left.tokens, [7, 8, -1, -1, 9, -1]);
        assert_eq!((left.extent, left.tiles.as_slice()), (layout.extent, [(2, 2), (5, 1)].as_slice()));
        assert_eq!(left.axes, rows.iter().map(|&row| layout.axes[row]).collect::<Vec<_>>());
        let all: Vec<Vec<usize>> = layout.tiles.iter().map(|&(_, rows)| (0..rows).collect()).collect();
        assert_eq!(layout.keep(&all).unwrap().0, layout);
        assert!(layout.keep(&[vec![6], vec![0]]).is_err() && layout.keep(&[vec![0]]).is_err());
    }

    #[test]
    fn what_goes_is_shared_out() {
        let layout = Layout::new(&[grid(4, 4), marks(&[1]), grid(4, 4), grid(2, 2)], 1);
        assert_eq!(layout.spare(), 33);
        for (removed, sums) in [(&[18, 6][..], [18, 6]), (&[33, 0], [33, 0]), (&[0, 1], [0, 1])] {
            let spans = layout.spans(removed);
            for (layer, sum) in sums.into_iter().enumerate() {
                assert_eq!(spans.iter().map(|(.., r)| r[layer]).sum::<u32>(), sum, "{removed:?}");
            }
            assert!(spans.iter().all(|(_, rows, r)| r.iter().sum::<u32>() < *rows as u32), "{spans:?}");
        }
    }
}
