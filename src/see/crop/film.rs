//! Frames of a film, and regions of them, that a question chooses, as in Free Video-LLM (Han et al., 2024). docs/crops.md
//! has the rule and its differences; tools/reference_model/film.py is an account of it.

use super::region::{Area, best};
use crate::schedule::Grid;

/// Frames shown in detail because they go best with the question.
const ASKED: usize = 3;
/// Frames shown in detail at even distances.
const EVEN: usize = 5;
/// Share of a frame's cells that a region has.
const SHARE: f64 = 0.8;
/// Cells per side of a frame in outline.
const COARSE: usize = 4;

/// Frames of a film by their numbers, ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenFrames {
    /// Those that go best with the question.
    pub asked: Vec<usize>,
    /// Those at even distances, the first among them.
    pub even: Vec<usize>,
}

impl ChosenFrames {
    /// Chooses by the cosine of each frame and the question.
    #[must_use]
    pub fn new(cosines: &[f32]) -> Self {
        let n = cosines.len();
        let mut even: Vec<usize> = (0..EVEN).map(|i| i * n / EVEN).filter(|&frame| frame < n).collect();
        even.dedup();
        Self { asked: best(cosines, ASKED), even }
    }

    /// Number of frames shown in detail of `n` that are shown together. Frames of a video that both rules choose count twice.
    #[must_use]
    pub fn expected(n: usize) -> usize {
        let chosen = Self::new(&vec![0.0; n]);
        chosen.asked.len() + chosen.even.len()
    }

    /// Number of pictures that either rule chooses.
    #[must_use]
    pub fn either(&self) -> usize {
        self.asked.len() + self.even.iter().filter(|frame| !self.asked.contains(frame)).count()
    }
}

/// A square of cells, of which each line is joined in pairs: cells 2i and 2i + 1 of a line are one, and an odd line's last
/// cell stands alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pairs {
    /// Pairs of a line of the picture.
    across: usize,
    /// Lines and columns as which a region is counted.
    lines: usize,
    columns: usize,
}

impl Pairs {
    /// Pairs of a square of `side` cells. The authors' code reads their list as half as many lines that are twice as
    /// long: [`Grid::Reference`]. `None` if that does not divide.
    #[must_use]
    pub fn new(side: usize, grid: Grid) -> Option<Self> {
        let across = side.div_ceil(2);
        match grid {
            Grid::Faithful => Some(Self { across, lines: side, columns: across }),
            Grid::Reference if side.is_multiple_of(2) => Some(Self { across, lines: across, columns: side }),
            Grid::Reference => None,
        }
    }

    fn count(self) -> usize {
        self.lines * self.columns
    }
}

/// Largest value of each pair: `rows` has `width` values for each cell of a square of `side`.
#[must_use]
pub fn largest_of_pairs(rows: &[f32], side: usize, width: usize) -> Vec<f32> {
    let line = side * width;
    let mut out = Vec::with_capacity(rows.len() / 2 + line);
    for line in rows.chunks_exact(line.max(1)) {
        for pair in line.chunks(2 * width) {
            let (first, second) = pair.split_at(width);
            match second.is_empty() {
                true => out.extend_from_slice(first),
                false => out.extend(first.iter().zip(second).map(|(a, b)| a.max(*b))),
            }
        }
    }
    out
}

/// Means over a square of `to` x `to` parts, row by row, as PyTorch's `AdaptiveAvgPool2d`: parts overlap by a line if `side`
/// is no multiple of `to`.
#[must_use]
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
pub fn means_of_parts(rows: &[f32], side: usize, width: usize, to: usize) -> Vec<f32> {
    let part = |i: usize| i * side / to..((i + 1) * side).div_ceil(to);
    let mut out = Vec::with_capacity(to * to * width);
    for i in 0..to * to {
        let (lines, columns) = (part(i / to), part(i % to));
        let count = (lines.len() * columns.len()) as f64;
        let mut sums = vec![0.0f64; width];
        for line in lines {
            for column in columns.clone() {
                let cell = (line * side + column) * width;
                sums.iter_mut().zip(&rows[cell..cell + width]).for_each(|(sum, x)| *sum += f64::from(*x));
            }
        }
        out.extend(sums.into_iter().map(|sum| (sum / count) as f32));
    }
    out
}

/// Rows that the frames of a film have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FilmShape {
    /// Cells per side of a frame.
    side: usize,
    pairs: Pairs,
    /// Lines and columns of a region.
    region: (usize, usize),
    /// Share of the patches whose mean place is a region's middle.
    share: f64,
}

