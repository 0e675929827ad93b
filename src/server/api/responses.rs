//! OpenAI's responses: the body as one of its chat completions.

use serde_json::{Map, Value, json};

use super::answer::Heading;
use super::responses_writer::{self, Responses};
use super::{Dialect, Opened, Wire};
use crate::error::{Error, Field, Result};
use crate::request::{Defaults, Fields, json as body};

pub const DIALECT: Dialect = Dialect {
    prefix: "resp_",
    open,
    wire: Wire::Events,
    failed: responses_writer::failed,
    strict_thoughts: true,
    name: |field| (field == Field::MaxTokens).then_some("max_output_tokens"),
};

fn open(mut fields: Fields, defaults: &Defaults, heading: Heading) -> Result<Opened> {
    // Fields that the answer repeats.
    let mut echo = Map::new();
    for name in [
        "instructions",
        "max_output_tokens",
        "metadata",
        "temperature",
        "top_p",
        "tools",
        "tool_choice",
        "text",
        "reasoning",
    ] {
        if let Some(value) = fields.peek(name) {
            echo.insert(name.into(), value.clone());
        }
    }
    if fields.has("prompt") {
        return Err(Error::usage(
            "prompt: templates of prompts are kept by OpenAI's servers only; give input",
        ));
    }
    fields.rename("max_output_tokens", "max_tokens")?;
    fields.rename("instructions", "system")?;
    // Thoughts are not sealed here: they come as they are.
    let included = fields.texts("include")?.unwrap_or_default();
    if let Some(other) = included.iter().find(|name| *name != "reasoning.encrypted_content") {
        let other: String = other.chars().take(40).collect();
        return Err(Error::usage(format!("include: there is no `{other}` here; leave it out")));
    }
    if let Some(mut text) = fields.object("text")? {
        if let Some(format) = text.value("format") {
            fields.put("response_format", nested(format, "json_schema"), "text.format".into())?;
        }
        text.value("verbosity");
        text.all_read()?;
    }
    if let Some(Value::Array(tools)) = fields.value("tools") {
        let tools: Vec<Value> = tools.into_iter().map(|tool| nested(tool, "function")).collect();
        fields.put("tools", tools.into(), "tools".into())?;
    }
    if let Some(choice) = fields.value("tool_choice") {
        fields.put("tool_choice", nested(choice, "function"), "tool_choice".into())?;
    }
    let messages = match fields.value("input") {
        None => return Err(Error::usage("input is missing: give a text or a list of items")),
        Some(Value::String(text)) => vec![json!({ "role": "user", "content": text })],
        Some(Value::Array(items)) => {
            let mut messages = Vec::new();
            for (i, value) in items.into_iter().enumerate() {
                item(Fields::of(value, format!("input[{i}]"))?, &mut messages)?;
            }
            messages
        }
        Some(_) => return Err(Error::usage("input: give a text or a list of items")),
    };
    fields.put("messages", messages.into(), "input".into())?;
    let read = body::read_fields(fields, defaults)?;
    let reply = read.1;
    if reply.choices > 1 {
        return Err(Error::usage("n: a response has one answer; leave it out"));
    }
    Ok(Opened::new(read, Responses::new(heading, reply, echo)))
}

/// Turns `{"type": kind, a, b}` into `{"type": kind, kind: {a, b}}`, the form of chat completions.
fn nested(value: Value, kind: &str) -> Value {
    match value {
        Value::Object(mut map)
            if map.get("type").is_some_and(|found| found == kind) && !map.contains_key(kind) =>
        {
            map.remove("type");
            json!({ "type": kind, kind: map })
        }
        other => other,
    }
}

