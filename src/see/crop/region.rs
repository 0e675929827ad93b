//! The region of a picture that a text-image model chooses: the best of some windows, or a box around the strongest part
//! of a map. tools/reference_model/regions.py is an account of the same rules.

/// Left, top, right and bottom in pixels, half-open.
pub type Area = [u32; 4];

/// Sides of the windows, as shares of the picture's.
const SHARES: [f64; 3] = [1.0, 0.75, 0.5];
/// Added to each end of a box's side, as a share of it.
const MARGIN: f64 = 1.0 / 8.0;
/// Shortest side of a box, as a share of the picture's.
const LEAST: f64 = 1.0 / 4.0;

/// Windows over a picture, the largest first, then row by row. Two neighbours overlap by half at least.
#[must_use]
pub fn windows(width: u32, height: u32) -> Vec<Area> {
    let mut found = Vec::new();
    for share in SHARES {
        let across = places(width, share);
        for [top, bottom] in places(height, share) {
            found.extend(across.iter().map(|&[left, right]| [left, top, right, bottom]));
        }
    }
    found
}

/// Beginnings and ends of the windows that have `share` of `length`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn places(length: u32, share: f64) -> Vec<[u32; 2]> {
    let round = |x: f64| (x + 0.5).floor() as u32;
    let side = round(share * f64::from(length)).max(1);
    let gaps = ((1.0 - share) / (share / 2.0)).ceil();
    (0..=gaps as u32)
        .map(|i| {
            let start = round(f64::from(length - side) * f64::from(i) / gaps.max(1.0));
            [start, start + side]
        })
        .collect()
}

/// The box around the strongest part of a map over a picture of `size` pixels; the map has `columns` logits in a row. A
/// cell belongs to the part if its share is half the largest at least. The part is connected and has the largest sum.
#[must_use]
pub fn around_map(logits: &[f32], columns: usize, size: (u32, u32)) -> Area {
    let columns = columns.max(1);
    let rows = logits.len() / columns;
    let shares: Vec<f64> = logits.iter().map(|&logit| 1.0 / (1.0 + (-f64::from(logit)).exp())).collect();
    let most = shares.iter().copied().fold(0.0, f64::max);
    let mut free: Vec<bool> = shares.iter().map(|&share| share >= most / 2.0).collect();
    // Sum, then first and last column and row.
    let mut best: Option<(f64, [usize; 4])> = None;
    for first in 0..rows * columns {
        if !free[first] {
            continue;
        }
        free[first] = false;
        let mut open = vec![first];
        let mut cells = Vec::new();
        while let Some(cell) = open.pop() {
            cells.push(cell);
            let (x, y) = (cell % columns, cell / columns);
            let beside = [
                (x > 0).then(|| cell - 1),
                (x + 1 < columns).then(|| cell + 1),
                (y > 0).then(|| cell - columns),
                (y + 1 < rows).then(|| cell + columns),
            ];
            for other in beside.into_iter().flatten() {
                if std::mem::take(&mut free[other]) {
                    open.push(other);
                }
            }
        }
        // In one order, so that equal parts have equal sums.
        cells.sort_unstable();
        let sum: f64 = cells.iter().map(|&cell| shares[cell]).sum();
        if best.is_none_or(|(most, _)| sum > most) {
            let bounds = |of: &dyn Fn(usize) -> usize| {
                let values = || cells.iter().map(|&cell| of(cell));
                (values().min().unwrap_or(0), values().max().unwrap_or(0))
            };
            let (left, right) = bounds(&|cell| cell % columns);
            let (top, bottom) = bounds(&|cell| cell / columns);
            best = Some((sum, [left, right, top, bottom]));
        }
    }
    let Some((_, [left, right, top, bottom])) = best else { return [0, 0, size.0, size.1] };
    let [left, right] = grown(left, right, columns, size.0);
    let [top, bottom] = grown(top, bottom, rows, size.1);
    [left, top, right, bottom]
}

/// Cells `first` to `last` of `cells` as pixels: with a margin, not too short, and moved inside the picture.
#[allow(clippy::cast_precision_loss)]
fn grown(first: usize, last: usize, cells: usize, pixels: u32) -> [u32; 2] {
    let (low, high, size) = (first as f64, (last + 1) as f64, cells as f64);
    let length = ((high - low) * (1.0 + 2.0 * MARGIN)).max(size * LEAST).min(size);
    let start = ((low + high) / 2.0 - length / 2.0).max(0.0).min(size - length);
    in_pixels(start, start + length, f64::from(pixels) / size, pixels)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn in_pixels(start: f64, end: f64, scale: f64, pixels: u32) -> [u32; 2] {
    [(start * scale).floor() as u32, ((end * scale).ceil() as u32).min(pixels)]
}

/// Places of the `count` largest values, ascending; the first of equals counts as larger.
#[must_use]
pub fn best(values: &[f32], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    order.truncate(count);
    order.sort_unstable();
    order
}
