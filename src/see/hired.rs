//! HiRED's budgets (Arif et al., 2024): the whole picture's attention in an early layer says how many tokens each
//! tile keeps.

use std::sync::atomic::AtomicBool;

use super::encode::Inputs;
use super::tower::TowerEncoder;
use crate::assembly::Arrangement;
use crate::error::Result;
use crate::native::{EncodeOptions, Strategy};
use crate::schedule::{Grid, Schedule, Step, TilePlan, TowerScore};

/// Share of the budget that the whole picture has for itself.
const OVERVIEW: f64 = 0.5;

impl TowerEncoder {
    /// Spreads what `plans` leave in all over the whole picture, which is the first, and its tiles. Other
    /// arrangements keep their plans.
    ///
    /// # Errors
    /// The library's own.
    pub(super) fn spread(
        &mut self,
        inputs: &Inputs,
        plans: Vec<TilePlan>,
        (arrangement, schedule): (Arrangement, &Schedule),
        cancelled: &AtomicBool,
    ) -> Result<Vec<TilePlan>> {
        let (Arrangement::Anyres { grid, .. }, Inputs::Cuts(_)) = (arrangement, inputs) else {
            return Ok(plans);
        };
        let group = self.shape.group.max(1);
        let Some(first) = plans.first().filter(|first| plans.len() > 1 && first.patches > group) else {
            return Ok(plans);
        };
        // One layer over the whole picture. All but one token go there, so that the layers behind it cost little.
        let layer = self.shape.vit_first;
        let options = EncodeOptions {
            steps: &[(layer, first.patches - group)],
            strategy: Strategy::Prune,
            reference_grid: schedule.grid == Grid::Reference,
            threads: self.tower.options.threads,
            stop: &[self.stop.flag(), cancelled],
            class_scores: schedule.vit_score == TowerScore::Class,
            count_sizes: false,
            held: &[],
        };
        let looked = self.tile(inputs, 0, &options)?;
        let scores = looked.steps.first().map(|step| step.scores.as_slice()).unwrap_or_default();
        let rooms: Vec<u32> = plans.iter().map(|plan| plan.patches / group).collect();
        let total: u32 = plans.iter().map(|plan| plan.tokens).sum();
        let weights = attention(scores, looked.cells, grid);
        let tokens = budgets(total, &weights, &rooms);
        let placed = plans.into_iter().zip(tokens).map(|(plan, tokens)| {
            let steps = plan.steps.iter().map(|step| {
                let n_out = tokens * group;
                Step { r: step.n_in - n_out, n_out, ..*step }
            });
            TilePlan { steps: steps.collect(), tokens, ..plan }
        });
        Ok(placed.collect())
    }
}

/// Attention that falls on each tile of a `grid`, line by line; `cells` of the whole picture have `scores`.
fn attention(scores: &[f32], cells: (u32, u32), grid: (u32, u32)) -> Vec<f64> {
    let mut sums = vec![0.0; (grid.0 * grid.1) as usize];
    for (i, &score) in (0..).zip(scores) {
        let (x, y) = (i % cells.0.max(1), i / cells.0.max(1));
        // The tile in which the cell's centre lies.
        let at = |cell: u32, cells: u32, tiles: u32| (2 * cell + 1) * tiles / (2 * cells.max(1));
        let tile = at(y, cells.1, grid.1) * grid.0 + at(x, cells.0, grid.0);
        if let Some(sum) = sums.get_mut(tile as usize) {
            *sum += f64::from(score);
        }
    }
    sums
}

/// Tokens of the whole picture and of each tile, `total` together: half of them are the whole picture's, the others
/// go by `weights`, the largest remainders first. None has more than its room or less than one.
fn budgets(total: u32, weights: &[f64], rooms: &[u32]) -> Vec<u32> {
    let (Some(&room), tiles) = (rooms.first(), weights.len()) else { return Vec::new() };
    let least = u32::try_from(tiles).unwrap_or(u32::MAX);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = ((f64::from(total) * OVERVIEW) as u32).min(total.saturating_sub(least)).clamp(1, room);
    let mut out = vec![whole];
    out.resize(rooms.len(), 1);
    let mut left = total.saturating_sub(whole + least);
    let sum: f64 = weights.iter().sum();
    let exact: Vec<f64> = weights
        .iter()
        .map(|weight| f64::from(total - whole) * if sum > 0.0 { weight / sum } else { 1.0 / tiles as f64 })
        .collect();
    while left > 0 {
        // The tile that lacks most of its share takes the next; a full one none.
        let lacks = |i: usize| exact[i] - f64::from(out[i + 1]);
        let open = (0..tiles).filter(|&i| rooms.get(i + 1).is_some_and(|&room| out[i + 1] < room));
        let Some(next) = open.max_by(|&a, &b| lacks(a).total_cmp(&lacks(b)).then(b.cmp(&a))) else { break };
        out[next + 1] += 1;
        left -= 1;
    }
    // The whole picture has the rest that no tile has room for.
    out[0] = (out[0] + left).min(room);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attention_falls_on_tiles() {
        // 4 x 2 cells under 2 x 1 tiles, and 3 x 3 under 2 x 2: the middle falls on the last.
        assert_eq!(attention(&[1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0], (4, 2), (2, 1)), [8.0, 12.0]);
        assert_eq!(attention(&[1.0; 9], (3, 3), (2, 2)), [1.0, 2.0, 2.0, 4.0]);
    }

    #[test]
    fn all_of_the_budget_is_spent() {
        // (total, weights, rooms, expected)
        let cases: [(u32, &[f64], &[u32], &[u32]); 6] = [
            (100, &[1.0, 1.0], &[100; 3], &[50, 25, 25]),
            (100, &[3.0, 1.0], &[100; 3], &[50, 38, 12]),
            (100, &[1.0, 0.0], &[100; 3], &[50, 49, 1]),
            (100, &[9.0, 1.0], &[100, 30, 40], &[50, 30, 20]),
            (100, &[9.0, 1.0], &[100, 20, 20], &[60, 20, 20]),
            (3, &[0.0, 0.0], &[100; 3], &[1, 1, 1]),
        ];
        for (total, weights, rooms, expected) in cases {
            assert_eq!(budgets(total, weights, rooms), expected, "{total} {weights:?}");
            assert_eq!(budgets(total, weights, rooms).iter().sum::<u32>(), total);
        }
    }
}
