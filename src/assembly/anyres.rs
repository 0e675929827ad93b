//! The tiles of one picture as a single grid of rows (LLaVA-NeXT and LLaVA-OneVision).

use super::{Row, Survivors, pool};

/// Left, top, right, bottom in cells, half-open.
type Window = (u32, u32, u32, u32);

/// The slots of the tiles, which follow the base view (tile 0): line by line of the grid, with
/// `newline` one more behind each line, which a newline takes if the line has a token.
pub(super) fn slots(
    tiles: &[Survivors],
    grid: (u32, u32),
    picture: (u32, u32),
    max_tiles: Option<u32>,
    newline: bool,
) -> Vec<Option<Row>> {
    let Some(first) = tiles.first() else { return Vec::new() };
    let (across, down) = first.cells;
    let (left, top, right, bottom) = window((grid.0 * across, grid.1 * down), picture);
    let size = (right - left, bottom - top);
    let token_at = |x: u32, y: u32| {
        let (x, y) = (x + left, y + top);
        let tile = (y / down * grid.0 + x / across) as usize;
        let token = tiles.get(tile)?.token_at(y % down * across + x % across)?;
        Some((tile + 1, token))
    };
    let cells = match max_tiles.and_then(|most| capped(size, most * across * across)) {
        Some(smaller) => pool::shrink(size, smaller, token_at),
        None => (0..size.1)
            .map(|y| {
                let row = |x| token_at(x, y).map(|(tile, token)| Row::Token { tile, token });
                (0..size.0).map(row).collect()
            })
            .collect(),
    };
    cells
        .into_iter()
        .flat_map(|mut line| {
            if newline {
                let any = line.iter().any(Option::is_some);
                line.push(any.then_some(Row::Newline));
            }
            line
        })
        .collect()
}

/// The part of a grid of `cells` that shows the picture; the padding is around it, alike on both
/// sides.
fn window(cells: (u32, u32), picture: (u32, u32)) -> Window {
    let (columns, lines) = (f64::from(cells.0), f64::from(cells.1));
    let (width, height) = (f64::from(picture.0), f64::from(picture.1));
    // Rounded to seven digits before it is cut, so that 12.9999999999 cells are 13.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = |x: f64| ((x * 1e7).round() / 1e7) as u32;
    if width / height > columns / lines {
        let shown = whole(height * (columns / width));
        let margin = cells.1.saturating_sub(shown) / 2;
        (0, margin, cells.0, cells.1 - margin)
    } else {
        let shown = whole(width * (lines / height));
        let margin = cells.0.saturating_sub(shown) / 2;
        (margin, 0, cells.0 - margin, cells.1)
    }
}

/// The size that a grid of `size` cells is shrunk to; none up to 1.1^2 times `most` cells.
///
/// The quotient is the one of the authors' code, which divides by a rounded square root with Python's
/// `//`: 135 cells by 5/3 are 80, since the f64 next to 5/3 is a little above it.
fn capped(size: (u32, u32), most: u32) -> Option<(u32, u32)> {
    let ratio = (f64::from(size.0) * f64::from(size.1) / f64::from(most)).sqrt();
    let shrunk = |length: u32| floor_div(length, ratio).max(1);
    (ratio > 1.1).then(|| (shrunk(size.0), shrunk(size.1)))
}

