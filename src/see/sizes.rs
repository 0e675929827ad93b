//! How many cells of its tile each token stands for after merging.

use crate::native::Encoded;

/// \[tokens\] the encoder's own count if it keeps one, else the sum over all that its steps folded into each
/// survivor. A token that is a mean of `side` x `side` patches has their share. Empty if nothing was folded into anything:
/// one each.
pub(super) fn of_tile(tile: &Encoded, side: usize) -> Vec<f32> {
    if !tile.sizes.is_empty() {
        return tile.sizes.clone();
    }
    let (Some(first), Some(last)) = (tile.steps.first(), tile.steps.last()) else { return Vec::new() };
    // Survivors that are taken for other cells have no size, as with the reference grid of groups.
    if side == 1 && last.kept.len() != tile.n_tokens as usize {
        return Vec::new();
    }
    let mut sizes = vec![1.0; first.n_in as usize];
    let mut counted = false;
    let index = |token: i32| token.unsigned_abs() as usize;
    for step in &tile.steps {
        let merged = step.into.map(|_| &step.merged);
        for group in step.groups.iter().chain(merged) {
            let Some((&survivor, gone)) = group.split_last() else { continue };
            let taken: f32 = gone.iter().filter_map(|&token| sizes.get(index(token))).sum();
            if let Some(size) = sizes.get_mut(index(survivor)) {
                *size += taken;
                counted = true;
            }
        }
    }
    if !counted {
        return Vec::new();
    }
    let size = |token: &i32| sizes.get(index(*token)).copied().unwrap_or(1.0);
    if side == 1 {
        return last.kept.iter().map(size).collect();
    }
    let across = (tile.cells.0 as usize).max(1);
    let cell = |patch: usize| patch / (across * side) / side * across + patch % (across * side) / side;
    let mut shares = vec![0.0; across * tile.cells.1 as usize];
    for patch in &last.kept {
        if let Some(share) = shares.get_mut(cell(index(*patch))) {
            *share += size(patch) / (side * side) as f32;
        }
    }
    tile.kept.iter().map(|&kept| shares.get(index(kept)).copied().unwrap_or(1.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::MergeStep;

    fn tile(steps: Vec<MergeStep>) -> Encoded {
        let n_tokens = steps.last().map_or(0, |step| step.n_out);
        Encoded { n_tokens, steps, ..Encoded::default() }
    }

    #[test]
    fn sizes_add_up_over_the_steps() {
        let merge = |n_in, kept: &[i32], merged: &[i32]| MergeStep {
            n_in,
            n_out: kept.len() as u32,
            kept: kept.to_vec(),
            merged: merged.to_vec(),
            into: merged.last().copied(),
            ..MergeStep::default()
        };
        let twice = tile(vec![merge(6, &[0, 2, 4, 5], &[1, 3, 4]), merge(4, &[0, 2, 5], &[4, 2])]);
        assert_eq!(of_tile(&twice, 1), [1.0, 4.0, 1.0]);

        let groups = MergeStep {
            into: None,
            groups: vec![vec![1, 0], vec![3, 5]],
            ..merge(6, &[0, 2, 4, 5], &[1, 3])
        };
        assert_eq!(of_tile(&tile(vec![groups]), 1), [2.0, 1.0, 1.0, 2.0]);

        let pruned = MergeStep { into: None, ..merge(6, &[0, 2, 4, 5], &[1, 3]) };
        assert!(of_tile(&tile(vec![pruned]), 1).is_empty(), "what is dropped is in nobody");
        assert!(of_tile(&Encoded { sizes: vec![2.0], ..Encoded::default() }, 1) == [2.0]);

        // 4 x 2 patches in two cells: 5 and 6 went into 1.
        let pooled = Encoded {
            cells: (2, 1),
            kept: vec![0, 1],
            n_tokens: 2,
            ..tile(vec![merge(8, &[0, 1, 2, 3, 4, 7], &[5, 6, 1])])
        };
        assert_eq!(of_tile(&pooled, 2), [1.25, 0.75]);
    }
}