impl FilmShape {
    /// The authors' amounts for frames of `side` x `side` cells; `None` as for [`Pairs::new`].
    #[must_use]
    pub fn new(side: usize, grid: Grid) -> Option<Self> {
        let pairs = Pairs::new(side, grid)?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)]
        let part = |length: usize| (length as f64 * SHARE.sqrt()).round_ties_even() as usize;
        Some(Self { side, pairs, region: (part(pairs.lines), part(pairs.columns)), share: SHARE })
    }

    /// The same with the region with which `frames` frames, `details` of them in detail, have the number of rows nearest to
    /// `target`; of two as near, the smaller one. It has a pair at least and all at most.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn within(self, frames: usize, details: usize, target: f64) -> Self {
        let Pairs { lines, columns, .. } = self.pairs;
        let candidates = (1..=lines).map(|tall| {
            let wide = ((2 * columns * tall + lines) / (2 * lines)).max(1);
            let share = (tall * wide) as f64 / self.pairs.count() as f64;
            Self { region: (tall, wide), share, ..self }
        });
        let distance = |shape: &Self| (shape.rows(frames, details) as f64 - target).abs();
        candidates.min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(self)
    }

    /// Rows of `frames` frames of which `details` are shown in detail too.
    #[must_use]
    pub fn rows(&self, frames: usize, details: usize) -> usize {
        details * self.region.0 * self.region.1 + frames * self.coarse().pow(2)
    }

    /// Cells per side of a frame in outline.
    #[must_use]
    pub fn coarse(&self) -> usize {
        COARSE.min(self.side)
    }

    /// The region of a frame around the patches that go best with the question. `similarity` has a value for each of the
    /// `from` pairs of a text-image model's patches.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)]
    pub fn region(&self, similarity: &[f32], from: Pairs) -> FrameRegion {
        let count = ((from.count() as f64 * self.share) as usize).clamp(1, similarity.len().max(1));
        let chosen = best(similarity, count);
        // The mean place in cells of this grid, cut to a whole one; the middle of a cell stays the middle.
        let place = |at: &dyn Fn(usize) -> usize, (from, onto): (usize, usize), length: usize| {
            let (n, sum) = (chosen.len().max(1), chosen.iter().map(|&pair| at(pair)).sum::<usize>());
            let middle = ((2 * sum + n) * onto).saturating_sub(n * from) / (2 * n * from.max(1));
            middle.saturating_sub(length / 2).min(onto - length)
        };
        let (tall, wide) = self.region;
        let top = place(&|pair| pair / from.columns.max(1), (from.lines, self.pairs.lines), tall);
        let left = place(&|pair| pair % from.columns.max(1), (from.columns, self.pairs.columns), wide);
        let pairs = (top..top + tall).flat_map(|line| (left..left + wide).map(move |column| (line, column)));
        FrameRegion {
            pairs: pairs.map(|(line, column)| line * self.pairs.columns + column).collect(),
            of: *self,
        }
    }
}

/// Region of one frame.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameRegion {
    /// Pairs of cells, ascending.
    pub pairs: Vec<usize>,
    of: FilmShape,
}

