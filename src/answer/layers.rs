//! The cache of several conversations: the decoder layers it is cut at, and its cells.

use std::collections::BTreeSet;

use super::CacheLayout;
use crate::error::{Error, Field, Result};
use crate::pair::Facts;
use crate::schedule::{Choice, MergeFlag, Plan, Preset, Recommended, Schedule, Shape, Strategy, select};

/// The merge layers of the default schedule and of every preset and method this pair can take: a request may
/// then name any of them. A cut that a request does not use costs it one read-out of the residual
/// rows, and text one more mask.
#[must_use]
pub fn servable_layers(default: &Schedule, shape: &Shape, recommended: Option<&Recommended>) -> Vec<u32> {
    let presets = Preset::ALL.into_iter().map(MergeFlag::Preset).chain([MergeFlag::Model, MergeFlag::Auto]);
    let presets = presets.map(|flag| Choice { merge: Some(flag), ..Choice::default() });
    let methods = Strategy::ALL.into_iter().filter(|strategy| strategy.is_method());
    let methods = methods.map(|strategy| Choice { strategy: Some(strategy), ..Choice::default() });
    let schedules = presets.chain(methods).filter_map(|choice| select(&choice, shape, recommended).ok());
    let layers: BTreeSet<u32> =
        schedules.flat_map(|schedule| schedule.merge_layers()).chain(default.merge_layers()).collect();
    layers.into_iter().collect()
}

/// Cells of the cache and how many share them.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub slots: u32,
    /// Cells of the first segment, all slots together; without it 4096 for each slot, or what the
    /// model was trained for.
    pub cells: Option<u32>,
    /// Pictures of the default schedule that each slot is taken to hold: what merging takes away
    /// from them, the deeper segments need not have.
    pub pictures: u32,
    /// Whether the cache is cut at the layers of the default schedule alone, and requests can merge at no others.
    pub own_cuts: bool,
}

/// Cells of a slot if no setting says how many.
const SLOT_CELLS: u32 = 4096;

/// The cache for `sizes`, cut at the layers of the default schedule, and of the presets unless these are left out. The
/// second value is the cells that one slot may fill in each segment.
///
/// # Errors
/// [`crate::error::Kind::Usage`] for a context that leaves a slot nothing.
pub fn shared_layout(facts: &Facts, default: &Schedule, sizes: Sizes) -> Result<(CacheLayout, Vec<u32>)> {
    let pair = &facts.pair;
    let merge_layers = if sizes.own_cuts {
        default.merge_layers()
    } else {
        servable_layers(default, &facts.shape, pair.recommended.as_ref())
    };
    let slots = sizes.slots.max(1);
    let slot = match sizes.cells {
        Some(cells) => cells / slots,
        None => SLOT_CELLS.min(pair.n_ctx_train),
    };
    if slot < 2 {
        return Err(Error::usage(format!(
            "{} {}: {slots} slots leave each {slot} cells; give at least {}, or a smaller {}",
            Field::ContextSize,
            sizes.cells.unwrap_or(0),
            slots * 2,
            Field::Slots
        )));
    }
    let plan = Plan::new(default, &facts.shape, &[facts.shape.vit_tokens])
        .and_then(|plan| plan.cut_at(&merge_layers, facts.shape.llm_layers))?;
    let held = plan.computed();
    let cells: Vec<u32> = held
        .iter()
        .map(|tokens| {
            let gone = held.first().map_or(0, |first| first - tokens.min(first));
            slot.saturating_sub(gone.saturating_mul(sizes.pictures)).max(2)
        })
        .collect();
    let layout = CacheLayout {
        merge_layers,
        cells: slot * slots,
        deep: cells.iter().skip(1).map(|cells| cells * slots).collect(),
        cells_unmerged: slot * slots,
    };
    Ok((layout, cells))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{Amount, HalfSchedule, so400m};

    #[test]
    fn the_presets_and_the_default() {
        let shape = so400m();
        let own =
            Schedule { decoder: HalfSchedule { steps: vec![(5, Amount::Keep(0.5))] }, ..Schedule::default() };
        assert_eq!(servable_layers(&own, &shape, None), [2, 5, 6, 7, 8, 13, 14, 21]);
        let recommended = Recommended { llm_layers: vec![3], llm_keep: vec![0.5], ..Recommended::default() };
        assert_eq!(
            servable_layers(&Schedule::default(), &shape, Some(&recommended)),
            [2, 3, 5, 6, 7, 8, 13, 14, 21]
        );
        let fixed = Shape { llm_can_merge: false, ..shape };
        assert_eq!(servable_layers(&Schedule::default(), &fixed, None), [0_u32; 0]);
    }
}
