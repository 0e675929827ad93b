//! Content of the cells of an encoder input: edges, one colour again, or neither.

use crate::media::Pixels;
use crate::schedule::Content;

/// Difference of two neighbouring pixels' brightness from which on there is an edge between them, of 255.
const EDGE: i32 = 48;
/// Share of a cell's pairs of neighbours that are edges, from which on the cell has edges: one line across it.
const EDGES: (usize, usize) = (2, 100);
/// A cell of one colour deviates by at most this in every channel, of 255: paper with grain, sky, noise of a camera.
const FLAT: f64 = 6.0;
/// Two cells of one colour are alike if their means differ by at most this in every channel, of 255.
const ALIKE: f64 = 6.0;

/// One cell.
struct Cell {
    edges: bool,
    /// Mean colour of a cell that has one colour.
    flat: Option<[f64; 3]>,
}

/// Content of an encoder input.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Shown {
    pub content: Content,
    /// \[cells\] 1 for a cell with edges, 0 for another, line by line.
    pub edges: Vec<u8>,
}

impl Shown {
    /// Content of two frames that make one token of each pair of cells: it has the edges of both.
    pub(super) fn and(self, second: &Self) -> Self {
        let edges: Vec<u8> = self.edges.iter().zip(&second.edges).map(|(a, b)| a | b).collect();
        let (cells, n) = (self.content.cells, edges.iter().map(|&flag| u32::from(flag)).sum());
        let repeated = self.content.repeated.min(second.content.repeated).min(cells - n);
        Self { content: Content { cells, edges: n, repeated }, edges }
    }

    /// \[kept\] 1 for a token with edges. `kept` counts squares of `side` cells, `across` in a line.
    pub(super) fn of_tokens(&self, kept: &[i32], side: usize, across: usize) -> Vec<u8> {
        let edges = |x, y| self.edges.get(y * across * side + x).copied().unwrap_or(0);
        let has = |cell: usize| {
            let (left, top) = (cell % across.max(1) * side, cell / across.max(1) * side);
            (top..top + side).flat_map(|y| (left..left + side).map(move |x| edges(x, y))).max()
        };
        kept.iter().map(|cell| has(cell.unsigned_abs() as usize).unwrap_or(0)).collect()
    }
}

/// Content of the cells of `picture`, `side` pixels across and down each. Pixels beyond the last whole cell do not count.
pub(super) fn of(picture: &Pixels, side: u32) -> Shown {
    let side = side.max(1);
    let (across, down) = (picture.width / side, picture.height / side);
    let mut content = Content { cells: across * down, ..Content::default() };
    let mut edges = Vec::with_capacity(content.cells as usize);
    let mut above: Vec<Option<[f64; 3]>> = vec![None; across as usize];
    for row in 0..down {
        let mut left = None;
        for (column, above) in (0..across).zip(&mut above) {
            let cell = cell(picture, (column * side, row * side), side);
            let repeats = |other: &Option<[f64; 3]>| match (&cell.flat, other) {
                (Some(a), Some(b)) => a.iter().zip(b).all(|(a, b)| (a - b).abs() <= ALIKE),
                _ => false,
            };
            if cell.edges {
                content.edges += 1;
            } else if repeats(&left) || repeats(above) {
                content.repeated += 1;
            }
            edges.push(cell.edges.into());
            left = cell.flat;
            *above = cell.flat;
        }
    }
    Shown { content, edges }
}

