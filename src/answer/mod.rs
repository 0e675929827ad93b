//! Answers of a pair: prompts step by step, answers token by token, and the report.
//!
//! [`Scheduler`] decides what is computed next; it is pure over [`Decoder`] and hands pictures out to be encoded
//! elsewhere ([`Output::Encode`]), so that it is tested without a model. [`Session`] is the conversation of one person:
//! a scheduler with one slot, driven until the answer is over. `docs/slots.md` has the reasons.

mod decoder;
mod encodings;
mod event;
mod job;
mod layers;
mod llama_decoder;
mod llama_engine;
mod logprobs;
mod rows;
mod scheduler;
mod sequence;
mod session;
mod sizing;
mod slot;
mod slot_file;
mod stop_texts;
mod tally;
mod task;
mod text;
mod utf8_stream;

pub use decoder::{Decoder, Drawn, Logits};
pub use event::{Alternative, Delta, Done, Failed, Finish, SlotState, SlotView, Started, Token};
pub use job::{Generation, Job, PictureSource, PromptPicture, Thought};
pub use layers::{Sizes, servable_layers, shared_layout};
pub use llama_decoder::{LlamaDecoder, LogitsWatch};
pub use llama_engine::LlamaEngine;
pub use rows::{Entry, Rows};
pub use scheduler::{Output, Scheduler, Settings, SlotFile};
pub use session::{Answer, Engine, Session};
pub use sizing::{CacheLayout, Demand, Sizing};
pub use tally::Spent;

pub use crate::native::{MAX_SEQUENCES, MergeStep, Next, SegmentInfo};

/// A length as reports have it.
fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