/// The largest integer that `divisor` fits into `length` times, without the rounding of a division.
fn floor_div(length: u32, divisor: f64) -> u32 {
    let length = f64::from(length);
    // The remainder of two f64 is exact, so that the quotient below is within rounding of an integer.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let quotient = ((length - length % divisor) / divisor).round() as u32;
    quotient
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(tiles: &[Survivors], grid: (u32, u32), picture: (u32, u32), max_tiles: Option<u32>) -> Vec<Row> {
        slots(tiles, grid, picture, max_tiles, true).into_iter().flatten().collect()
    }

    fn count(grid: (u32, u32), picture: (u32, u32), max_tiles: Option<u32>, cells: u32) -> (usize, usize) {
        let tiles = vec![Survivors::all((cells, cells)); (grid.0 * grid.1) as usize];
        let rows = rows(&tiles, grid, picture, max_tiles);
        let newlines = rows.iter().filter(|row| **row == Row::Newline).count();
        (rows.len() - newlines, newlines)
    }

    #[test]
    fn counts_of_the_published_processors() {
        // (grid, picture, cap, cells of a tile's side) -> (tokens, newlines), from the formulas of
        // transformers' LlavaNextProcessor and LlavaOnevisionProcessor.
        for (grid, picture, cap, cells, expected) in [
            ((2, 2), (640, 480), None, 24, (48 * 36, 36)),
            ((2, 2), (1000, 1000), None, 24, (48 * 48, 48)),
            ((1, 3), (300, 1200), None, 24, (72 * 18, 72)),
            ((2, 1), (20, 20), None, 24, (24 * 24, 24)),
            ((1, 1), (20, 20), Some(9), 27, (27 * 27, 27)),
            ((6, 4), (2000, 1500), Some(9), 27, (93 * 70, 70)),
            ((5, 5), (1537, 1537), Some(9), 27, (80 * 80, 80)),
            ((5, 5), (1920, 1920), Some(9), 27, (80 * 80, 80)),
        ] {
            assert_eq!(count(grid, picture, cap, cells), expected, "{grid:?} {picture:?}");
        }
    }

    #[test]
    fn survivors_keep_their_place() {
        // Two tiles of 2 x 2 side by side, all picture.
        let tiles =
            [Survivors { cells: (2, 2), kept: vec![1, 2] }, Survivors { cells: (2, 2), kept: vec![0, 2, 3] }];
        let token = |tile, token| Row::Token { tile, token };
        assert_eq!(
            rows(&tiles, (2, 1), (8, 4), None),
            [token(1, 0), token(2, 0), Row::Newline, token(1, 1), token(2, 1), token(2, 2), Row::Newline]
        );
        // Padded above and below: only the middle of four rows is left, and rows without a survivor
        // bring no newline.
        let column =
            [Survivors { cells: (2, 2), kept: vec![0, 3] }, Survivors { cells: (2, 2), kept: vec![3] }];
        assert_eq!(window((2, 4), (2, 2)), (0, 1, 2, 3));
        assert_eq!(rows(&column, (1, 2), (2, 2), None), [token(1, 1), Row::Newline]);
    }

    #[test]
    fn the_cap() {
        assert_eq!(capped((27 * 4, 27 * 3), 9 * 729), Some((93, 70)));
        assert_eq!(capped((81, 81), 9 * 729), None);
        assert_eq!(capped((135, 135), 9 * 729), Some((80, 80)));
        // A line thinner than one cell is still a line.
        assert_eq!(capped((1000, 1), 9), Some((94, 1)));
    }

    /// Every grid of up to 6 x 6 tiles of 27 cells against integers: an f64 is a whole number times a
    /// power of two.
    #[test]
    fn the_cap_divides_exactly() {
        let most = 9 * 729;
        let mut shrunk = 0;
        for (across, down) in (1..=162).flat_map(|x| (1..=162).map(move |y| (x, y))) {
            let ratio = (f64::from(across * down) / f64::from(most)).sqrt();
            let Some(size) = capped((across, down), most) else {
                assert!(ratio <= 1.1, "{across} x {down}");
                continue;
            };
            let bits = ratio.to_bits();
            let mantissa = u128::from(bits & ((1 << 52) - 1) | 1 << 52);
            let halvings = 1075 - (bits >> 52);
            let exact = |length: u32| ((u128::from(length) << halvings) / mantissa) as u32;
            assert_eq!(size, (exact(across), exact(down)), "{across} x {down}");
            shrunk += 1;
        }
        assert!(shrunk > 8_000, "{shrunk}");
    }
}
