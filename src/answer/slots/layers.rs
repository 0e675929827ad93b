//! Which decoder layers the cache of several conversations is cut at.

use std::collections::BTreeSet;

use crate::schedule::{Choice, MergeFlag, Preset, Recommended, Schedule, Shape, select};

/// The merge layers of the default schedule and of every preset this pair can take: a request may
/// then name any preset. A cut that a request does not use costs it one read-out of the residual
/// rows, and text one more mask.
#[must_use]
pub fn servable_layers(default: &Schedule, shape: &Shape, recommended: Option<&Recommended>) -> Vec<u32> {
    let presets = Preset::ALL.into_iter().map(MergeFlag::Preset).chain([MergeFlag::Model]);
    let schedules = presets.filter_map(|flag| {
        select(&Choice { merge: Some(flag), ..Choice::default() }, shape, recommended).ok()
    });
    let layers: BTreeSet<u32> =
        schedules.flat_map(|schedule| schedule.merge_layers()).chain(default.merge_layers()).collect();
    layers.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{Amount, HalfSchedule};

    #[test]
    fn the_presets_and_the_default() {
        let shape = Shape {
            vit_layers: 27,
            vit_layers_run: 26,
            vit_tokens: 729,
            group: 1,
            vit_can_merge: true,
            llm_layers: 28,
            llm_can_merge: true,
            is_qwen2vl: false,
        };
        let own =
            Schedule { decoder: HalfSchedule { steps: vec![(5, Amount::Keep(0.5))] }, ..Schedule::default() };
        assert_eq!(servable_layers(&own, &shape, None), [2, 5, 6, 7, 8]);
        let recommended = Recommended { llm_layers: vec![3], llm_keep: vec![0.5], ..Recommended::default() };
        assert_eq!(servable_layers(&Schedule::default(), &shape, Some(&recommended)), [2, 3, 6, 7, 8]);
        let fixed = Shape { llm_can_merge: false, ..shape };
        assert_eq!(servable_layers(&Schedule::default(), &fixed, None), [0_u32; 0]);
    }
}
