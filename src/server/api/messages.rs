//! Anthropic's messages: the body as one of OpenAI's.

use serde_json::{Value, json};

use super::answer::Heading;
use super::messages_writer::Messages;
use super::{Dialect, Opened, Wire, shape};
use crate::error::{Error, Field, Result};
use crate::request::{Defaults, Fields, json as body};

pub const DIALECT: Dialect = Dialect {
    prefix: "msg_",
    open: |fields, defaults, heading| open(fields, defaults, heading, true),
    wire: Wire::Events,
    failed: shape::anthropic_event,
    // Clients ask for thoughts without knowing the model.
    strict_thoughts: false,
    name: |field| (field == Field::Stop).then_some("stop_sequences"),
};

/// Parses a body that is only counted, which has no number of tokens.
pub const COUNT: Dialect =
    Dialect { open: |fields, defaults, heading| open(fields, defaults, heading, false), ..DIALECT };

fn open(mut fields: Fields, defaults: &Defaults, heading: Heading, answered: bool) -> Result<Opened> {
    if answered && !fields.has("max_tokens") {
        return Err(Error::usage("max_tokens is missing: give a number of tokens"));
    }
    fields.rename("stop_sequences", "stop")?;
    if let Some(system) = fields.value("system") {
        fields.put("system", json!(text_of(system, "system")?), "system".into())?;
    }
    if let Some(asked) = fields.object("thinking")? {
        thinking(asked, &mut fields)?;
    }
    if let Some(Value::Array(given)) = fields.value("messages") {
        let mut messages = Vec::new();
        for (i, message) in given.into_iter().enumerate() {
            translate(Fields::of(message, format!("messages[{i}]"))?, &mut messages)?;
        }
        fields.put("messages", messages.into(), "messages".into())?;
    }
    tools(&mut fields)?;
    let read = body::read_fields(fields, defaults)?;
    Ok(Opened::new(read, Messages::new(heading)))
}

fn thinking(mut asked: Fields, fields: &mut Fields) -> Result<()> {
    let at = |name: &str| format!("thinking.{name}");
    let thinks = match asked.text("type")?.as_deref() {
        Some("disabled") => false,
        Some("enabled" | "adaptive") => true,
        _ => return Err(Error::usage("thinking.type: use enabled, adaptive or disabled")),
    };
    // How thoughts are shown there; here they are shown whole.
    asked.value("display");
    if let Some(most) = asked.value("budget_tokens") {
        fields.put("thinking_budget_tokens", most, at("budget_tokens"))?;
    }
    asked.all_read()?;
    fields.put("think", thinks.into(), at("type"))
}

/// Returns a text, or the texts of blocks.
fn text_of(value: Value, at: &str) -> Result<String> {
    let blocks = match value {
        Value::String(text) => return Ok(text),
        Value::Array(blocks) => blocks,
        other => return Err(wrong(at, &other, "a text or a list of text blocks")),
    };
    let mut texts = Vec::new();
    for (i, block) in blocks.into_iter().enumerate() {
        let at = format!("{at}[{i}]");
        let mut block = Fields::of(block, at.clone())?;
        match (block.text("type")?.as_deref(), block.text("text")?) {
            (Some("text"), Some(text)) => texts.push(text),
            _ => return Err(Error::usage(format!("{at}: only text blocks are understood here"))),
        }
    }
    Ok(texts.join("\n"))
}

fn wrong(at: &str, value: &Value, wanted: &str) -> Error {
    let shown: String = value.to_string().chars().take(40).collect();
    Error::usage(format!("{at} {shown}: give {wanted}"))
}

