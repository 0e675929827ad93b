//! How many cells of its tile each token stands for after merging.

use crate::native::Encoded;

/// \[tokens\] the encoder's own count if it keeps one, else the sum over all that its steps folded into each
/// survivor. Empty if nothing was folded into anything: one each.
pub(super) fn of_tile(tile: &Encoded) -> Vec<f32> {
    if !tile.sizes.is_empty() {
        return tile.sizes.clone();
    }
    let (Some(first), Some(last)) = (tile.steps.first(), tile.steps.last()) else { return Vec::new() };
    // Survivors that are taken for other cells have no size, as with the reference grid of groups.
    if last.kept.len() != tile.n_tokens as usize {
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
    last.kept.iter().map(|&token| sizes.get(index(token)).copied().unwrap_or(1.0)).collect()
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
        assert_eq!(of_tile(&twice), [1.0, 4.0, 1.0]);

        let groups = MergeStep {
            into: None,
            groups: vec![vec![1, 0], vec![3, 5]],
            ..merge(6, &[0, 2, 4, 5], &[1, 3])
        };
        assert_eq!(of_tile(&tile(vec![groups])), [2.0, 1.0, 1.0, 2.0]);

        let pruned = MergeStep { into: None, ..merge(6, &[0, 2, 4, 5], &[1, 3]) };
        assert!(of_tile(&tile(vec![pruned])).is_empty(), "what is dropped is in nobody");
        assert!(of_tile(&Encoded { sizes: vec![2.0], ..Encoded::default() }) == [2.0]);
    }
}
