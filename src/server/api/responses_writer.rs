//! OpenAI's responses: answers and their events.

use serde_json::{Map, Value, json};

use super::answer::Heading;
use super::{Answer, Frame, Update, Writer, add_measurements};
use crate::prompt::CallUpdate;
use crate::request::Reply;
use crate::server::error::ApiError;
use crate::worker::protocol::Finish;

pub struct Responses {
    heading: Heading,
    reply: Reply,
    /// Fields of the body that the answer repeats.
    echo: Map<String, Value>,
    sequence: u64,
    /// Items begun so far, in order: the thought, the message and calls.
    items: Vec<Item>,
}

enum Item {
    /// The message, or the thought ahead of it.
    Words {
        thought: bool,
        id: String,
        text: String,
    },
    Call {
        id: String,
        call: String,
        name: String,
        arguments: String,
    },
}

impl Item {
    fn id(&self) -> &str {
        match self {
            Item::Words { id, .. } | Item::Call { id, .. } => id,
        }
    }

    fn value(&self, status: &str) -> Value {
        match self {
            Item::Words { thought, id, text } => {
                let done = status != "in_progress";
                let content = if done { json!([part(*thought, text)]) } else { json!([]) };
                match thought {
                    true => json!({ "id": id, "type": "reasoning", "status": status, "summary": [],
                                    "content": content, "encrypted_content": null }),
                    false => json!({ "id": id, "type": "message", "status": status, "role": "assistant",
                                     "content": content }),
                }
            }
            Item::Call { id, call, name, arguments } => {
                json!({ "id": id, "type": "function_call", "status": status, "call_id": call, "name": name,
                        "arguments": arguments })
            }
        }
    }
}

fn part(thought: bool, text: &str) -> Value {
    match thought {
        true => json!({ "type": "reasoning_text", "text": text }),
        false => json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] }),
    }
}

/// Name of the events about an item's text, `what` happens to it.
fn event_name(thought: bool, what: &str) -> String {
    format!("response.{}_text.{what}", if thought { "reasoning" } else { "output" })
}

/// Writes an error that is the first event.
pub fn failed(error: &ApiError) -> Frame {
    let body = error.body();
    Frame::typed(json!({ "type": "error", "code": body["type"], "message": body["message"], "param": null,
                         "sequence_number": 0 }))
}

impl Responses {
    pub fn new(heading: Heading, reply: Reply, echo: Map<String, Value>) -> Self {
        Self { heading, reply, echo, sequence: 0, items: Vec::new() }
    }

    fn own_id(&self, kind: &str) -> String {
        format!("{kind}_{}{}", self.heading.id.trim_start_matches("resp_"), self.items.len())
    }

