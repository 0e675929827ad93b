//! OpenAI's chat completions, with llama.cpp's and our fields.

use serde_json::{Map, Value, json};

use super::answer::{self, Heading};
use super::{Answer, Dialect, Frame, News, Opened, Wire, Writer, add_measurements};
use crate::prompt::CallNews;
use crate::request::{Reply, json as body};
use crate::server::error::ApiError;

pub const DIALECT: Dialect = Dialect {
    prefix: "chatcmpl-",
    open: |fields, defaults, heading| {
        let read = body::read_fields(fields, defaults)?;
        let reply = read.1;
        Ok(Opened::new(read, Chat { heading, reply }))
    },
    wire: Wire::Events,
    name: |_| None,
};

struct Chat {
    heading: Heading,
    reply: Reply,
}

impl Chat {
    fn chunk(&self, index: u32, delta: Value, finish: Option<&str>) -> Map<String, Value> {
        let mut chunk = self.heading.object("chat.completion.chunk");
        chunk.insert("choices".into(), json!([{ "index": index, "delta": delta, "finish_reason": finish }]));
        chunk
    }
}

impl Writer for Chat {
    fn news(&mut self, index: u32, news: News<'_>, out: &mut Vec<Frame>) {
        let mut extra = None;
        let mut chunk = match news {
            News::Started(_) => self.chunk(index, json!({ "role": "assistant", "content": "" }), None),
            News::Progress(progress) => {
                extra = Some(("prompt_progress", progress));
                self.chunk(index, json!({ "role": "assistant", "content": null }), None)
            }
            News::Text { text, delta, timings } => {
                extra = timings.map(|timings| ("timings", timings));
                let mut chunk = self.chunk(index, json!({ "content": text }), None);
                if self.reply.logprobs {
                    chunk["choices"][0]["logprobs"] = answer::logprobs(&delta.tokens);
                }
                chunk
            }
            News::Call(call) => {
                let call = match call {
                    CallNews::Begin { index, id, name } => {
                        json!({ "index": index, "id": id, "type": "function",
                                "function": { "name": name, "arguments": "" } })
                    }
                    CallNews::Arguments { index, text } => {
                        json!({ "index": index, "function": { "arguments": text } })
                    }
                    CallNews::Text(_) => return,
                };
                self.chunk(index, json!({ "tool_calls": [call] }), None)
            }
            News::Done(answer) => self.chunk(index, json!({}), Some(answer::reason(answer))),
        };
        if let Some((name, value)) = extra {
            chunk.insert(name.into(), value);
        }
        out.push(Frame::data(chunk));
    }

    fn end(&mut self, answers: &[Answer], out: &mut Vec<Frame>) {
        if self.reply.include_usage {
            let mut chunk = self.heading.object("chat.completion.chunk");
            chunk.insert("choices".into(), json!([]));
            chunk.insert("usage".into(), answer::usage(answers));
            add_measurements(&mut chunk, self.reply, answers);
            out.push(Frame::data(chunk));
        } else if let Some(last) = out.last_mut()
            && let Ok(Value::Object(mut chunk)) = serde_json::from_str(&last.data)
        {
            // The chunk with the last finish reason carries them.
            add_measurements(&mut chunk, self.reply, answers);
            *last = Frame::data(chunk);
        }
        out.push(Frame { name: None, data: "[DONE]".into() });
    }

    fn whole(&mut self, answers: &[Answer]) -> Value {
        let mut whole = completion(&self.heading, self.reply, answers);
        add_measurements(&mut whole, self.reply, answers);
        whole.into()
    }

    fn failed(&mut self, error: &ApiError, out: &mut Vec<Frame>) {
        out.push(Frame::data(json!({ "error": error.body() })));
    }
}

/// Whole answers as OpenAI's object, without measurements of our own.
#[must_use]
pub fn completion(heading: &Heading, reply: Reply, answers: &[Answer]) -> Map<String, Value> {
    let mut whole = heading.object("chat.completion");
    let choices = answers.iter().enumerate().map(|(index, answer)| {
        let mut message = json!({ "role": "assistant", "content": answer.text });
        if !answer.calls.is_empty() {
            let calls = answer.calls.iter().map(|call| {
                json!({ "id": call.id, "type": "function",
                        "function": { "name": call.name, "arguments": call.arguments } })
            });
            message["tool_calls"] = calls.collect();
            if answer.text.is_empty() {
                message["content"] = Value::Null;
            }
        }
        let logprobs = reply.logprobs.then(|| answer::logprobs(&answer.tokens));
        json!({ "index": index, "message": message, "logprobs": logprobs, "finish_reason": answer::reason(answer) })
    });
    whole.insert("choices".into(), choices.collect());
    whole.insert("usage".into(), answer::usage(answers));
    whole
}
