//! One slot: a sequence of the cache, and the task it works on.

use std::time::Instant;

use super::Entry;
use super::event::SlotState;
use super::sequence::Sequence;
use super::task::Task;
use super::text::AnswerText;

#[derive(Default)]
pub(super) struct Slot {
    pub sequence: Sequence,
    /// Scope of the sequence.
    pub scope: Option<Vec<u8>>,
    /// When it was last given a request or freed.
    pub used_at: u64,
    pub work: Option<Work>,
}

pub(super) struct Work {
    pub task: Task,
    /// Time when the request got the slot: the first to come is prefilled first.
    pub since: u64,
    /// Entries of the prompt that the cache had.
    pub kept: usize,
    /// Additions to the logits of tokens, by token.
    pub bias: Vec<(i32, f32)>,
    pub stage: Stage,
}

pub(super) enum Stage {
    /// Waits for its pictures.
    Encoding,
    Prefill,
    Generating(Box<Generating>),
}

pub(super) struct Generating {
    pub answer: AnswerText,
    /// Drawn, and to be decoded with the next batch.
    pub next: i32,
    /// Tokens that the fullest segment still takes.
    pub room: u32,
    /// Time when the first token was drawn.
    pub first: Option<Instant>,
}

impl Slot {
    pub(super) fn state(&self) -> SlotState {
        match self.work.as_ref().map(|work| &work.stage) {
            None => SlotState::Idle,
            Some(Stage::Encoding) => SlotState::Encoding,
            Some(Stage::Prefill) => SlotState::Prefill,
            Some(Stage::Generating(_)) => SlotState::Generating,
        }
    }

    /// Entries of the prompt that this slot's cache begins with and that may be used.
    pub(super) fn common(&self, task: &Task) -> usize {
        task.cached(&self.sequence, self.scope.as_ref())
    }

    pub(super) fn is_encoding(&self) -> bool {
        self.work.as_ref().is_some_and(|work| matches!(work.stage, Stage::Encoding))
    }
}

/// Place for a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub slot: usize,
    /// Entries of the prompt that need not be computed.
    pub kept: usize,
    /// The slot that has them, where it is another.
    pub from: Option<usize>,
}

/// Finds the idle slot for a request, and the place of its longest cached beginning: that slot, or another
/// whose cells it can share. Returns `None` while all are busy, or the one that the request names is.
pub(super) fn place(slots: &[Slot], task: &Task) -> Option<Place> {
    let own = task.slot.map(|slot| slot % slots.len().max(1));
    let idle = |i: &usize| slots[*i].work.is_none() && own.is_none_or(|own| own == *i);
    let source = (0..slots.len())
        .filter(|i| matches!(slots[*i].state(), SlotState::Idle | SlotState::Generating))
        .map(|i| (i, slots[i].common(task)))
        .filter(|(_, common)| *common > 0)
        .max_by_key(|&(i, common)| (slots[i].sequence.tokens(common), idle(&i), slots[i].used_at));
    // Empty ones first, then the one that was not needed for longest.
    let oldest = |but: Option<usize>| {
        (0..slots.len())
            .filter(|i| idle(i) && Some(*i) != but)
            .min_by_key(|&i| (!slots[i].sequence.entries().is_empty(), slots[i].used_at))
    };
    let Some((source, kept)) = source else {
        return Some(Place { slot: oldest(None)?, kept: 0, from: None });
    };
    // A conversation that continues stays in its slot. One that shares only the beginning leaves the rest for
    // the conversation that it belongs to.
    let sequence = &slots[source].sequence;
    let mostly = sequence.tokens(kept) * 2 >= sequence.tokens(sequence.entries().len());
    if idle(&source) && mostly {
        return Some(Place { slot: source, kept, from: None });
    }
    match oldest(Some(source)) {
        Some(slot) => Some(Place { slot, kept, from: Some(source) }),
        None if idle(&source) => Some(Place { slot: source, kept, from: None }),
        None => None,
    }
}

/// Text that is worth waiting for, in tokens.
const WORTH: usize = 64;

/// Whether a prompt that is being computed begins as this one does, with a picture or much text
/// that no slot has yet: once it is there it can be shared, and prompts are computed one after
/// another anyway.
pub(super) fn will_be_shared(slots: &[Slot], task: &Task) -> bool {
    let there = slots
        .iter()
        .filter(|slot| matches!(slot.state(), SlotState::Idle | SlotState::Generating))
        .map(|slot| slot.common(task))
        .max()
        .unwrap_or(0);
    let coming = slots
        .iter()
        .filter(|slot| matches!(slot.state(), SlotState::Encoding | SlotState::Prefill))
        .filter_map(|slot| slot.work.as_ref())
        .map(|work| work.task.common(task))
        .max()
        .unwrap_or(0);
    let new = task.entries.get(there..coming).unwrap_or_default();
    new.len() >= WORTH || new.iter().any(|entry| matches!(entry, Entry::Image(_)))
}

impl Work {
    pub(super) fn generated(&self) -> u32 {
        match &self.stage {
            Stage::Generating(generating) => generating.answer.generated,
            _ => 0,
        }
    }
}
