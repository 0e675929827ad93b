//! Anthropic's messages: answers and their events.

use serde_json::{Value, json};

use super::answer::Heading;
use super::{Answer, Frame, Update, Writer, shape};
use crate::prompt::CallUpdate;
use crate::server::error::ApiError;
use crate::worker::protocol::{Done, Finish, Started};

pub struct Messages {
    heading: Heading,
    /// Blocks begun so far. The last one is open if `open` is set.
    blocks: u32,
    open: Option<Block>,
}

#[derive(PartialEq)]
enum Block {
    Thought,
    Text,
    Call(u32),
}

impl Messages {
    pub fn new(heading: Heading) -> Self {
        Self { heading, blocks: 0, open: None }
    }

    fn message(&self, content: Value, stop: (Value, Value), usage: Value) -> Value {
        json!({
            "id": self.heading.id, "type": "message", "role": "assistant", "model": self.heading.model,
            "content": content, "stop_reason": stop.0, "stop_sequence": stop.1, "usage": usage,
        })
    }

    fn close(&mut self, out: &mut Vec<Frame>) {
        let open = self.open.take();
        if open == Some(Block::Thought) {
            // Anthropic's servers sign thoughts. Clients expect the event, and send the field back.
            self.delta(json!({ "type": "signature_delta", "signature": "" }), out);
        }
        if open.is_some() {
            out.push(Frame::typed(json!({ "type": "content_block_stop", "index": self.blocks - 1 })));
        }
    }

    fn begin(&mut self, block: Block, content: Value, out: &mut Vec<Frame>) {
        self.close(out);
        out.push(Frame::typed(
            json!({ "type": "content_block_start", "index": self.blocks, "content_block": content }),
        ));
        self.blocks += 1;
        self.open = Some(block);
    }

    fn delta(&self, delta: Value, out: &mut Vec<Frame>) {
        out.push(Frame::typed(
            json!({ "type": "content_block_delta", "index": self.blocks - 1, "delta": delta }),
        ));
    }
}

fn usage(prompt: u32, cached: u32, generated: u32) -> Value {
    json!({ "input_tokens": prompt - cached.min(prompt), "cache_read_input_tokens": cached,
            "cache_creation_input_tokens": 0, "output_tokens": generated })
}

fn stop(answer: &Answer, done: &Done) -> (Value, Value) {
    match &done.finish {
        Finish::Length | Finish::ContextFull | Finish::Cancelled => (json!("max_tokens"), Value::Null),
        _ if !answer.calls.is_empty() => (json!("tool_use"), Value::Null),
        Finish::StopString(text) => (json!("stop_sequence"), json!(text)),
        Finish::Stop | Finish::Grammar => (json!("end_turn"), Value::Null),
    }
}

impl Writer for Messages {
    fn update(&mut self, _: u32, update: Update<'_>, out: &mut Vec<Frame>) {
        match update {
            Update::Started(Started { prompt_tokens, cached_tokens, .. }) => {
                let usage = usage(*prompt_tokens, *cached_tokens, 0);
                let message = self.message(json!([]), (Value::Null, Value::Null), usage);
                out.push(Frame::typed(json!({ "type": "message_start", "message": message })));
                out.push(Frame::typed(json!({ "type": "ping" })));
            }
            Update::Thought { text, .. } => {
                if self.open != Some(Block::Thought) {
                    self.begin(
                        Block::Thought,
                        json!({ "type": "thinking", "thinking": "", "signature": "" }),
                        out,
                    );
                }
                self.delta(json!({ "type": "thinking_delta", "thinking": text }), out);
            }
            Update::Text { text, .. } if !text.is_empty() => {
                if self.open != Some(Block::Text) {
                    self.begin(Block::Text, json!({ "type": "text", "text": "" }), out);
                }
                self.delta(json!({ "type": "text_delta", "text": text }), out);
            }
            Update::Call(CallUpdate::Begin { index, id, name }) => {
                let block = json!({ "type": "tool_use", "id": id, "name": name, "input": {} });
                self.begin(Block::Call(*index), block, out);
            }
            Update::Call(CallUpdate::Arguments { text, .. }) => {
                self.delta(json!({ "type": "input_json_delta", "partial_json": text }), out);
            }
            Update::Text { .. } | Update::Call(_) | Update::Progress(_) | Update::Done(_) => {}
        }
    }

    fn end(&mut self, answers: &[Answer], out: &mut Vec<Frame>) {
        self.close(out);
        let Some((answer, done)) = answers.first().and_then(|one| Some((one, one.done.as_deref()?))) else {
            return;
        };
        let (reason, sequence) = stop(answer, done);
        let usage = usage(done.prompt_tokens, done.cached_tokens, done.generated_tokens);
        out.push(Frame::typed(json!({ "type": "message_delta",
            "delta": { "stop_reason": reason, "stop_sequence": sequence }, "usage": usage })));
        out.push(Frame::typed(json!({ "type": "message_stop" })));
    }

    fn whole(&mut self, answers: &[Answer]) -> Value {
        let Some((answer, done)) = answers.first().and_then(|one| Some((one, one.done.as_deref()?))) else {
            return Value::Null;
        };
        let mut content = Vec::new();
        if !answer.thought.is_empty() {
            content.push(json!({ "type": "thinking", "thinking": answer.thought, "signature": "" }));
        }
        if !answer.text.is_empty() || answer.calls.is_empty() {
            content.push(json!({ "type": "text", "text": answer.text }));
        }
        for call in &answer.calls {
            let input: Value = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
            content.push(json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": input }));
        }
        let usage = usage(done.prompt_tokens, done.cached_tokens, done.generated_tokens);
        self.message(content.into(), stop(answer, done), usage)
    }

    fn failed(&mut self, error: &ApiError, out: &mut Vec<Frame>) {
        out.push(shape::anthropic_event(error));
    }
}
