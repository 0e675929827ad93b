//! OpenAI's chat completions, with llama.cpp's and our fields.

use serde_json::{Map, Value, json};

use super::answer::{self, Heading};
use super::{Answer, Dialect, Frame, Opened, Tokens, Update, Wire, Writer, add_measurements, shape};
use crate::completion::completion;
use crate::prompt::CallUpdate;
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
    failed: shape::openai,
    strict_thoughts: true,
    name: |_| None,
};

const CHUNK: &str = "chat.completion.chunk";

struct Chat {
    heading: Heading,
    reply: Reply,
}

impl Chat {
    fn chunk(&self, index: u32, delta: Value, finish: Option<&str>) -> Map<String, Value> {
        let mut chunk = self.heading.object(CHUNK);
        chunk.insert("choices".into(), json!([{ "index": index, "delta": delta, "finish_reason": finish }]));
        chunk
    }

    fn said(&self, index: u32, delta: Value, tokens: &Tokens) -> Map<String, Value> {
        let mut chunk = self.chunk(index, delta, None);
        if self.reply.logprobs {
            chunk["choices"][0]["logprobs"] = answer::logprobs(&tokens.tokens);
        }
        chunk
    }
}

impl Writer for Chat {
    fn update(&mut self, index: u32, update: Update<'_>, out: &mut Vec<Frame>) {
        let mut extra = None;
        let mut chunk = match update {
            Update::Started(_) => self.chunk(index, json!({ "role": "assistant", "content": null }), None),
            Update::Progress(progress) => {
                extra = Some(("prompt_progress", progress));
                self.chunk(index, json!({ "role": "assistant", "content": null }), None)
            }
            Update::Thought { text, tokens, timings } => {
                extra = timings.map(|timings| ("timings", timings));
                self.said(index, json!({ "reasoning_content": text }), tokens)
            }
            Update::Text { text, tokens, timings } => {
                extra = timings.map(|timings| ("timings", timings));
                self.said(index, json!({ "content": text }), tokens)
            }
            Update::Call(call) => {
                let call = match call {
                    CallUpdate::Begin { index, id, name } => {
                        json!({ "index": index, "id": id, "type": "function",
                                "function": { "name": name, "arguments": "" } })
                    }
                    CallUpdate::Arguments { index, text } => {
                        json!({ "index": index, "function": { "arguments": text } })
                    }
                    CallUpdate::Text(_) => return,
                };
                self.chunk(index, json!({ "tool_calls": [call] }), None)
            }
            Update::Done(answer) => self.chunk(index, json!({}), Some(answer::reason(answer))),
        };
        if let Some((name, value)) = extra {
            chunk.insert(name.into(), value);
        }
        out.push(Frame::data(chunk));
    }

    fn end(&mut self, answers: &[Answer], out: &mut Vec<Frame>) {
        shape::end(&self.heading, CHUNK, self.reply, answers, out);
        out.push(Frame { name: None, data: "[DONE]".into() });
    }

    fn whole(&mut self, answers: &[Answer]) -> Value {
        let mut whole = completion(&self.heading, self.reply, answers);
        add_measurements(&mut whole, self.reply, answers);
        whole.into()
    }

    fn failed(&mut self, error: &ApiError, out: &mut Vec<Frame>) {
        out.push(shape::openai(error));
    }
}
