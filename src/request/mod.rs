//! A request as every face makes it: an HTTP body, a line of `batch`, flags, a turn of the chat.
//!
//! All of them end in the same [`Request`] and ask the same bounds: [`Sampling::checked`], [`Limits::checked`],
//! [`check_logprobs`], [`Grammar::checked`]; [`json::read`] is the one parser of bodies and lines. An error names a
//! [`Field`], and the face that was asked writes its own name for it. Pure: nothing is opened, fetched or computed here.

mod fields;
mod grammar;
pub mod json;
mod merge;
mod messages;
mod picture;
mod policy;
pub mod raw;
mod sampling;
mod thinking;
mod tools;

pub use fields::Fields;
pub use grammar::Grammar;
pub use json::{Defaults, Reply};
pub use messages::Reference;
pub use picture::{Picture, VideoPlan};
pub use raw::Raw;
pub use sampling::{Limits, Sampling, check_logprobs};
pub use thinking::{Reasoning, Thinking};
pub use tools::grammar as grammar_of_calls;

pub use crate::error::Field;
pub use crate::prompt::Tools;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::prompt::Message;
use crate::schedule::Choice;

/// One answer to one conversation. `M` is what it shows: references as they were sent, then decoded pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request<M = Picture> {
    /// Chosen by the sender; unique among its requests that are not over.
    pub id: u64,
    /// A conversation that ends with an assistant's message is continued in that message.
    pub messages: Vec<Message>,
    /// Unless it is empty, the prompt as it is, without template and messages.
    pub raw: Vec<Raw>,
    /// `Part::Image(n)` of the messages and `Raw::Image(n)` are `media[n]`.
    pub media: Vec<M>,
    pub tools: Option<Tools>,
    /// Variables for the chat template.
    pub variables: Map<String, Value>,
    /// Thought ahead of the answer.
    pub thinking: Thinking,
    /// Texts of special tokens that the answer shows, as no other special token is shown.
    pub marks: Vec<String>,
    /// Schedule that was asked for; `None` is the default. The worker, which has the model's numbers,
    /// resolves it.
    pub merge: Option<Choice>,
    pub limits: Limits,
    pub sampling: Sampling,
    /// Texts whose tokens are biased as `sampling.logit_bias` biases tokens; the answerer has the vocabulary.
    pub text_bias: Vec<(String, f32)>,
    pub grammar: Option<Grammar>,
    /// Log-probabilities of the drawn tokens, with this many alternatives each.
    pub logprobs: Option<u32>,
    /// Requests of different scopes never share encoded pictures or cached prompts. A request with `None`
    /// shares nothing and leaves nothing behind.
    pub scope: Option<Vec<u8>>,
    /// Whether the answer comes with its trace.
    pub trace: bool,
    /// The slot that answers; one beyond the last counts on from the first. `None` is any.
    pub slot: Option<u32>,
    /// Ends the prompt behind the last message, without the head of an answer.
    pub headless: bool,
}

/// The size of one request.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Arrays and objects inside one another.
    pub json_depth: usize,
    pub messages: usize,
    /// All text of the conversation.
    pub prompt_bytes: usize,
    pub images: usize,
    pub videos: usize,
    pub grammar_bytes: usize,
    /// Answers to one request.
    pub choices: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            json_depth: 64,
            messages: 1024,
            prompt_bytes: 1 << 20,
            images: 32,
            videos: 4,
            grammar_bytes: 64 << 10,
            choices: 8,
        }
    }
}

impl Request<Reference> {
    /// Returns the request with the pictures of its references: `shown[n]` of reference n. They are several
    /// if a video became its frames.
    #[must_use]
    pub fn showing(self, shown: Vec<Vec<Picture>>) -> Request {
        let (mut messages, mut raw) = (self.messages, self.raw);
        let counts: Vec<usize> = shown.iter().map(Vec::len).collect();
        messages::place(&mut messages, &counts);
        raw::place(&mut raw, &counts);
        Request {
            id: self.id,
            messages,
            raw,
            media: shown.into_iter().flatten().collect(),
            tools: self.tools,
            variables: self.variables,
            thinking: self.thinking,
            marks: self.marks,
            merge: self.merge,
            limits: self.limits,
            sampling: self.sampling,
            text_bias: self.text_bias,
            grammar: self.grammar,
            logprobs: self.logprobs,
            scope: self.scope,
            trace: self.trace,
            slot: self.slot,
            headless: self.headless,
        }
    }
}
