//! Marks that a template gets in place of words and pictures: none of them is taken for the template's own text.

use minijinja::value::Serde;
use minijinja::{Value, context};
use serde_json::{Value as Json, json};

use super::tools::short_id;
use super::{Family, Message, Part, Role, marks};

/// The three ways templates take a picture.
#[derive(Debug, Clone, Copy)]
pub(super) enum Style {
    /// Content is a list; a part `{type: image}` makes the template write its own placeholder.
    Parts,
    /// Content is a string with the picture's mark in it.
    Text,
    /// Content is a list, pictures are marks in text parts.
    TextParts,
}

/// The texts and pictures that marks stand for, in the order of their marks.
#[derive(Default)]
pub(super) struct Marked {
    pub texts: Vec<String>,
    /// Texts that a template may leave out: those of tools, of what calls were given, and thoughts.
    pub optional: Vec<usize>,
    pub images: Vec<usize>,
}

impl Marked {
    /// The value that the template gets as `content`. `continued`: the answer goes on behind its last text.
    pub(super) fn content(
        &mut self,
        message: &Message,
        family: Family,
        style: Style,
        continued: bool,
    ) -> Value {
        let end = message.parts.iter().rposition(|part| matches!(part, Part::Text(_))).filter(|_| continued);
        let parts = message.parts.iter().enumerate().filter_map(|(i, part)| match part {
            Part::Call(_) | Part::CallId(_) | Part::Thought(_) => None,
            Part::Text(text) => {
                let mark = self.text(text);
                Some((part, if end == Some(i) { format!("{mark}{} ", marks::END) } else { mark }))
            }
            Part::Image(number) => {
                self.images.push(*number);
                let (before, after) = family.wrapping();
                Some((part, format!("{before}{}{after}", marks::image(*number))))
            }
        });
        match style {
            Style::Text => Value::from(parts.map(|(_, mark)| mark).collect::<String>()),
            Style::TextParts => parts.map(|(_, mark)| context! { type => "text", text => mark }).collect(),
            Style::Parts => parts
                .map(|(part, mark)| match part {
                    Part::Text(_) => context! { type => "text", text => mark },
                    _ => context! { type => "image" },
                })
                .collect(),
        }
    }

    /// A mark for `text` with the white space around it, which is no secret and may be trimmed.
    fn text(&mut self, text: &str) -> String {
        let core = text.trim();
        if core.is_empty() {
            return text.to_owned();
        }
        let start = text.len() - text.trim_start().len();
        self.texts.push(core.to_owned());
        let mark = marks::text(self.texts.len() - 1);
        format!("{}{mark}{}", &text[..start], &text[start + core.len()..])
    }

    /// The message as the template gets it, its calls and the call that it answers beside its content.
    pub(super) fn message(
        &mut self,
        message: &Message,
        family: Family,
        style: Style,
        continued: bool,
        short: bool,
    ) -> Value {
        // Templates write a tool's result as it is.
        let style = if message.role == Role::Tool { Style::Text } else { style };
        let content = self.content(message, family, style, continued);
        let id = |id: &str| if short { short_id(id) } else { id.to_owned() };
        let mut value = serde_json::Map::new();
        value.insert("role".into(), message.role.name().into());
        let mut calls = Vec::new();
        for part in &message.parts {
            match part {
                Part::Call(call) => {
                    let arguments = serde_json::from_str(&call.arguments).unwrap_or(Json::Null);
                    let (name, arguments) =
                        (self.json(&Json::from(call.name.as_str())), self.json(&arguments));
                    calls.push(json!({ "id": id(&call.id), "type": "function",
                                       "function": { "name": name, "arguments": arguments } }));
                }
                Part::CallId(call) => {
                    value.insert("tool_call_id".into(), id(call).into());
                }
                Part::Thought(text) => {
                    let first = self.texts.len();
                    value.insert("reasoning_content".into(), self.text(text).into());
                    self.optional.extend(first..self.texts.len());
                }
                Part::Text(_) | Part::Image(_) => {}
            }
        }
        if !calls.is_empty() {
            value.insert("tool_calls".into(), calls.into());
        }
        let fields = value.into_iter().map(|(name, value)| (name, Value::from(Serde(value))));
        Value::from_pairs(fields.chain([("content".to_owned(), content)]))
    }

    /// Writes JSON whose texts are marks if they could hold a special token. The texts come back as they
    /// stand between quotes.
    pub(super) fn json(&mut self, value: &Json) -> Json {
        match value {
            Json::String(text) => self.word(text).into(),
            Json::Array(items) => items.iter().map(|item| self.json(item)).collect(),
            Json::Object(fields) => {
                Json::Object(fields.iter().map(|(name, value)| (self.word(name), self.json(value))).collect())
            }
            plain => plain.clone(),
        }
    }

    fn word(&mut self, text: &str) -> String {
        let private = |c: char| ('\u{F8E0}'..='\u{F8FF}').contains(&c);
        if !text.contains(['<', '[', '|']) && !text.contains(private) {
            return text.to_owned();
        }
        let quoted = Json::from(text).to_string();
        self.texts.push(quoted[1..quoted.len() - 1].to_owned());
        self.optional.push(self.texts.len() - 1);
        marks::text(self.texts.len() - 1)
    }
}
