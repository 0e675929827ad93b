//! One line of input as a request, and one line of output.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::prompt::{Message, Part, Role};
use crate::report::{Report, Trace};
use crate::request::Sampling;
use crate::schedule::{Choice, MergeFlag};
use crate::worker::protocol::Finish;

/// A line of input. Unknown fields are ignored.
#[derive(Debug, Deserialize)]
struct Line {
    id: Option<Value>,
    prompt: Option<String>,
    system: Option<String>,
    messages: Option<Vec<ChatMessage>>,
    image: Option<PathBuf>,
    #[serde(default)]
    images: Vec<PathBuf>,
    merge: Option<String>,
    keep: Option<f64>,
    max_tokens: Option<u32>,
    temperature: Option<f32>,
    top_k: Option<i32>,
    top_p: Option<f32>,
    min_p: Option<f32>,
    seed: Option<u32>,
    #[serde(default)]
    stop: Stop,
    json_schema: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct ChatMessage {
    role: String,
    content: Content,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<ChatPart>),
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ChatPart {
    Text { text: String },
    Image { image: PathBuf },
    ImageUrl { image_url: ImageUrl },
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum ImageUrl {
    Object { url: String },
    Plain(String),
}

#[derive(Debug, Default, Deserialize)]
#[serde(untagged)]
enum Stop {
    #[default]
    None,
    One(String),
    Many(Vec<String>),
}

/// A request before its pictures are read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    /// As given: a string or a number; else the line's number.
    pub id: Value,
    /// `Part::Image(n)` is `images[n]`.
    pub messages: Vec<Message>,
    pub images: Vec<PathBuf>,
    pub merge: Option<Choice>,
    pub max_tokens: Option<u32>,
    pub stop: Vec<String>,
    pub sampling: Sampling,
    pub json_schema: Option<String>,
}

/// What a line that names less is filled up with.
#[derive(Debug, Clone)]
pub(super) struct Defaults {
    pub prompt: Option<String>,
    pub system: Option<String>,
    pub choice: Choice,
    pub max_tokens: Option<u32>,
    pub sampling: Sampling,
    /// What relative paths of pictures start from.
    pub folder: PathBuf,
}

/// The id of a line, as far as it can be told, and its request.
pub(super) fn parse(line: &str, number: usize, defaults: &Defaults) -> (Value, Result<Record>) {
    let value: Value = match serde_json::from_str(line) {
        Ok(value) => value,
        Err(error) => {
            return (number.into(), Err(Error::usage(format!("line {number}: not JSON ({error})"))));
        }
    };
    let id = value.get("id").filter(|id| id.is_string() || id.is_number()).cloned();
    let id = id.unwrap_or_else(|| number.into());
    let record = serde_json::from_value(value)
        .map_err(|error| Error::usage(format!("line {number}: {error}")))
        .and_then(|line: Line| line.record(id.clone(), number, defaults));
    (id, record)
}

impl Line {
    fn record(self, id: Value, number: usize, defaults: &Defaults) -> Result<Record> {
        let bad = |text: &str| Error::usage(format!("line {number}: {text}"));
        if self.id.as_ref().is_some_and(|given| *given != id && !given.is_null()) {
            return Err(bad("an id is a string or a number"));
        }
        let mut images: Vec<PathBuf> = self.image.into_iter().chain(self.images).collect();
        let system = self.system.or_else(|| defaults.system.clone());
        let messages = match (self.messages, self.prompt) {
            (Some(_), Some(_)) => return Err(bad("give prompt or messages, not both")),
            (Some(_), None) if !images.is_empty() => {
                return Err(bad("pictures of messages stand in their content, not in image or images"));
            }
            (Some(messages), None) => {
                let has_system = messages.iter().any(|message| message.role == "system");
                let system = system.filter(|_| !has_system).map(|text| Message::text(Role::System, text));
                let given =
                    messages.into_iter().map(|message| message.read(&mut images).map_err(|e| bad(&e)));
                system.into_iter().map(Ok).chain(given).collect::<Result<Vec<_>>>()?
            }
            (None, prompt) => {
                let prompt = prompt
                    .or_else(|| defaults.prompt.clone())
                    .ok_or_else(|| bad("no prompt and no messages; give one, or -p for all"))?;
                let pictures = (0..images.len()).map(Part::Image);
                let parts = pictures.chain([Part::Text(prompt)]).collect();
                let system = system.map(|text| Message::text(Role::System, text));
                system.into_iter().chain([Message { role: Role::User, parts }]).collect()
            }
        };
        let merge = match (self.merge, self.keep) {
            (None, None) => None,
            (merge, keep) => Some(Choice {
                merge: merge
                    .map(|name| MergeFlag::parse(&name))
                    .transpose()
                    .map_err(|e| bad(&e.to_string()))?,
                keep,
                vit: None,
                llm: None,
                ..defaults.choice.clone()
            }),
        };
        let base = &defaults.sampling;
        Ok(Record {
            id,
            messages,
            images: images.into_iter().map(|path| located(path, &defaults.folder)).collect(),
            merge,
            max_tokens: self.max_tokens.or(defaults.max_tokens),
            stop: match self.stop {
                Stop::None => Vec::new(),
                Stop::One(string) => vec![string],
                Stop::Many(strings) => strings,
            },
            sampling: Sampling {
                temperature: self.temperature.unwrap_or(base.temperature),
                top_k: self.top_k.unwrap_or(base.top_k),
                top_p: self.top_p.unwrap_or(base.top_p),
                min_p: self.min_p.unwrap_or(base.min_p),
                seed: self.seed.or(base.seed),
                ..base.clone()
            },
            json_schema: self.json_schema.map(|schema| schema.to_string()),
        })
    }
}

impl ChatMessage {
    fn read(self, images: &mut Vec<PathBuf>) -> std::result::Result<Message, String> {
        let role = match self.role.as_str() {
            "system" | "developer" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            other => return Err(format!("role {other}: choose system, user or assistant")),
        };
        let parts = match self.content {
            Content::Text(text) => vec![Part::Text(text)],
            Content::Parts(parts) => parts
                .into_iter()
                .map(|part| {
                    let path = match part {
                        ChatPart::Text { text } => return Part::Text(text),
                        ChatPart::Image { image } => image,
                        ChatPart::ImageUrl { image_url } => match image_url {
                            ImageUrl::Object { url } | ImageUrl::Plain(url) => {
                                PathBuf::from(url.strip_prefix("file://").unwrap_or(&url))
                            }
                        },
                    };
                    images.push(path);
                    Part::Image(images.len() - 1)
                })
                .collect(),
        };
        Ok(Message { role, parts })
    }
}

fn located(path: PathBuf, folder: &Path) -> PathBuf {
    if path.is_absolute() { path } else { folder.join(path) }
}

/// A line of output.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    pub id: Value,
    #[serde(flatten)]
    pub what: What,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum What {
    Answer {
        text: String,
        finish: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        stop: Option<String>,
        report: Box<Report>,
        #[serde(skip_serializing_if = "Option::is_none")]
        trace: Option<Trace>,
    },
    Failure {
        error: Failure,
    },
}

#[derive(Debug, Serialize)]
pub(super) struct Failure {
    pub kind: Kind,
    pub message: String,
}

impl What {
    pub(super) fn failure(error: &Error) -> Self {
        What::Failure { error: Failure { kind: error.kind(), message: error.to_string() } }
    }
}

/// As OpenAI's clients name the ends, where they have a name.
pub(super) fn finish_name(finish: &Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::StopString(_) | Finish::Grammar => "stop",
        Finish::Length | Finish::ContextFull => "length",
        Finish::Cancelled => "cancelled",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> Defaults {
        Defaults {
            prompt: None,
            system: None,
            choice: Choice::default(),
            max_tokens: Some(9),
            sampling: Sampling::default(),
            folder: "/data".into(),
        }
    }

    #[test]
    fn lines() {
        let image = Part::Image;
        let text = |text: &str| Part::Text(text.into());
        let user = |parts: Vec<Part>| Message { role: Role::User, parts };
        let cases: [(&str, Value, Vec<Message>, &[&str]); 5] = [
            (r#"{"prompt": "hi"}"#, 3.into(), vec![user(vec![text("hi")])], &[]),
            (
                r#"{"id": "x", "prompt": "hi", "image": "a.png", "images": ["/b.png"], "other": 1}"#,
                "x".into(),
                vec![user(vec![image(0), image(1), text("hi")])],
                &["/data/a.png", "/b.png"],
            ),
            (
                r#"{"id": 7, "prompt": "hi", "system": "be brief"}"#,
                7.into(),
                vec![Message::text(Role::System, "be brief"), user(vec![text("hi")])],
                &[],
            ),
            (
                r#"{"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image", "image": "p.png"},
                    {"type": "image_url", "image_url": {"url": "file:///q.png"}}, {"type": "image_url", "image_url": "r.png"}]},
                    {"role": "assistant", "content": "b"}]}"#,
                3.into(),
                vec![
                    user(vec![text("a"), image(0), image(1), image(2)]),
                    Message::text(Role::Assistant, "b"),
                ],
                &["/data/p.png", "/q.png", "/data/r.png"],
            ),
            (r#"{"id": null, "prompt": "hi"}"#, 3.into(), vec![user(vec![text("hi")])], &[]),
        ];
        for (line, id, messages, images) in cases {
            let (parsed, record) = parse(&line.replace('\n', " "), 3, &defaults());
            let record = record.unwrap();
            assert_eq!((&parsed, &record.id, &record.messages), (&id, &id, &messages), "{line}");
            assert_eq!(record.images, images.iter().map(PathBuf::from).collect::<Vec<_>>(), "{line}");
            assert_eq!(record.max_tokens, Some(9));
        }
    }

    #[test]
    fn what_a_line_asks_for() {
        let line = r#"{"prompt": "hi", "merge": "paper", "keep": 0.5, "max_tokens": 3, "temperature": 0, "seed": 4, "stop": "x", "json_schema": {"type": "object"}}"#;
        let record = parse(line, 1, &defaults()).1.unwrap();
        let merge = record.merge.unwrap();
        assert_eq!((merge.merge.unwrap().name(), merge.keep), ("paper", Some(0.5)));
        assert_eq!(
            (record.max_tokens, record.sampling.temperature, record.sampling.seed),
            (Some(3), 0.0, Some(4))
        );
        assert_eq!(
            (record.stop, record.json_schema.as_deref()),
            (vec!["x".into()], Some(r#"{"type":"object"}"#))
        );
        let two = parse(r#"{"prompt": "hi", "stop": ["a", "b"]}"#, 1, &defaults()).1.unwrap();
        assert_eq!((two.stop.len(), two.merge), (2, None));
    }

    #[test]
    fn wrong_lines_keep_their_id() {
        for (line, id, part) in [
            ("{", Value::from(2), "line 2: not JSON"),
            (r#"{"id": "x"}"#, "x".into(), "no prompt"),
            (r#"{"id": "x", "prompt": 1}"#, "x".into(), "line 2:"),
            (r#"{"id": [], "prompt": "a"}"#, 2.into(), "an id is"),
            (r#"{"id": "x", "prompt": "a", "messages": []}"#, "x".into(), "not both"),
            (r#"{"id": "x", "prompt": "a", "merge": "most"}"#, "x".into(), "--merge most"),
            (r#"{"id": "x", "image": "a", "messages": []}"#, "x".into(), "stand in their content"),
            (r#"{"id": "x", "messages": [{"role": "tool", "content": ""}]}"#, "x".into(), "role tool"),
        ] {
            let (found, record) = parse(line, 2, &defaults());
            let error = record.unwrap_err();
            assert_eq!((found, error.kind()), (id, Kind::Usage), "{line}");
            assert!(error.to_string().contains(part), "{line}: {error}");
        }
    }
}
