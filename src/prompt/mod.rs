//! Messages as the decoder reads them: chat template, text and pictures interleaved.
//!
//! A person's words never pass through the template as text: the template sees opaque marks, and the
//! texts and pictures they stand for are put back afterwards. No text can become a special token or a
//! picture's place. White space around a text stays outside of its mark, so that a template may trim it.

mod builtin;
mod calls;
mod jinja;
mod json;
mod marked;
mod marks;
mod python_methods;
mod system;
mod template;
mod thoughts;
mod tokens;
mod tools;

pub use builtin::Detected;
pub use calls::{CallParser, CallUpdate};
pub use template::{Conversation, Template};
pub use thoughts::{Said, ThoughtForm, ThoughtParser};
pub use tokens::{Chunk, Tokenizer, tokenize};
pub use tools::{CallForm, Called, Tool, ToolChoice, Tools};

use serde::{Deserialize, Serialize};

/// Speaker of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    System,
    User,
    Assistant,
    /// Result of a tool.
    Tool,
}

impl Role {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

/// A stretch of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    Text(String),
    /// A picture, by its number in the request.
    Image(usize),
    /// Call of a tool in an assistant's message.
    Call(Called),
    /// Id of the call that a tool's message answers.
    CallId(String),
    /// Thought ahead of an assistant's words. Templates that know none leave it out.
    Thought(String),
}

impl Part {
    /// Bytes of text.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Part::Text(text) | Part::CallId(text) | Part::Thought(text) => text.len(),
            Part::Call(call) => call.name.len() + call.arguments.len(),
            Part::Image(_) => 0,
        }
    }
}

/// One turn of the conversation, parts in the order they were given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub role: Role,
    pub parts: Vec<Part>,
}

impl Message {
    #[must_use]
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self { role, parts: vec![Part::Text(text.into())] }
    }
}

/// The text of the last user message that has any, its parts joined by spaces; empty without one.
#[must_use]
pub fn question(messages: &[Message]) -> String {
    let of = |message: &Message| {
        let texts = message.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.trim()).filter(|text| !text.is_empty()),
            Part::Image(_) | Part::Call(_) | Part::CallId(_) | Part::Thought(_) => None,
        });
        texts.collect::<Vec<_>>().join(" ")
    };
    let users = messages.iter().rev().filter(|message| message.role == Role::User);
    users.map(of).find(|text| !text.is_empty()).unwrap_or_default()
}

/// Text around a picture for a model family, and the placeholders of its templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Llava,
    Qwen2Vl,
    /// llama.cpp marks the pictures itself; the template gives them a place in a text.
    Library,
}

impl Family {
    fn placeholders(self) -> &'static [&'static str] {
        match self {
            Family::Llava => &["<image>"],
            Family::Qwen2Vl => &["<|image_pad|>"],
            Family::Library => &[],
        }
    }

    /// Special tokens before and after the span, for templates that know nothing of pictures.
    fn wrapping(self) -> (&'static str, &'static str) {
        match self {
            Family::Llava | Family::Library => ("", ""),
            Family::Qwen2Vl => ("<|vision_start|>", "<|vision_end|>"),
        }
    }
}

/// Stretch of the rendered prompt, by its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Written by the template: special tokens count.
    Template(String),
    /// Written by a person or a model: special tokens are plain letters.
    Plain(String),
    Image(usize),
}
