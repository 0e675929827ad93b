//! Events of the scheduler: plain data that passes between processes as it is.

use serde::{Deserialize, Serialize};

use crate::error::Kind;
use crate::report::{Report, Trace};

/// The request has a slot, its pictures are encoded and its prompt is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Started {
    pub id: u64,
    pub slot: u32,
    /// Tokens of the prompt before the decoder merges: text and embeddings.
    pub prompt_tokens: u32,
    /// Tokens among these that were in the cache already.
    pub cached_tokens: u32,
    /// Cells the prompt takes in each segment of the cache.
    pub kv_tokens: Vec<u32>,
    /// Additions to the logits of tokens, minus infinity forbids a token.
    pub logit_bias: Vec<(i32, f32)>,
    /// Whether the prompt ends inside a thought.
    pub in_thought: bool,
}

/// More of an answer. Text is held back while it may still become a stop string.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    pub id: u64,
    /// Whole letters; may be empty if only tokens are reported.
    pub text: String,
    /// Tokens behind `text`, if log-probabilities were asked for.
    pub tokens: Vec<Token>,
    /// Every token drawn since the event before.
    pub ids: Vec<i32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Token {
    pub id: i32,
    /// May be part of a letter.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
    /// Natural logarithm, of the model's own distribution before any sampler.
    pub logprob: f32,
    /// Most likely first.
    pub top: Vec<Alternative>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alternative {
    pub id: i32,
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
    pub logprob: f32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    pub id: u64,
    pub finish: Finish,
    pub prompt_tokens: u32,
    pub cached_tokens: u32,
    /// Text tokens and embeddings that were computed for this request.
    pub computed_tokens: u32,
    pub generated_tokens: u32,
    /// Pictures of this request that were encoded before.
    pub cached_pictures: u32,
    /// Waiting for a slot, milliseconds.
    pub queued_ms: f64,
    pub report: Report,
    /// Trace, if it was asked for.
    pub trace: Option<Trace>,
}

/// Reason why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Finish {
    /// The model ended it.
    Stop,
    /// A stop string came.
    StopString(String),
    /// The number of tokens was reached.
    Length,
    /// The slot's context is full.
    ContextFull,
    /// The grammar allows no further token.
    Grammar,
    Cancelled,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    pub id: u64,
    /// [`Kind::Native`] is the server's fault, everything else the request's.
    pub kind: Kind,
    pub message: String,
    /// For [`Kind::Context`]: tokens of the prompt and tokens that a slot takes.
    pub context: Option<(u32, u32)>,
}

/// One slot at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotView {
    pub slot: u32,
    /// The request it works on.
    pub request: Option<u64>,
    pub state: SlotState,
    /// Text tokens and embeddings of the prompt.
    pub prompt_tokens: u32,
    pub generated_tokens: u32,
    /// Tokens that its answer may have; `None` until the context is full.
    pub max_tokens: Option<u32>,
    /// Cells in use in each segment of the cache.
    pub kv_tokens: Vec<u32>,
    pub n_ctx: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SlotState {
    Idle,
    /// Its pictures are being encoded.
    Encoding,
    Prefill,
    Generating,
}
