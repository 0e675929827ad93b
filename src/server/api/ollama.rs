//! Ollama's chat and generate.

use serde_json::{Value, json};

use super::answer::{self, Heading};
use super::{Answer, Call, Dialect, Frame, Opened, Tokens, Update, Wire, Writer};
use crate::error::{Error, Field, Result};
use crate::prompt::CallUpdate;
use crate::request::{Defaults, Fields, Reply, json as body, raw};
use crate::server::error::ApiError;
use crate::worker::protocol::Finish;

pub const CHAT: Dialect = Dialect {
    prefix: "",
    open: |fields, defaults, heading| open(fields, defaults, heading, true),
    wire: Wire::Lines,
    failed: |error| Frame::data(super::shape::ollama(&error.body())),
    strict_thoughts: true,
    name,
};
pub const GENERATE: Dialect =
    Dialect { open: |fields, defaults, heading| open(fields, defaults, heading, false), ..CHAT };

/// Options with their names here.
const OPTIONS: &[(&str, &str)] = &[
    ("num_predict", "max_tokens"),
    ("temperature", "temperature"),
    ("top_k", "top_k"),
    ("top_p", "top_p"),
    ("min_p", "min_p"),
    ("seed", "seed"),
    ("stop", "stop"),
    ("repeat_penalty", "repeat_penalty"),
    ("repeat_last_n", "repeat_last_n"),
    ("presence_penalty", "presence_penalty"),
    ("frequency_penalty", "frequency_penalty"),
    // Ollama has none; a small model needs to be told that it must call.
    ("tool_choice", "tool_choice"),
];

fn name(field: Field) -> Option<&'static str> {
    Some(match field {
        Field::MaxTokens => "options.num_predict",
        Field::Temperature => "options.temperature",
        Field::TopP => "options.top_p",
        Field::MinP => "options.min_p",
        Field::Stop => "options.stop",
        Field::RepeatPenalty => "options.repeat_penalty",
        Field::PresencePenalty => "options.presence_penalty",
        Field::FrequencyPenalty => "options.frequency_penalty",
        _ => return None,
    })
}

fn open(mut fields: Fields, defaults: &Defaults, heading: Heading, chat: bool) -> Result<Opened> {
    fields.lift("options", OPTIONS)?;
    if !fields.has("stream") {
        fields.put("stream", json!(true), "stream".into())?;
    }
    match fields.value("format") {
        None => {}
        Some(Value::String(text)) if text.is_empty() => {}
        Some(Value::String(text)) if text == "json" => {
            fields.put("response_format", json!({ "type": "json_object" }), "format".into())?;
        }
        Some(schema @ Value::Object(_)) => fields.put("json_schema", schema, "format".into())?,
        Some(_) => return Err(Error::usage("format: give \"json\" or a JSON schema")),
    }
    let untouched = !chat && fields.flag("raw")? == Some(true);
    if untouched {
        if fields.has("system") {
            return Err(Error::usage(
                "system: raw leaves the template out, and with it the system text; write it into prompt",
            ));
        }
        let (requests, reply) = raw::read(fields, defaults)?;
        return Ok(Opened {
            requests,
            reply,
            tools: None,
            writer: Box::new(Ollama::new(heading, reply, chat)),
        });
    }
    let read = body::read_fields(fields, defaults)?;
    let reply = read.1;
    Ok(Opened::new(read, Ollama::new(heading, reply, chat)))
}

struct Ollama {
    heading: Heading,
    reply: Reply,
    chat: bool,
    /// Each call is sent whole.
    calls: Vec<Call>,
}

impl Ollama {
    fn new(heading: Heading, reply: Reply, chat: bool) -> Self {
        Self { heading, reply, chat, calls: Vec::new() }
    }

