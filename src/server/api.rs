//! Dialects of the API. Each translates a body into the one [`Request`], and writes the one stream of
//! [`Update`] in its own words. Bounds and policy are not theirs: `request` has them.

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
use crate::worker::protocol::{Started, Token};

/// Dialect: a form of bodies and of answers.
pub struct Dialect {
    /// Prefix of the answer's id.
    pub prefix: &'static str,
    /// Parses a body.
    pub open: fn(Fields, &Defaults, Heading) -> Result<Opened>,
    pub wire: Wire,
    /// Writes an error that is the first event of a stream.
    pub failed: fn(&ApiError) -> Frame,
    /// Whether a model that cannot think refuses a request to.
    pub strict_thoughts: bool,
    /// Returns a field's name in this dialect's bodies; `None` if it has its usual one.
    pub name: fn(Field) -> Option<&'static str>,
}

/// Framing of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Server-sent events.
    Events,
    /// One line of JSON for each update.
    Lines,
}

/// Body after parsing.
pub struct Opened {
    /// Several requests if the body has several prompts. They differ in nothing else.
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

/// Event of one choice.
pub enum Update<'a> {
    /// The prompt's number of tokens is known.
    Started(&'a Started),
    /// Part of the prompt that is done: llama.cpp's `prompt_progress`, if asked for.
    Progress(Value),
    /// More of the thought ahead of the text, as [`Update::Text`].
    Thought {
        text: &'a str,
        tokens: &'a Tokens,
        timings: Option<Value>,
    },
    /// More text, possibly empty, with its tokens, and llama.cpp's `timings` if asked for.
    Text {
        text: &'a str,
        tokens: &'a Tokens,
        timings: Option<Value>,
    },
    /// More of a tool call.
    Call(&'a CallUpdate),
    Done(&'a Answer),
}

/// Tokens since the update before: all of them by number, and with their probabilities if these were asked for.
#[derive(Default)]
pub struct Tokens {
    pub tokens: Vec<Token>,
    pub ids: Vec<i32>,
}

/// Piece of a stream: its text, and the event's name if the dialect names events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub name: Option<String>,
    pub data: String,
}

impl Frame {
    pub fn data(value: impl Into<Value>) -> Self {
        Self { name: None, data: value.into().to_string() }
    }

    /// Returns an event named by its own `type`.
    pub fn typed(value: Value) -> Self {
        Self { name: value["type"].as_str().map(str::to_owned), data: value.to_string() }
    }
}

/// Writer of the answers to one body.
pub trait Writer: Send {
    /// Writes an update of one choice to a stream.
    fn update(&mut self, index: u32, update: Update<'_>, out: &mut Vec<Frame>);

    /// Writes the end of a stream, when all choices are done.
    fn end(&mut self, answers: &[Answer], out: &mut Vec<Frame>);

    /// Returns the answers as one object, or as a list if the dialect answers several prompts with one.
    fn whole(&mut self, answers: &[Answer]) -> Value;

    /// Writes an error into a stream that has begun.
    fn failed(&mut self, error: &ApiError, out: &mut Vec<Frame>);
}

/// Adds the measurements to `object`: `timings`, and the report, the trace and the kept cells if they were
/// asked for.
pub fn add_measurements(object: &mut Map<String, Value>, reply: Reply, answers: &[Answer]) {
    let Some(done) = answers.first().and_then(|answer| answer.done.as_deref()) else { return };
    object.insert("timings".into(), answer::timings(done));
    // All of these are plain data of this program, whose serialisation cannot fail.
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

/// Paths that ask for answers, with their dialects.
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

/// Returns the dialect of a path that asks for answers.
#[must_use]
pub fn dialect(path: &str) -> Option<&'static Dialect> {
    PATHS.iter().find(|(own, _)| *own == path).map(|(_, dialect)| *dialect)
}

/// Paths that count or show a prompt, with the dialects of their bodies.
pub const PROMPTS: &[(&str, &Dialect, Counted)] = &[
    ("/apply-template", &chat::DIALECT, Counted::Text),
    ("/chat/completions/input_tokens", &chat::DIALECT, Counted::InputTokens),
    ("/v1/chat/completions/input_tokens", &chat::DIALECT, Counted::InputTokens),
    ("/responses/input_tokens", &responses::DIALECT, Counted::InputTokens),
    ("/v1/responses/input_tokens", &responses::DIALECT, Counted::InputTokens),
    ("/v1/messages/count_tokens", &messages::COUNT, Counted::Tokens),
];

/// Reply about a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// `prompt`: the template's text, with a mark for each picture.
    Text,
    /// `object` and `input_tokens`, as OpenAI writes them.
    InputTokens,
    /// `input_tokens` alone, as Anthropic writes it.
    Tokens,
}
