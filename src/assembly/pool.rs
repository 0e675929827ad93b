//! Bilinear interpolation of a grid of tokens to a smaller one, with cells that may be empty.

use super::{Row, Share};

/// Shares below this are rounding, not a cell's part.
const LEAST: f64 = 1e-6;

/// Returns the cells of `to` = (across, down), row by row, from those of `from`; `token_at(x, y)` is the
/// token on a cell. A cell is the bilinear mean (as PyTorch's `interpolate`, corners not aligned) of the up
/// to four cells around its centre. Only cells with a token count; without any the result is `None`. Its
/// shares have the weights of the full grid, where they sum to 1.
pub(super) fn shrink(
    from: (u32, u32),
    to: (u32, u32),
    token_at: impl Fn(u32, u32) -> Option<(usize, usize)>,
) -> Vec<Vec<Option<Row>>> {
    let columns = axis(from.0, to.0);
    let cell = |row: &[(u32, f64)], column: &[(u32, f64)]| {
        let mut shares = Vec::new();
        for &(y, weight_y) in row {
            for &(x, weight_x) in column {
                if let Some((tile, token)) = token_at(x, y) {
                    shares.push(Share { tile, token, weight: weight_y * weight_x });
                }
            }
        }
        of_shares(shares)
    };
    axis(from.1, to.1).iter().map(|row| columns.iter().map(|column| cell(row, column)).collect()).collect()
}

fn of_shares(shares: Vec<Share>) -> Option<Row> {
    let total: f64 = shares.iter().map(|share| share.weight).sum();
    if total < LEAST {
        return None;
    }
    Some(match shares.as_slice() {
        [all] if total > 1.0 - LEAST => Row::Token { tile: all.tile, token: all.token },
        _ => Row::Mean(shares),
    })
}

/// For each of `to` places the one or two of `from` it is made of, with weights.
fn axis(from: u32, to: u32) -> Vec<Vec<(u32, f64)>> {
    let scale = f64::from(from) / f64::from(to);
    (0..to)
        .map(|i| {
            let at = (scale * (f64::from(i) + 0.5) - 0.5).max(0.0);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let first = (at as u32).min(from - 1);
            let part = at - f64::from(first);
            let second = (first + 1).min(from - 1);
            let mut places = vec![(first, 1.0 - part), (second, part)];
            if first == second {
                places = vec![(first, 1.0)];
            }
            places.retain(|(_, weight)| *weight >= LEAST);
            places
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        assert_eq!(axis(4, 2), [vec![(0, 0.5), (1, 0.5)], vec![(2, 0.5), (3, 0.5)]]);
        assert_eq!(axis(3, 3), [vec![(0, 1.0)], vec![(1, 1.0)], vec![(2, 1.0)]]);
        assert_eq!(axis(1, 1), [vec![(0, 1.0)]]);
        // 27 to 14 as torch.nn.functional.interpolate: the middle of the first pair is 0.46.
        let places = axis(27, 14);
        assert_eq!(places[0][0].0, 0);
        assert!((places[0][1].1 - (27.0 / 28.0 - 0.5)).abs() < 1e-12);
        assert_eq!(places[13].last().unwrap().0, 26);
    }

    #[test]
    fn empty_cells_take_no_part() {
        let full = shrink((4, 2), (2, 1), |x, y| Some((0, (y * 4 + x) as usize)));
        let Some(Row::Mean(shares)) = &full[0][0] else { panic!("a mean") };
        assert_eq!(shares.iter().map(|s| s.token).collect::<Vec<_>>(), [0, 1, 4, 5]);
        assert!(shares.iter().all(|s| (s.weight - 0.25).abs() < 1e-12));
        let half = shrink((4, 2), (2, 1), |x, _| (x == 0).then_some((0, 0)));
        assert!(half[0][1].is_none());
    }
}
