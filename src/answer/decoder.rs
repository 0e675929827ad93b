//! The text model as the scheduler needs it: a context with one sequence for each slot.

use super::{Generation, MergeStep, Next, Rows, SegmentInfo};
use crate::error::Result;
use crate::schedule::Score;

/// A context of several sequences, numbered from 0.
pub trait Decoder {
    /// Begins a prefill; nothing is computed yet.
    ///
    /// # Errors
    /// No room, or the library's own.
    fn begin(&mut self, slot: usize, rows: &Rows, score: Score) -> Result<()>;

    /// Computes one ubatch of it. The steps come with the last one, `span` counting the spans of the prefill; then
    /// [`Logits::Prompt`] can be sampled from.
    ///
    /// # Errors
    /// As [`Decoder::begin`]; nothing of the prefill then stays.
    fn step(&mut self, slot: usize) -> Result<Option<Vec<MergeStep>>>;

    /// Drops a prefill under way; nothing of it stays.
    fn cancel(&mut self, slot: usize);

    /// Takes one token of each of several sequences, as one batch. Then [`Logits::Batch`] can be sampled from.
    ///
    /// # Errors
    /// The library's own; what was computed of the batch is unknown.
    fn decode(&mut self, next: &[Next]) -> Result<()>;

    /// Begins an answer: a fresh sampler and grammar. `seen` is what its penalties look back on. Returns what is added
    /// to which token's logit.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] for a grammar or numbers that cannot be used.
    fn start_sampling(&mut self, slot: usize, how: &Generation, seen: &[i32]) -> Result<Vec<(i32, f32)>>;

    /// Draws a token; `None` if the grammar allows none. `top`: alternatives to report.
    ///
    /// # Errors
    /// The library's own.
    fn sample(&mut self, slot: usize, from: Logits, top: Option<u32>) -> Result<Option<Drawn>>;

    /// Forgets everything at and after `position`; false if it cannot.
    fn forget_from(&mut self, slot: usize, position: i32) -> bool;

    /// Empties the sequence.
    fn clear(&mut self, slot: usize);

    /// Lets what `from` holds before `position` belong to `to` as well, which is empty.
    ///
    /// # Errors
    /// The library's own.
    fn share(&mut self, from: usize, to: usize, position: i32) -> Result<()>;

    /// Returns the content of the sequence, as bytes for [`Decoder::restore`].
    ///
    /// # Errors
    /// The library's own.
    fn save(&mut self, slot: usize) -> Result<Vec<u8>>;

    /// Puts saved cells into a sequence that is empty; after an error it is still.
    ///
    /// # Errors
    /// No room, or cells of another model, cache type or merge layers.
    fn restore(&mut self, slot: usize, cells: &[u8]) -> Result<()>;

    /// The token's bytes in an answer; they may be part of a letter.
    fn piece(&self, token: i32) -> Vec<u8>;

    /// The text of a control token, which no answer shows unless it is asked to.
    fn mark(&self, token: i32) -> Option<String>;

    fn ends_generation(&self, token: i32) -> bool;

    /// Segments of the cache, all sequences together.
    fn segments(&self) -> Vec<SegmentInfo>;

    /// Bytes of the compute buffers as they stand.
    fn compute_bytes(&self) -> u64;
}

/// Logits that a token is drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logits {
    /// Those of the prefill whose last step was the last call.
    Prompt,
    /// Those of this row of the last batch.
    Batch(usize),
}

/// A drawn token.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    pub token: i32,
    /// Its log-probability, and the most likely tokens with theirs; only if they were asked for.
    pub logprobs: Option<(f32, Vec<(i32, f32)>)>,
}