impl FrameRegion {
    /// The first cell of each pair.
    pub fn cells(&self) -> impl Iterator<Item = usize> + '_ {
        let (across, side) = (self.of.pairs.across, self.of.side);
        self.pairs.iter().map(move |pair| pair / across * side + pair % across * 2)
    }

    /// Pixels of a picture of `size` that it covers, to whole ones outwards.
    #[must_use]
    pub fn area(&self, size: (u32, u32)) -> Area {
        let side = self.of.side;
        let mut bounds = [side, side, 0, 0];
        for cell in self.cells() {
            let (x, y) = (cell % side, cell / side);
            let [left, top, right, bottom] = bounds;
            bounds = [left.min(x), top.min(y), right.max((x + 2).min(side)), bottom.max(y + 1)];
        }
        let pixel = |cell: usize, length: u32, up: bool| {
            let (product, side) = (cell as u64 * u64::from(length), side.max(1) as u64);
            let whole = if up { product.div_ceil(side) } else { product / side };
            u32::try_from(whole).unwrap_or(length)
        };
        let [left, top, right, bottom] = bounds;
        [
            pixel(left, size.0, false),
            pixel(top, size.1, false),
            pixel(right, size.0, true),
            pixel(bottom, size.1, true),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_by_both_rules() {
        let cosines = |n: usize| (0..n).map(|i| (i * 7 % 11) as f32).collect::<Vec<_>>();
        let fifty = ChosenFrames::new(&cosines(50));
        // 7i mod 11 is 10 for i = 3, 14, 25 and so on: the first three of equals.
        assert_eq!((fifty.asked, fifty.even), (vec![3, 14, 25], vec![0, 10, 20, 30, 40]));
        let few = ChosenFrames::new(&cosines(3));
        assert_eq!(
            (few.asked.as_slice(), few.even.as_slice(), few.either()),
            (&[0, 1, 2][..], &[0, 1, 2][..], 3)
        );
        assert_eq!(ChosenFrames::new(&cosines(7)).even, [0, 1, 2, 4, 5]);
        assert_eq!([0, 1, 2, 4, 5, 50].map(ChosenFrames::expected), [0, 2, 4, 7, 8, 8]);
    }

    #[test]
    fn the_authors_numbers() {
        for grid in [Grid::Faithful, Grid::Reference] {
            let shape = FilmShape::new(24, grid).unwrap();
            assert_eq!((shape.rows(50, 8), shape.coarse()), (8 * 231 + 50 * 16, 4), "{grid:?}");
        }
        assert_eq!(FilmShape::new(24, Grid::Faithful).unwrap().region, (21, 11));
        assert_eq!(FilmShape::new(24, Grid::Reference).unwrap().region, (11, 21));
        assert_eq!(FilmShape::new(27, Grid::Faithful).unwrap().region, (24, 13));
        assert!(FilmShape::new(27, Grid::Reference).is_none());
        assert_eq!(FilmShape::new(3, Grid::Faithful).unwrap().rows(1, 0), 9);
    }

    #[test]
    fn a_budget_is_met_by_the_region() {
        let shape = FilmShape::new(27, Grid::Faithful).unwrap();
        for (frames, details, target) in [(50, 8, 2000.0), (1, 1, 253.0), (50, 8, 10.0), (1, 1, 9999.0)] {
            let found = shape.within(frames, details, target).rows(frames, details) as f64;
            let (least, most) = ((frames * 16 + details) as f64, (frames * 16 + details * 27 * 14) as f64);
            let slack = if target < least || target > most { 0.0 } else { details as f64 * 20.0 };
            assert!(
                (found - target.clamp(least, most)).abs() <= slack,
                "{frames} {details} {target}: {found}"
            );
        }
    }

    #[test]
    fn pairs_and_parts() {
        let rows: Vec<f32> = (0..9).map(|i| [4.0, 1.0, 8.0, 2.0, 7.0, 3.0, 9.0, 5.0, 6.0][i]).collect();
        assert_eq!(largest_of_pairs(&rows, 3, 1), [4.0, 8.0, 7.0, 3.0, 9.0, 6.0]);
        assert_eq!(largest_of_pairs(&[1.0, 9.0, 5.0, 2.0], 2, 2)[..2], [5.0, 9.0]);
        assert_eq!(means_of_parts(&rows, 3, 1, 1), [5.0]);
        // Parts of two lines and columns that share the middle ones.
        assert_eq!(means_of_parts(&rows, 3, 1, 2), [3.5, 4.75, 5.75, 5.25]);
        assert_eq!(means_of_parts(&rows, 3, 1, 3), rows);
    }

    #[test]
    fn a_region_lies_around_the_best_and_inside() {
        let shape = FilmShape::new(4, Grid::Faithful).unwrap();
        assert_eq!(shape.region, (4, 2), "a small grid is shown whole");
        let half = shape.within(1, 1, 16.0 + 2.0);
        assert_eq!(half.region, (2, 1));
        let from = Pairs::new(4, Grid::Faithful).unwrap();
        let mut similarity = vec![0.0; 8];
        (similarity[5], similarity[7]) = (1.0, 1.0);
        let region = half.region(&similarity, from);
        // The mean of lines 2 and 3 is line 2; two lines around it begin at 1.
        assert_eq!(region.pairs, [3, 5]);
        assert_eq!(region.cells().collect::<Vec<_>>(), [6, 10]);
        assert_eq!(region.area((40, 30)), [20, 7, 40, 23]);
        // A finer map of the same place.
        let fine = Pairs::new(8, Grid::Faithful).unwrap();
        let similarity: Vec<f32> = (0..32).map(|i| if i % 4 > 1 && i / 4 > 3 { 1.0 } else { 0.0 }).collect();
        assert_eq!(half.region(&similarity, fine).pairs, [3, 5]);
    }
}