    fn event(&mut self, mut value: Value, out: &mut Vec<Frame>) {
        value["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        out.push(Frame::typed(value));
    }

    /// Returns the response in progress, or with `answer` the finished one.
    fn response(&self, answer: Option<&Answer>) -> Value {
        let done = answer.and_then(|answer| answer.done.as_deref());
        let cut = done.is_some_and(|done| {
            matches!(done.finish, Finish::Length | Finish::ContextFull | Finish::Cancelled)
        });
        let status = match done {
            None => "in_progress",
            Some(_) if cut => "incomplete",
            Some(_) => "completed",
        };
        let echo = |name: &str, otherwise: Value| self.echo.get(name).cloned().unwrap_or(otherwise);
        let mut response = json!({
            "id": self.heading.id, "object": "response", "created_at": self.heading.created, "status": status,
            "error": null, "incomplete_details": cut.then(|| json!({ "reason": "max_output_tokens" })),
            "instructions": echo("instructions", Value::Null),
            "max_output_tokens": echo("max_output_tokens", Value::Null), "model": self.heading.model,
            "output": [], "parallel_tool_calls": true, "previous_response_id": null,
            "reasoning": echo("reasoning", json!({ "effort": null, "summary": null })), "store": false,
            "temperature": echo("temperature", Value::Null), "top_p": echo("top_p", Value::Null),
            "text": echo("text", json!({ "format": { "type": "text" } })),
            "tool_choice": echo("tool_choice", json!("auto")), "tools": echo("tools", json!([])),
            "truncation": "disabled", "usage": null, "metadata": echo("metadata", json!({})),
        });
        if let Some(done) = done {
            let status = if cut { "incomplete" } else { "completed" };
            response["output"] = self.items.iter().map(|item| item.value(status)).collect();
            response["usage"] = json!({
                "input_tokens": done.prompt_tokens,
                "input_tokens_details": { "cached_tokens": done.cached_tokens },
                "output_tokens": done.generated_tokens,
                "output_tokens_details": { "reasoning_tokens": answer.map_or(0, |answer| answer.thought_tokens) },
                "total_tokens": done.prompt_tokens + done.generated_tokens,
            });
        }
        response
    }

    /// Begins an item.
    fn begin(&mut self, item: Item, out: &mut Vec<Frame>) {
        self.close(out);
        let index = self.items.len();
        let (value, id) = (item.value("in_progress"), item.id().to_owned());
        let part = match &item {
            Item::Words { thought, .. } => Some(part(*thought, "")),
            Item::Call { .. } => None,
        };
        self.items.push(item);
        self.event(
            json!({ "type": "response.output_item.added", "output_index": index, "item": value }),
            out,
        );
        if let Some(part) = part {
            self.event(
                json!({ "type": "response.content_part.added", "item_id": id, "output_index": index,
                        "content_index": 0, "part": part }),
                out,
            );
        }
    }

    /// Adds to the last item if it is of the same kind, or to a new one.
    fn words(&mut self, thinks: bool, more: &str, timings: Option<Value>, out: &mut Vec<Frame>) {
        if !matches!(self.items.last(), Some(Item::Words { thought, .. }) if *thought == thinks) {
            let id = self.own_id(if thinks { "rs" } else { "msg" });
            self.begin(Item::Words { thought: thinks, id, text: String::new() }, out);
        }
        let index = self.items.len() - 1;
        let Some(Item::Words { id, text, .. }) = self.items.last_mut() else { return };
        text.push_str(more);
        let mut event = json!({ "type": event_name(thinks, "delta"), "item_id": id, "output_index": index,
                                "content_index": 0, "delta": more });
        if !thinks {
            event["logprobs"] = json!([]);
        }
        if let Some(timings) = timings {
            event["timings"] = timings;
        }
        self.event(event, out);
    }

    /// Ends the last item, if there is one.
    fn close(&mut self, out: &mut Vec<Frame>) {
        let Some(item) = self.items.last() else { return };
        let (index, id, value) = (self.items.len() - 1, item.id().to_owned(), item.value("completed"));
        let mut events = Vec::new();
        match item {
            Item::Words { thought, text, .. } => {
                events.push(
                    json!({ "type": event_name(*thought, "done"), "item_id": id, "output_index": index,
                    "content_index": 0, "text": text }),
                );
                if !thought {
                    events[0]["logprobs"] = json!([]);
                }
                events.push(
                    json!({ "type": "response.content_part.done", "item_id": id, "output_index": index,
                    "content_index": 0, "part": part(*thought, text) }),
                );
            }
            Item::Call { arguments, name, .. } => {
                events.push(json!({ "type": "response.function_call_arguments.done", "item_id": id,
                    "output_index": index, "name": name, "arguments": arguments }));
            }
        }
        events.push(json!({ "type": "response.output_item.done", "output_index": index, "item": value }));
        for event in events {
            self.event(event, out);
        }
    }
}

impl Writer for Responses {
    fn update(&mut self, _: u32, update: Update<'_>, out: &mut Vec<Frame>) {
        match update {
            Update::Started(_) => {
                let response = self.response(None);
                self.event(json!({ "type": "response.created", "response": response }), out);
                let response = self.response(None);
                self.event(json!({ "type": "response.in_progress", "response": response }), out);
            }
            Update::Progress(progress) => {
                let response = self.response(None);
                let event = json!({ "type": "response.in_progress", "response": response,
                                    "prompt_progress": progress });
                self.event(event, out);
            }
            Update::Thought { text, timings, .. } => self.words(true, text, timings, out),
            Update::Text { text, timings, .. } if !text.is_empty() => self.words(false, text, timings, out),
            Update::Call(CallUpdate::Begin { id: call, name, .. }) => {
                let id = self.own_id("fc");
                let (call, name) = (call.clone(), name.clone());
                self.begin(Item::Call { id, call, name, arguments: String::new() }, out);
            }
            Update::Call(CallUpdate::Arguments { text, .. }) => {
                let index = self.items.len().saturating_sub(1);
                let Some(Item::Call { id, arguments, .. }) = self.items.last_mut() else { return };
                arguments.push_str(text);
                let event = json!({ "type": "response.function_call_arguments.delta", "item_id": id,
                                    "output_index": index, "delta": text });
                self.event(event, out);
            }
            Update::Text { .. } | Update::Call(_) | Update::Done(_) => {}
        }
    }

    fn end(&mut self, answers: &[Answer], out: &mut Vec<Frame>) {
        self.close(out);
        let response = self.response(answers.first());
        let kind =
            if response["status"] == "incomplete" { "response.incomplete" } else { "response.completed" };
        let mut last = Map::new();
        last.insert("type".into(), kind.into());
        last.insert("response".into(), response);
        add_measurements(&mut last, self.reply, answers);
        self.event(last.into(), out);
    }

    fn whole(&mut self, answers: &[Answer]) -> Value {
        let Some(answer) = answers.first() else { return Value::Null };
        if !answer.thought.is_empty() {
            let (id, text) = (self.own_id("rs"), answer.thought.clone());
            self.items.push(Item::Words { thought: true, id, text });
        }
        if !answer.text.is_empty() || answer.calls.is_empty() {
            let (id, text) = (self.own_id("msg"), answer.text.clone());
            self.items.push(Item::Words { thought: false, id, text });
        }
        for call in &answer.calls {
            let id = self.own_id("fc");
            let (call, name, arguments) = (call.id.clone(), call.name.clone(), call.arguments.clone());
            self.items.push(Item::Call { id, call, name, arguments });
        }
        let Value::Object(mut response) = self.response(Some(answer)) else { return Value::Null };
        add_measurements(&mut response, self.reply, answers);
        response.into()
    }

    fn failed(&mut self, error: &ApiError, out: &mut Vec<Frame>) {
        if self.sequence == 0 {
            return out.push(failed(error));
        }
        let mut response = self.response(None);
        response["status"] = "failed".into();
        response["error"] = json!({ "code": "server_error", "message": error.body()["message"] });
        self.event(json!({ "type": "response.failed", "response": response }), out);
    }
}
