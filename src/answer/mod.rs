//! The stages of an answer: request -> pixels -> plan -> encoded image -> prefilled sequence ->
//! tokens -> report.
//!
//! [`Engine`] is what a loaded pair can do, one call per stage; [`Session`] is the conversation
//! on top of any engine: what is cached, what has to be computed, when to stop, what to report.

mod llama_engine;
mod logprobs;
mod rows;
mod session;
mod sizing;
pub mod slots;
mod stop_texts;
mod tally;
mod text;
mod utf8_stream;

pub use llama_engine::{Input, LlamaEngine};
pub use rows::{Entry, Rows, end_position};
pub use session::{Answer, Finish, Limits, Session};
pub use sizing::{CacheLayout, Demand, Sizing};

pub use crate::native::{Grammar, MAX_SEQUENCES, MergeStep, Penalties, Sampling, SegmentInfo};

use crate::error::Result;
use crate::pair::Facts;
use crate::prompt::{Chunk, Message};
use crate::see::Encoder;

/// A loaded pair of text model and image encoder.
pub trait Engine: Encoder {
    /// What was loaded.
    fn facts(&self) -> &Facts;

    /// Messages to token ids and picture places.
    ///
    /// # Errors
    /// [`crate::error::Kind::Prompt`].
    fn tokenize(&self, messages: &[Message]) -> Result<Vec<Chunk>>;

    /// Makes an empty context, replacing the one there was.
    ///
    /// # Errors
    /// Sizes or merge layers the model cannot take, or no memory.
    fn open(&mut self, layout: &CacheLayout) -> Result<()>;

    /// Segments of the open context; empty without one.
    fn segments(&self) -> Vec<SegmentInfo>;

    /// Takes rows through the decoder and leaves the logits of the last one. Steps come span by
    /// span, `span` counting the spans of this call.
    ///
    /// # Errors
    /// No room, interrupted, or the library's own; nothing of the call then stays cached.
    fn prefill(&mut self, rows: &Rows, last_token_score: bool) -> Result<Vec<MergeStep>>;

    /// Takes one generated token through the decoder and leaves its logits.
    ///
    /// # Errors
    /// As [`Engine::prefill`].
    fn decode(&mut self, token: i32, position: i32) -> Result<()>;

    /// Forgets everything at and after `position`; false if it cannot.
    fn forget_from(&mut self, position: i32) -> bool;

    /// Begins an answer: a fresh sampler and grammar.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] for a grammar that cannot be understood.
    fn start_sampling(&mut self, sampling: &Sampling, grammar: Option<&Grammar>) -> Result<()>;

    /// Draws a token from the logits there are; `None` where the grammar allows none.
    ///
    /// # Errors
    /// The library's own.
    fn sample(&mut self) -> Result<Option<i32>>;

    fn ends_generation(&self, token: i32) -> bool;

    /// The token's bytes in an answer; they may be part of a letter.
    fn piece(&self, token: i32) -> Vec<u8>;

    /// Bytes of the encoder's and the decoder's compute buffers as they stand.
    fn compute_bytes(&self) -> u64;
}
