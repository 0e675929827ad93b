//! Continuous batching: several conversations share one context.
//!
//! [`Slots`] decides what is computed next; it is pure over [`Decoder`] and hands pictures out to
//! be encoded elsewhere ([`Output::Encode`]), so that it can be tested without a model. One turn
//! is one batch of generated tokens, one for each running answer, and then one ubatch of the
//! oldest prompt: a running answer never waits for more than that. `docs/slots.md` has the
//! reasons.

mod event;
mod gather;
mod generate;
mod layers;
mod llama_decoder;
mod queue;
mod request;
mod scheduler;
mod slot;

pub use event::{Alternative, Delta, Done, Failed, Finish, SlotState, SlotView, Started, Token};
pub use layers::servable_layers;
pub use llama_decoder::{LlamaDecoder, Loaded, Sizes};
pub use request::{Draw, Job, PromptPicture};
pub use scheduler::{Settings, Slots};

pub use crate::native::Next;

use crate::answer::{MergeStep, Rows, SegmentInfo};
use crate::error::Result;
use crate::see::EncodeJob;

/// What the slots need of a text model: one sequence for each slot.
pub trait Decoder {
    /// Begins a prefill; nothing is computed yet.
    ///
    /// # Errors
    /// No room, or the library's own.
    fn begin(&mut self, slot: usize, rows: &Rows, last_token_score: bool) -> Result<()>;

    /// Computes one ubatch of it; the steps come with the last one, and then [`From::Prompt`] can
    /// be sampled from.
    ///
    /// # Errors
    /// As [`Decoder::begin`]; nothing of the prefill then stays.
    fn step(&mut self, slot: usize) -> Result<Option<Vec<MergeStep>>>;

    /// Drops a prefill under way; nothing of it stays.
    fn cancel(&mut self, slot: usize);

    /// Takes one token of each of several slots, as one batch. Then [`From::Batch`] can be
    /// sampled from.
    ///
    /// # Errors
    /// The library's own; what was computed of the batch is unknown.
    fn decode(&mut self, next: &[Next]) -> Result<()>;

    /// Begins an answer: a fresh sampler and grammar. `seen` is what its penalties look back on.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] for a grammar or numbers that cannot be used.
    fn start_sampling(&mut self, slot: usize, draw: &Draw, seen: &[i32]) -> Result<()>;

    /// Draws a token; `None` where the grammar allows none. `top`: alternatives to report.
    ///
    /// # Errors
    /// The library's own.
    fn sample(&mut self, slot: usize, from: From, top: Option<u32>) -> Result<Option<Drawn>>;

    /// Forgets everything at and after `position`; false if it cannot.
    fn forget_from(&mut self, slot: usize, position: i32) -> bool;

    /// Lets what `from` holds before `position` belong to `to` as well, which is empty.
    ///
    /// # Errors
    /// The library's own.
    fn share(&mut self, from: usize, to: usize, position: i32) -> Result<()>;

    /// The token's bytes in an answer; they may be part of a letter.
    fn piece(&self, token: i32) -> Vec<u8>;

    fn ends_generation(&self, token: i32) -> bool;

    /// Segments of the cache, all slots together.
    fn segments(&self) -> Vec<SegmentInfo>;

    fn compute_bytes(&self) -> u64;
}

/// Which logits a token is drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// Those of the prefill whose last step was the last call.
    Prompt,
    /// Those of this row of the last batch.
    Batch(usize),
}

/// A drawn token.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    pub token: i32,
    /// Where it was asked for: its log-probability, and the most likely tokens with theirs.
    pub logprobs: Option<(f32, Vec<(i32, f32)>)>,
}

/// What [`Slots`] hands out.
#[derive(Debug)]
pub enum Output {
    /// To be encoded, and given back with [`Slots::encoded`].
    Encode(EncodeJob),
    Started(Started),
    Delta(Delta),
    Done(Box<Done>),
    Failed(Failed),
}

#[cfg(test)]
mod tests;