/// Turns one message into one or more of OpenAI's, where a tool's result is a message of its own.
fn translate(mut message: Fields, out: &mut Vec<Value>) -> Result<()> {
    let role = message.text("role")?.unwrap_or_default();
    let blocks = match message.value("content") {
        Some(Value::Array(blocks)) => blocks,
        // Texts pass as they are. The common reader of messages judges everything else.
        content => {
            out.push(json!({ "role": role, "content": content }));
            return message.all_read();
        }
    };
    let (mut parts, mut calls, mut thought) = (Vec::new(), Vec::new(), String::new());
    for (i, block) in blocks.into_iter().enumerate() {
        let at = message.path(&format!("content[{i}]"));
        let mut block = Fields::of(block, at.clone())?;
        let missing = |name: &str| Error::usage(format!("{at}.{name} is missing"));
        match block.text("type")?.as_deref() {
            Some("text") => {
                let text = block.text("text")?.ok_or_else(|| missing("text"))?;
                parts.push(json!({ "type": "text", "text": text }));
            }
            Some("image") => {
                let source = block.object("source")?.ok_or_else(|| missing("source"))?;
                parts.push(json!({ "type": "image_url", "image_url": { "url": url(source)? } }));
            }
            Some("thinking") => {
                block.text("signature")?;
                thought.push_str(&block.text("thinking")?.ok_or_else(|| missing("thinking"))?);
            }
            // Nobody but Anthropic's servers can read it.
            Some("redacted_thinking") => drop(block.value("data")),
            Some("tool_use") => {
                let input = block.value("input").unwrap_or_else(|| json!({}));
                calls.push(json!({ "id": block.text("id")?, "type": "function",
                    "function": { "name": block.text("name")?, "arguments": input.to_string() } }));
            }
            Some("tool_result") => {
                // OpenAI's form has no mark of an error: the text names it.
                block.flag("is_error")?;
                let (text, pictures) = result(block.value("content").unwrap_or_else(|| json!("")), &at)?;
                out.push(
                    json!({ "role": "tool", "tool_call_id": block.text("tool_use_id")?, "content": text }),
                );
                parts.extend(pictures);
            }
            other => {
                let other: String = other.unwrap_or_default().chars().take(40).collect();
                return Err(Error::usage(format!(
                    "{at}.type: `{other}` is not understood; use text, image, thinking, tool_use or tool_result"
                )));
            }
        }
    }
    let mut translated = json!({ "role": role, "content": parts });
    if !thought.is_empty() {
        translated["reasoning_content"] = thought.into();
    }
    if !calls.is_empty() {
        translated["tool_calls"] = calls.into();
    }
    if !parts_are_empty(&translated) || translated.get("tool_calls").is_some() || out.is_empty() {
        out.push(translated);
    }
    message.all_read()
}

fn parts_are_empty(message: &Value) -> bool {
    message["content"].as_array().is_some_and(Vec::is_empty)
}

/// Returns the text of a tool's result, and its pictures as parts of the next user message.
fn result(content: Value, at: &str) -> Result<(String, Vec<Value>)> {
    let Value::Array(blocks) = content else { return Ok((text_of(content, at)?, Vec::new())) };
    let (mut texts, mut pictures) = (Vec::new(), Vec::new());
    for (i, block) in blocks.into_iter().enumerate() {
        let at = format!("{at}.content[{i}]");
        if block["type"] == "image" {
            let mut block = Fields::of(block, at)?;
            if let Some(source) = block.object("source")? {
                pictures.push(json!({ "type": "image_url", "image_url": { "url": url(source)? } }));
            }
        } else {
            texts.push(text_of(json!([block]), &at)?);
        }
    }
    Ok((texts.join("\n"), pictures))
}

fn url(mut source: Fields) -> Result<String> {
    let at = source.path("type");
    let (kind, data) = (source.text("type")?, source.text("data")?);
    let (media, url) = (source.text("media_type")?, source.text("url")?);
    match (kind.as_deref(), data, url) {
        (Some("base64"), Some(data), _) => Ok(format!("data:{};base64,{data}", media.unwrap_or_default())),
        (Some("url"), _, Some(url)) => Ok(url),
        _ => Err(Error::usage(format!("{at}: give base64 with data, or url with url"))),
    }
}

fn tools(fields: &mut Fields) -> Result<()> {
    if let Some(Value::Array(given)) = fields.value("tools") {
        let mut tools = Vec::new();
        for (i, tool) in given.into_iter().enumerate() {
            let at = format!("tools[{i}]");
            let mut tool = Fields::of(tool, at.clone())?;
            if let Some(kind) = tool.text("type")?.filter(|kind| kind != "custom") {
                let kind: String = kind.chars().take(40).collect();
                return Err(Error::usage(format!("{at}.type: {kind} is run by Anthropic's servers only")));
            }
            let (name, schema) = (tool.text("name")?, tool.value("input_schema"));
            let description = tool.text("description")?;
            tools.push(json!({ "type": "function", "function":
                { "name": name, "description": description, "parameters": schema } }));
        }
        fields.put("tools", tools.into(), "tools".into())?;
    }
    let Some(mut choice) = fields.object("tool_choice")? else { return Ok(()) };
    let translated = match choice.text("type")?.as_deref() {
        Some("auto") => json!("auto"),
        Some("any") => json!("required"),
        Some("none") => json!("none"),
        Some("tool") => json!({ "type": "function", "function": { "name": choice.text("name")? } }),
        _ => return Err(Error::usage("tool_choice.type: use auto, any, tool or none")),
    };
    if choice.flag("disable_parallel_tool_use")? == Some(true) {
        fields.put("parallel_tool_calls", json!(false), "tool_choice.disable_parallel_tool_use".into())?;
    }
    fields.put("tool_choice", translated, "tool_choice".into())
}