/// Turns one item of the input into a message. Calls of one turn join the message before them.
fn item(mut item: Fields, messages: &mut Vec<Value>) -> Result<()> {
    let at = item.path("type");
    let call_id = item.text("call_id")?;
    match item.text("type")?.as_deref() {
        None | Some("message") => {
            let role = item.text("role")?;
            item.value("status");
            item.value("id");
            let content = match item.value("content") {
                Some(Value::Array(parts)) => {
                    let parts = parts.into_iter().enumerate();
                    let path = item.path("content");
                    parts.map(|(i, value)| part(value, &format!("{path}[{i}]"))).collect::<Result<_>>()?
                }
                content => content.unwrap_or_default(),
            };
            let begun = messages.last().is_some_and(is_thought) && role.as_deref() == Some("assistant");
            match messages.last_mut() {
                Some(last) if begun => last["content"] = content,
                _ => messages.push(json!({ "role": role, "content": content })),
            }
        }
        // A thought of an answer comes back ahead of its message or its calls.
        Some("reasoning") => {
            for name in ["status", "id", "encrypted_content"] {
                item.value(name);
            }
            let mut thought = String::new();
            for name in ["content", "summary"] {
                let texts = texts(&mut item, name)?;
                if thought.is_empty() {
                    thought = texts;
                }
            }
            if !thought.is_empty() {
                messages.push(json!({ "role": "assistant", "content": null, "reasoning_content": thought }));
            }
        }
        Some("function_call") => {
            let (name, arguments) = (item.text("name")?, item.text("arguments")?);
            item.value("status");
            item.value("id");
            let call = json!({ "id": call_id, "type": "function", "function": { "name": name, "arguments": arguments } });
            match messages.last_mut() {
                Some(last) if last["role"] == "assistant" => match &mut last["tool_calls"] {
                    Value::Array(calls) => calls.push(call),
                    none => *none = json!([call]),
                },
                _ => messages.push(json!({ "role": "assistant", "content": null, "tool_calls": [call] })),
            }
        }
        Some("function_call_output") => {
            item.value("status");
            item.value("id");
            let path = item.path("output");
            let output = match item.value("output") {
                Some(Value::Array(parts)) => {
                    let parts = parts.into_iter().enumerate();
                    parts
                        .map(|(i, value)| part(value, &format!("{path}[{i}]")))
                        .collect::<Result<Vec<_>>>()?
                        .into()
                }
                output => output.unwrap_or_default(),
            };
            messages.push(json!({ "role": "tool", "tool_call_id": call_id, "content": output }));
        }
        Some(other) => {
            let other: String = other.chars().take(40).collect();
            return Err(Error::usage(format!(
                "{at}: `{other}` is not understood; use message, reasoning, function_call or function_call_output"
            )));
        }
    }
    item.all_read()
}

/// Whether a message holds a thought and nothing else yet.
fn is_thought(message: &Value) -> bool {
    message.get("reasoning_content").is_some()
        && message["content"].is_null()
        && message.get("tool_calls").is_none()
}

/// Returns the texts of the list `name`, one after the other.
fn texts(item: &mut Fields, name: &'static str) -> Result<String> {
    let at = item.path(name);
    let Some(value) = item.value(name) else { return Ok(String::new()) };
    let parts = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let texts: Option<Vec<&str>> = parts.iter().map(|part| part["text"].as_str()).collect();
    match texts.filter(|_| value.is_array()) {
        Some(texts) => Ok(texts.concat()),
        None => Err(Error::usage(format!("{at}: give a list of texts"))),
    }
}

fn part(value: Value, at: &str) -> Result<Value> {
    let mut part = Fields::of(value, at.to_owned())?;
    let missing = |name: &str| Error::usage(format!("{at}.{name} is missing"));
    match part.text("type")?.as_deref() {
        Some("input_text" | "output_text" | "text") => {
            Ok(json!({ "type": "text", "text": part.text("text")?.ok_or_else(|| missing("text"))? }))
        }
        Some("input_image") => {
            let url = part.text("image_url")?.ok_or_else(|| missing("image_url"))?;
            Ok(json!({ "type": "image_url", "image_url": { "url": url } }))
        }
        other => {
            let other: String = other.unwrap_or_default().chars().take(40).collect();
            Err(Error::usage(format!(
                "{at}.type: `{other}` is not understood; use input_text or input_image"
            )))
        }
    }
}
