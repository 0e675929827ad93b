//! One slot: what its sequence holds in the cache, and the request it works on.

use std::sync::Arc;
use std::time::Instant;

use super::event::SlotState;
use super::request::{Request, count};
use crate::answer::MergeStep;
use crate::answer::rows::Entry;
use crate::answer::text::AnswerText;
use crate::see::{EncodedImage, Key};

/// One item of what a sequence holds.
#[derive(Clone)]
pub(super) enum CachedEntry {
    Token(i32),
    Picture(Arc<CachedPicture>),
}

/// A picture in the decoder's cache.
pub(super) struct CachedPicture {
    pub key: Key,
    /// Without embeddings.
    pub image: EncodedImage,
    pub steps: Vec<MergeStep>,
}

impl CachedEntry {
    fn positions(&self) -> i32 {
        match self {
            CachedEntry::Token(_) => 1,
            CachedEntry::Picture(shown) => shown.image.extent,
        }
    }

    /// Text tokens or embeddings.
    pub(super) fn tokens(&self) -> u32 {
        match self {
            CachedEntry::Token(_) => 1,
            CachedEntry::Picture(shown) => shown.image.plan.tokens,
        }
    }

    fn cells(&self, segment: usize) -> u32 {
        match self {
            CachedEntry::Token(_) => 1,
            CachedEntry::Picture(shown) => {
                shown.image.plan.segments.get(segment).map_or(0, |segment| segment.tokens)
            }
        }
    }

    fn is(&self, entry: Entry, request: &Request) -> bool {
        match (self, entry) {
            (CachedEntry::Token(held), Entry::Token(token)) => *held == token,
            (CachedEntry::Picture(shown), Entry::Image(number)) => {
                shown.key == request.pictures[number].decoded
            }
            _ => false,
        }
    }
}

/// The first position after `held`.
pub(super) fn end_position(held: &[CachedEntry]) -> i32 {
    held.iter().map(CachedEntry::positions).sum()
}

pub(super) fn tokens(held: &[CachedEntry]) -> u32 {
    held.iter().map(CachedEntry::tokens).sum()
}

#[derive(Default)]
pub(super) struct Slot {
    pub held: Vec<CachedEntry>,
    /// Whose `held` is.
    pub scope: Option<Vec<u8>>,
    /// When it was last given a request or freed.
    pub used_at: u64,
    pub work: Option<Work>,
}

pub(super) struct Work {
    pub request: Request,
    /// When the request got the slot: who came first is prefilled first.
    pub since: u64,
    /// Entries of the prompt that the cache had.
    pub kept: usize,
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
    pub first: Instant,
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

    pub(super) fn cells(&self, segment: usize) -> u32 {
        self.held.iter().map(|held| held.cells(segment)).sum()
    }

    /// Entries of the prompt that this slot's cache begins with and that may be used. At least
    /// one is left, whose logits begin the answer.
    pub(super) fn common(&self, request: &Request) -> usize {
        if self.scope.is_none() || self.scope != request.scope {
            return 0;
        }
        let pairs = self.held.iter().zip(&request.entries);
        let mut common = pairs.take_while(|(held, entry)| held.is(**entry, request)).count();
        // A picture ranked by the prompt's last token is ranked for that one question.
        if request.scores_by_question() {
            let pictures = request.entries.iter().position(|entry| matches!(entry, Entry::Image(_)));
            common = common.min(pictures.unwrap_or(common));
        }
        common.min(request.entries.len().saturating_sub(1))
    }
}

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub slot: usize,
    /// Entries of the prompt that need not be computed.
    pub kept: usize,
    /// The slot that has them, where it is another.
    pub from: Option<usize>,
}

/// The idle slot for a request, and where most of its prompt is cached already: in that slot, or
/// in another whose cells it can share. `None` while all are busy.
pub(super) fn place(slots: &[Slot], request: &Request) -> Option<Place> {
    let idle = |i: &usize| slots[*i].work.is_none();
    let source = (0..slots.len())
        .filter(|i| matches!(slots[*i].state(), SlotState::Idle | SlotState::Generating))
        .map(|i| (i, slots[i].common(request)))
        .filter(|(_, common)| *common > 0)
        .max_by_key(|&(i, common)| (tokens(&slots[i].held[..common]), idle(&i), slots[i].used_at));
    // Empty ones first, then the one that was not needed for longest.
    let oldest = |but: Option<usize>| {
        (0..slots.len())
            .filter(|i| idle(i) && Some(*i) != but)
            .min_by_key(|&i| (!slots[i].held.is_empty(), slots[i].used_at))
    };
    let Some((source, kept)) = source else {
        return Some(Place { slot: oldest(None)?, kept: 0, from: None });
    };
    // A conversation that goes on stays where it is; one that shares only its beginning leaves
    // the rest to whoever comes back for it.
    let mostly = tokens(&slots[source].held[..kept]) * 2 >= tokens(&slots[source].held);
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
pub(super) fn will_be_shared(slots: &[Slot], request: &Request) -> bool {
    let there = slots
        .iter()
        .filter(|slot| matches!(slot.state(), SlotState::Idle | SlotState::Generating))
        .map(|slot| slot.common(request))
        .max()
        .unwrap_or(0);
    let coming = slots
        .iter()
        .filter(|slot| matches!(slot.state(), SlotState::Encoding | SlotState::Prefill))
        .filter_map(|slot| slot.work.as_ref())
        .map(|work| work.request.common(request))
        .max()
        .unwrap_or(0);
    let new = request.entries.get(there..coming).unwrap_or_default();
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

/// The prompt from entry `from` on as the cache will hold it. Its pictures have given up their
/// embeddings by now.
pub(super) fn held_of(request: &Request, from: usize) -> Vec<CachedEntry> {
    let mut shown: Vec<Option<Arc<CachedPicture>>> = vec![None; request.pictures.len()];
    request.entries[from..]
        .iter()
        .map(|entry| match *entry {
            Entry::Token(token) => CachedEntry::Token(token),
            Entry::Image(number) => {
                let picture = &request.pictures[number];
                let shown = shown[number].get_or_insert_with(|| {
                    Arc::new(CachedPicture {
                        key: picture.decoded,
                        image: picture.image.clone().unwrap_or_default(),
                        steps: picture.steps.clone(),
                    })
                });
                CachedEntry::Picture(Arc::clone(shown))
            }
        })
        .collect()
}

/// The tokens of the prompt's text, for penalties that look back.
pub(super) fn last_text(request: &Request, n: u32) -> Vec<i32> {
    let tokens = request.entries.iter().filter_map(|entry| match entry {
        Entry::Token(token) => Some(*token),
        Entry::Image(_) => None,
    });
    let tokens: Vec<i32> = tokens.collect();
    let skip = count(tokens.len()).saturating_sub(n) as usize;
    tokens[skip..].to_vec()
}
