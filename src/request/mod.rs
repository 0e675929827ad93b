//! A request as every face makes it: an HTTP body, a line of `batch`, flags, a turn of the chat.
//!
//! All of them end in the same [`Request`] and ask the same bounds: [`Sampling::checked`], [`Limits::checked`],
//! [`check_logprobs`]. An error names a [`Field`], and the face that was asked writes its own name for it. Pure: nothing
//! is opened, fetched or computed here.

mod grammar;
mod picture;
mod sampling;

pub use grammar::Grammar;
pub use picture::Picture;
pub use sampling::{Limits, Sampling, check_logprobs};

pub use crate::error::Field;

use serde::{Deserialize, Serialize};

use crate::prompt::Message;
use crate::schedule::Choice;

/// One answer to one conversation. `M` is what it shows: references as they were sent, then decoded pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request<M = Picture> {
    /// Chosen by the sender; unique among its requests that are not over.
    pub id: u64,
    /// A conversation that ends with an assistant's message is continued in that message.
    pub messages: Vec<Message>,
    /// `Part::Image(n)` of the messages is `media[n]`.
    pub media: Vec<M>,
    /// The schedule asked for; `None` is the answerer's own default. It is resolved where the model's numbers are.
    pub merge: Option<Choice>,
    pub limits: Limits,
    pub sampling: Sampling,
    pub grammar: Option<Grammar>,
    /// Log-probabilities of the drawn tokens, with this many alternatives each.
    pub logprobs: Option<u32>,
    /// Requests of different scopes never share encoded pictures or cached prompts; `None` shares with nobody and
    /// leaves nothing behind.
    pub scope: Option<Vec<u8>>,
    /// Whether the answer comes with its trace.
    pub trace: bool,
}