    /// Writes one line; `thought` stands beside the text if there is any.
    fn object(&self, thought: &str, text: &str, calls: &[Call], done: bool) -> Value {
        let created = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
        let mut object = json!({ "model": self.heading.model, "created_at": created });
        if self.chat {
            object["message"] = json!({ "role": "assistant", "content": text });
            if !thought.is_empty() {
                object["message"]["thinking"] = thought.into();
            }
            if !calls.is_empty() {
                let calls = calls.iter().enumerate().map(|(index, call)| {
                    let arguments: Value = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
                    json!({ "id": call.id, "function": { "index": index, "name": call.name, "arguments": arguments } })
                });
                object["message"]["tool_calls"] = calls.collect();
            }
        } else {
            object["response"] = text.into();
            if !thought.is_empty() {
                object["thinking"] = thought.into();
            }
        }
        object["done"] = done.into();
        object
    }

    /// Writes the last line, with what of the answer is not told yet.
    fn last(&self, answer: &Answer, (thought, text, calls): (&str, &str, &[Call])) -> Value {
        let mut object = self.object(thought, text, calls, true);
        let Some(done) = answer.done.as_deref() else { return object };
        let ms = &done.report.ms;
        // Ollama counts in nanoseconds.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let ns = |ms: f64| (ms * 1e6) as u64;
        let prompt = ms.encoder + ms.projector + ms.prefill;
        let ended = match done.finish {
            Finish::Length | Finish::ContextFull | Finish::Cancelled => "length",
            Finish::Stop | Finish::StopString(_) | Finish::Grammar => "stop",
        };
        for (name, value) in [
            ("done_reason", json!(ended)),
            ("total_duration", json!(ns(done.queued_ms + prompt + ms.generate))),
            ("load_duration", json!(0)),
            ("prompt_eval_count", json!(done.prompt_tokens)),
            ("prompt_eval_duration", json!(ns(prompt))),
            ("eval_count", json!(done.generated_tokens)),
            ("eval_duration", json!(ns(ms.generate))),
        ] {
            object[name] = value;
        }
        object
    }
}

impl Ollama {
    /// Writes the line `object` of `text` with its tokens; `None` if there is neither.
    fn said(&self, mut object: Value, tokens: &Tokens, text: &str) -> Option<Frame> {
        if self.reply.logprobs {
            object["logprobs"] = answer::logprobs(&tokens.tokens)["content"].take();
        }
        (self.reply.logprobs || !text.is_empty()).then(|| Frame::data(object))
    }
}

impl Writer for Ollama {
    fn update(&mut self, _: u32, update: Update<'_>, out: &mut Vec<Frame>) {
        match update {
            Update::Thought { text, tokens, .. } => {
                out.extend(self.said(self.object(text, "", &[], false), tokens, text));
            }
            Update::Text { text, tokens, .. } => {
                out.extend(self.said(self.object("", text, &[], false), tokens, text));
            }
            Update::Call(CallUpdate::Begin { id, name, .. }) => {
                self.calls.push(Call { id: id.clone(), name: name.clone(), arguments: String::new() });
            }
            Update::Call(CallUpdate::Arguments { text, .. }) => {
                if let Some(call) = self.calls.last_mut() {
                    call.arguments.push_str(text);
                }
            }
            Update::Done(_) if !self.calls.is_empty() => {
                out.push(Frame::data(self.object("", "", &self.calls, false)));
            }
            Update::Started(_) | Update::Progress(_) | Update::Call(_) | Update::Done(_) => {}
        }
    }

    fn end(&mut self, answers: &[Answer], out: &mut Vec<Frame>) {
        out.extend(answers.first().map(|answer| Frame::data(self.last(answer, ("", "", &[])))));
    }

    fn whole(&mut self, answers: &[Answer]) -> Value {
        let Some(answer) = answers.first() else { return Value::Null };
        let mut object = self.last(answer, (&answer.thought, &answer.text, &answer.calls));
        if self.reply.logprobs {
            object["logprobs"] = answer::logprobs(&answer.tokens)["content"].take();
        }
        object
    }

    fn failed(&mut self, error: &ApiError, out: &mut Vec<Frame>) {
        out.push((CHAT.failed)(error));
    }
}