fn cell(picture: &Pixels, (left, top): (u32, u32), side: u32) -> Cell {
    let (width, side) = (picture.width as usize, side as usize);
    let at = |x: usize, y: usize| 3 * ((top as usize + y) * width + left as usize + x);
    let brightness = |pixel: &[u8]| pixel.iter().map(|&value| i32::from(value)).sum::<i32>();
    let sharp = |a: i32, b: i32| (a - b).abs() >= 3 * EDGE;
    let (mut sums, mut squares, mut edges) = ([0_u64; 3], [0_u64; 3], 0);
    let mut above = vec![0; side];
    for y in 0..side {
        let row = &picture.rgb[at(0, y)..at(side, y)];
        let mut before = None;
        for (pixel, above) in row.as_chunks::<3>().0.iter().zip(&mut above) {
            for ((sum, square), &value) in sums.iter_mut().zip(&mut squares).zip(pixel) {
                *sum += u64::from(value);
                *square += u64::from(value).pow(2);
            }
            let here = brightness(pixel);
            edges += usize::from(before.is_some_and(|before| sharp(here, before)));
            edges += usize::from(y > 0 && sharp(here, *above));
            (before, *above) = (Some(here), here);
        }
    }
    let pairs = 2 * side * (side - 1);
    let n = (side * side) as f64;
    let mean = sums.map(|sum| sum as f64 / n);
    let flat = squares.iter().zip(mean).all(|(&square, mean)| square as f64 / n - mean * mean <= FLAT * FLAT);
    let edges = edges > 0 && edges * EDGES.1 >= pairs * EDGES.0;
    Cell { edges, flat: (flat && !edges).then_some(mean) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of `across` x `down` cells of 8 pixels, `colour` giving each pixel's.
    fn picture(across: u32, down: u32, colour: impl Fn(u32, u32) -> [u8; 3]) -> Pixels {
        let (width, height) = (across * 8, down * 8);
        let rgb = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).flat_map(|(x, y)| colour(x, y));
        Pixels { width, height, rgb: rgb.collect(), remark: None, moment: None }
    }

    fn content(cells: u32, edges: u32, repeated: u32) -> Content {
        Content { cells, edges, repeated }
    }

    #[test]
    fn what_cells_show() {
        let blank = picture(4, 3, |_, _| [250, 248, 240]);
        assert_eq!(of(&blank, 8).content, content(12, 0, 11), "the first repeats nobody");
        let letters = picture(4, 3, |x, y| if x % 4 < 2 && y % 8 < 6 { [20; 3] } else { [255; 3] });
        assert_eq!(of(&letters, 8).content, content(12, 12, 0));
        let half = picture(4, 2, |x, y| if y < 8 && x % 3 == 0 { [20; 3] } else { [255; 3] });
        assert_eq!(of(&half, 8).content, content(8, 4, 3), "one blank cell stands for the four");
        // 12 steps of brightness a cell: a slope, no edge.
        let slope = picture(4, 3, |x, y| [(x * 3 / 2 + y * 3) as u8; 3]);
        assert_eq!(of(&slope, 8).content, content(12, 0, 0));
        let grain = picture(4, 3, |x, y| [200 + ((x * 7 + y * 13) % 11) as u8; 3]);
        assert_eq!(of(&grain, 8).content, content(12, 0, 11));
        let flags = picture(4, 1, |x, _| if x / 8 % 2 == 0 { [255, 0, 0] } else { [0, 0, 255] });
        assert_eq!(of(&flags, 8).content, content(4, 0, 0), "colours that take turns repeat no neighbour");
    }

    #[test]
    fn what_is_no_whole_cell_does_not_count() {
        let odd = Pixels { width: 20, height: 9, rgb: vec![7; 540], remark: None, moment: None };
        assert_eq!(of(&odd, 8).content, content(2, 0, 1));
        assert_eq!(of(&odd, 100).content, content(0, 0, 0));
        assert_eq!(of(&odd, 1).content.cells, 180);
    }
    #[test]
    fn edges_stand_where_they_are() {
        let half = of(&picture(4, 2, |x, y| if y < 8 && x % 3 == 0 { [20; 3] } else { [255; 3] }), 8);
        assert_eq!(half.edges, [1, 1, 1, 1, 0, 0, 0, 0]);
        assert_eq!(half.of_tokens(&[0, 5, 3], 1, 4), [1, 0, 1]);
        assert_eq!(half.of_tokens(&[1], 2, 2), [1], "a square of four has the edges of its cells");
        let left = of(&picture(4, 2, |x, _| if x < 8 && x % 3 == 0 { [20; 3] } else { [255; 3] }), 8);
        let both = half.and(&left);
        assert_eq!((both.edges.as_slice(), both.content.edges), ([1, 1, 1, 1, 1, 0, 0, 0].as_slice(), 5));
        assert_eq!(both.content.repeated, 3);
    }
}
