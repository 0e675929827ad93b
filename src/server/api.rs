//! Dialects of the API. Each translates a body into the one [`Request`], and writes the one stream of [`Update`] in its
//! own words. None of them has bounds or a policy of its own: those are `request`'s.

mod chat;
mod completion;
mod completions;
mod messages;
mod messages_writer;
mod ollama;
mod responses;
mod responses_writer;
mod shape;

use serde_json::{Map, Value};

pub use shape::reshape;

use super::error::ApiError;
pub use crate::completion::{self as answer, Answer, Call, Heading};
use crate::error::{Field, Result};
use crate::prompt::CallUpdate;
use crate::request::{Defaults, Fields, Reference, Reply, Request, Tools};
use crate::worker::protocol::{Delta, Started};

/// One way to ask and to be answered.
pub struct Dialect {
    /// Before the answer's id.
    pub prefix: &'static str,
    /// Understands a body.
    pub open: fn(Fields, &Defaults, Heading) -> Result<Opened>,
    pub wire: Wire,
    /// A field's name in this dialect's bodies; `None` for its usual one.
    pub name: fn(Field) -> Option<&'static str>,
}

/// How a stream is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Server-sent events.
    Events,
    /// A line of JSON each.
    Lines,
}

/// A body that was understood.
pub struct Opened {
    /// More than one where a body has several prompts; they differ in nothing else.
    pub requests: Vec<Request<Reference>>,
    pub reply: Reply,
    pub tools: Option<Tools>,
    pub writer: Box<dyn Writer>,
}

impl Opened {
    fn new((request, reply): (Request<Reference>, Reply), writer: impl Writer + 'static) -> Self {
        let tools = request.tools.clone();
        Self { requests: vec![request], reply, tools, writer: Box::new(writer) }
    }
}

/// What happens to one choice.
pub enum Update<'a> {
    /// The prompt is known.
    Started(&'a Started),
    /// How much of the prompt is done: llama.cpp's `prompt_progress`, if asked for.
    Progress(Value),
    /// More text, maybe none, with the tokens behind it; and llama.cpp's `timings`, if asked for.
    Text {
        text: &'a str,
        delta: &'a Delta,
        timings: Option<Value>,
    },
    /// More of a call of a tool.
    Call(&'a CallUpdate),
    Done(&'a Answer),
}

/// A piece of a stream: an event's name, if the dialect names its events, and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub name: Option<String>,
    pub data: String,
}

impl Frame {
    pub fn data(value: impl Into<Value>) -> Self {
        Self { name: None, data: value.into().to_string() }
    }

    /// An event that is named by its own `type`.
    pub fn typed(value: Value) -> Self {
        Self { name: value["type"].as_str().map(str::to_owned), data: value.to_string() }
    }
}

/// Writes the answers to one body.
pub trait Writer: Send {
    /// An update of one choice, in a stream.
    fn update(&mut self, index: u32, update: Update<'_>, out: &mut Vec<Frame>);

    /// All choices are done: what ends the stream.
    fn end(&mut self, answers: &[Answer], out: &mut Vec<Frame>);

    /// The answers as one object; a list where the dialect answers several prompts so.
    fn whole(&mut self, answers: &[Answer]) -> Value;

    /// What tells of an error in a stream that has begun.
    fn failed(&mut self, error: &ApiError, out: &mut Vec<Frame>);
}

/// Adds what an answer cost to `object`: `timings`, and the report, the trace and what was kept where they were asked
/// for.
pub fn add_measurements(object: &mut Map<String, Value>, reply: Reply, answers: &[Answer]) {
    let Some(done) = answers.first().and_then(|answer| answer.done.as_deref()) else { return };
    object.insert("timings".into(), answer::timings(done));
    // All are plain data of this program, whose serialisation cannot fail.
    let mut add = |name: &str, value| object.insert(name.into(), value);
    if reply.report {
        add("report", serde_json::to_value(&done.report).unwrap_or_default());
    }
    if reply.trace {
        add("trace", serde_json::to_value(&done.trace).unwrap_or_default());
    }
    if reply.kept {
        let fates =
            done.trace.as_ref().and_then(|trace| crate::report::fates(trace).ok()).unwrap_or_default();
        add("kept", serde_json::to_value(fates).unwrap_or_default());
    }
}

/// Every path that asks for answers, and its dialect.
pub const PATHS: &[(&str, &Dialect)] = &[
    ("/chat/completions", &chat::DIALECT),
    ("/v1/chat/completions", &chat::DIALECT),
    ("/completion", &completion::DIALECT),
    ("/completions", &completion::DIALECT),
    ("/v1/completions", &completions::DIALECT),
    ("/v1/messages", &messages::DIALECT),
    ("/responses", &responses::DIALECT),
    ("/v1/responses", &responses::DIALECT),
    ("/api/chat", &ollama::CHAT),
    ("/api/generate", &ollama::GENERATE),
];

/// Every path that only counts or shows a prompt, and the dialect of its bodies.
pub const PROMPTS: &[(&str, &Dialect, Counted)] = &[
    ("/apply-template", &chat::DIALECT, Counted::Text),
    ("/chat/completions/input_tokens", &chat::DIALECT, Counted::InputTokens),
    ("/v1/chat/completions/input_tokens", &chat::DIALECT, Counted::InputTokens),
    ("/responses/input_tokens", &responses::DIALECT, Counted::InputTokens),
    ("/v1/responses/input_tokens", &responses::DIALECT, Counted::InputTokens),
    ("/v1/messages/count_tokens", &messages::COUNT, Counted::Tokens),
];

/// What is told of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// `prompt`: the text that the template makes, with a mark for each picture.
    Text,
    /// `object` and `input_tokens`, as OpenAI tells.
    InputTokens,
    /// `input_tokens` alone, as Anthropic tells.
    Tokens,
}
