//! Messages of a request: texts, pictures and videos in the order they were given.

use serde_json::Value;

use super::fields::{Fields, wrong};
use super::{Bounds, policy};
use crate::error::{Error, Field, Result};
use crate::prompt::{Called, Message, Part, Role};

/// Reference to a picture or video: a URL, a path or base64, as the face that was asked reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    Image(String),
    Video(String),
}

/// Messages with their references: `Part::Image(n)` is the n-th reference.
type Conversation = (Vec<Message>, Vec<Reference>);

/// Makes one question about the pictures before it.
pub(super) fn ask(prompt: String, shown: Vec<Reference>) -> Conversation {
    let parts = (0..shown.len()).map(Part::Image).chain([Part::Text(prompt)]).collect();
    (vec![Message { role: Role::User, parts }], shown)
}

/// The conversation with a system message at its head, unless it has one.
pub(super) fn with_system((mut messages, shown): Conversation, system: Option<String>) -> Conversation {
    if let Some(text) = system.filter(|_| messages.iter().all(|message| message.role != Role::System)) {
        messages.insert(0, Message::text(Role::System, text));
    }
    (messages, shown)
}

/// # Errors
/// Kind `Usage` for more of anything than a request may have.
pub(super) fn check((messages, shown): &Conversation, bounds: &Bounds) -> Result<()> {
    let videos = shown.iter().filter(|one| matches!(one, Reference::Video(_))).count();
    for (count, most, what, field) in [
        (shown.len() - videos, bounds.images, "pictures", Field::MaxImages),
        (videos, bounds.videos, "videos", Field::MaxVideos),
    ] {
        if count > most {
            return Err(Error::usage(format!(
                "the request has {count} {what}, the limit is {most} ({field}); send fewer"
            )));
        }
    }
    let parts = messages.iter().flat_map(|message| &message.parts);
    let bytes: usize = parts.map(Part::bytes).sum();
    if bytes > bounds.prompt_bytes {
        return Err(Error::usage(format!(
            "the conversation has {bytes} bytes of text, the limit is {} ({}): shorten it",
            bounds.prompt_bytes,
            Field::MaxPrompt
        )));
    }
    Ok(())
}

/// # Errors
/// Kind `Usage` that names the message and its part.
pub(super) fn read(given: Value, bounds: &Bounds) -> Result<Conversation> {
    let given = match given {
        Value::Array(given) => given,
        other => return Err(wrong("messages", &other, "a list of messages")),
    };
    if given.is_empty() {
        return Err(Error::usage("messages is empty: ask something"));
    }
    if given.len() > bounds.messages {
        let n = given.len();
        return Err(Error::usage(format!(
            "messages has {n} entries, the limit is {}; leave out the oldest",
            bounds.messages
        )));
    }
    let mut shown = Vec::new();
    let messages = given
        .into_iter()
        .enumerate()
        .map(|(i, value)| message(Fields::of(value, format!("messages[{i}]"))?, &mut shown))
        .collect::<Result<Vec<_>>>()?;
    let mut endings = messages.iter().rev().map(|message| message.role);
    if (endings.next(), endings.next()) == (Some(Role::Assistant), Some(Role::Assistant)) {
        return Err(Error::usage("messages end with two of the assistant: only one can be continued"));
    }
    Ok((messages, shown))
}

fn message(mut fields: Fields, shown: &mut Vec<Reference>) -> Result<Message> {
    let at = fields.path("role");
    let role = match fields.text("role")?.as_deref() {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("tool") => Role::Tool,
        Some(other) => {
            let other: String = other.chars().take(40).collect();
            return Err(Error::usage(format!(
                "{at}: `{other}` is none; use system, user, assistant or tool"
            )));
        }
        None => return Err(Error::usage(format!("{at} is missing; use system, user, assistant or tool"))),
    };
    // Ollama's pictures: base64 beside the text.
    let images = fields.texts("images")?.unwrap_or_default();
    let mut parts: Vec<Part> =
        images.into_iter().map(|image| show(Reference::Image(inline(image)), shown)).collect();
    let calls = calls(&mut fields, role)?;
    if role == Role::Tool {
        // Ollama's name the function instead.
        fields.text("tool_name")?;
        parts.extend(fields.text("tool_call_id")?.map(Part::CallId));
    }
    // llama-server's name, OpenRouter's, Ollama's.
    for name in ["reasoning_content", "reasoning", "thinking"] {
        match fields.text(name)? {
            Some(thought) if role != Role::Assistant && !thought.is_empty() => {
                let at = fields.path(name);
                return Err(Error::usage(format!("{at}: only the assistant thinks; leave it out")));
            }
            Some(thought) if parts.is_empty() && !thought.is_empty() => parts.push(Part::Thought(thought)),
            _ => {}
        }
    }
    match fields.value("content") {
        // Beside calls, no words are no part.
        None if !calls.is_empty() => {}
        Some(Value::String(text)) if text.is_empty() && !calls.is_empty() => {}
        None => parts.push(Part::Text(String::new())),
        Some(Value::String(text)) => parts.push(Part::Text(text)),
        Some(Value::Array(given)) => {
            for (i, value) in given.into_iter().enumerate() {
                let at = fields.path(&format!("content[{i}]"));
                parts.push(match value {
                    Value::String(text) => Part::Text(text),
                    value => part(Fields::of(value, at)?, shown)?,
                });
            }
        }
        Some(other) => return Err(wrong(&fields.path("content"), &other, "a text or a list of parts")),
    }
    fields.close(&policy::MESSAGE)?;
    parts.extend(calls.into_iter().map(Part::Call));
    Ok(Message { role, parts })
}

/// The calls of an assistant's message: OpenAI's, whose arguments are a text, or Ollama's, whose are an object.
fn calls(fields: &mut Fields, role: Role) -> Result<Vec<Called>> {
    let at = fields.path("tool_calls");
    let given = match fields.value("tool_calls") {
        None => return Ok(Vec::new()),
        Some(Value::Array(given)) => given,
        Some(other) => return Err(wrong(&at, &other, "a list of calls")),
    };
    if role != Role::Assistant && !given.is_empty() {
        return Err(Error::usage(format!("{at}: only the assistant calls tools; leave it out")));
    }
    let mut calls = Vec::new();
    for (i, value) in given.into_iter().enumerate() {
        let at = format!("{at}[{i}]");
        let mut call = Fields::of(value, at.clone())?;
        let id = call.text("id")?.unwrap_or_else(|| format!("call_{i}"));
        call.text("type")?;
        call.value("index");
        let mut function =
            call.object("function")?.ok_or_else(|| Error::usage(format!("{at}.function is missing")))?;
        let name = some_text(&mut function, "name")?;
        let path = function.path("arguments");
        let arguments = match function.value("arguments") {
            None => "{}".to_owned(),
            Some(Value::Object(map)) => Value::Object(map).to_string(),
            Some(Value::String(text)) if text.trim().is_empty() => "{}".to_owned(),
            Some(Value::String(text)) => match serde_json::from_str::<Value>(&text) {
                Ok(Value::Object(_)) => text,
                _ => return Err(Error::usage(format!("{path}: give a JSON object as text"))),
            },
            Some(other) => return Err(wrong(&path, &other, "a JSON object as text")),
        };
        function.value("index");
        function.all_read()?;
        call.all_read()?;
        calls.push(Called { id, name, arguments });
    }
    Ok(calls)
}

fn show(reference: Reference, shown: &mut Vec<Reference>) -> Part {
    shown.push(reference);
    Part::Image(shown.len() - 1)
}

/// Turns base64 into a data URI, so that it is not taken for a path.
pub(super) fn inline(image: String) -> String {
    let is_url = image.starts_with("data:") || image.contains("://");
    if is_url { image } else { format!("data:;base64,{image}") }
}

fn part(mut fields: Fields, shown: &mut Vec<Reference>) -> Result<Part> {
    let at = fields.path("type");
    let kind = fields.text("type")?.unwrap_or_default();
    let part = match kind.as_str() {
        "text" => Part::Text(some_text(&mut fields, "text")?),
        "refusal" => Part::Text(some_text(&mut fields, "refusal")?),
        // OpenAI's form, and that of transformers' and Qwen's examples.
        "image_url" => show(Reference::Image(url(&mut fields, "image_url", &["url"])?), shown),
        "image" => show(Reference::Image(url(&mut fields, "image", &["url"])?), shown),
        "video_url" => show(Reference::Video(url(&mut fields, "video_url", &["url"])?), shown),
        "video" => show(Reference::Video(url(&mut fields, "video", &["url"])?), shown),
        // llama.cpp's.
        "input_video" => show(Reference::Video(url(&mut fields, "input_video", &["data", "url"])?), shown),
        "input_audio" | "audio_url" | "audio" => {
            return Err(Error::usage(format!("{at}: no audio is understood; leave it out")));
        }
        "" => return Err(Error::usage(format!("{at} is missing; use text, image_url or video_url"))),
        other => {
            let other: String = other.chars().take(40).collect();
            return Err(Error::usage(format!("{at}: `{other}` is none; use text, image_url or video_url")));
        }
    };
    fields.close(&policy::PART)?;
    Ok(part)
}

fn some_text(fields: &mut Fields, name: &'static str) -> Result<String> {
    let text = fields.text(name)?;
    text.ok_or_else(|| Error::usage(format!("{} is missing: give a text", fields.path(name))))
}

/// The reference in the object `name`, under the first of `names` that is there; some clients send the bare text.
fn url(fields: &mut Fields, name: &'static str, names: &[&'static str]) -> Result<String> {
    let at = fields.path(name);
    let mut found = None;
    match fields.value(name) {
        None => {}
        Some(Value::String(url)) => return Ok(url),
        Some(value) => {
            let mut object = Fields::of(value, at.clone())?;
            for name in names {
                let url = object.text(name)?;
                found = found.or(url);
            }
            object.close(&policy::PART)?;
        }
    }
    found.ok_or_else(|| {
        Error::usage(format!("{at}.{} is missing: give a data:, http(s) or file URL", names.join(" or ")))
    })
}

/// Numbers pictures anew if references became none, one or several of them: `counts[n]` for reference n.
pub(super) fn place(messages: &mut [Message], counts: &[usize]) {
    let mut next = 0;
    let ranges: Vec<_> = counts
        .iter()
        .map(|count| {
            let first = next;
            next += count;
            first..next
        })
        .collect();
    for message in messages {
        let parts = std::mem::take(&mut message.parts).into_iter();
        message.parts = parts
            .flat_map(|part| match part {
                Part::Image(n) => ranges[n].clone().map(Part::Image).collect::<Vec<_>>(),
                text => vec![text],
            })
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn conversation(messages: Value) -> Result<Conversation> {
        let bounds = Bounds { images: 3, videos: 4, prompt_bytes: 20, messages: 4, ..Bounds::default() };
        let conversation = read(messages, &bounds)?;
        check(&conversation, &bounds).map(|()| conversation)
    }

    #[test]
    fn texts_and_pictures_keep_their_order() {
        let image = |url: &str| json!({ "type": "image_url", "image_url": { "url": url, "detail": "low" } });
        let text = |text: &str| json!({ "type": "text", "text": text, "cache_control": {} });
        let (messages, shown) = conversation(json!([
            { "role": "developer", "content": "brief", "name": "me" },
            { "role": "user", "content": [image("a"), text("one"), image("b"), "and", image("c"), text("two")] },
            { "role": "assistant", "content": null, "refusal": null, "tool_calls": [] },
        ]))
        .unwrap();
        assert_eq!(shown, ["a", "b", "c"].map(|url| Reference::Image(url.into())));
        assert_eq!(messages[0], Message::text(Role::System, "brief"));
        let text = |text: &str| Part::Text(text.into());
        let [a, b, c] = [0, 1, 2].map(Part::Image);
        assert_eq!(messages[1].parts, [a, text("one"), b, text("and"), c, text("two")]);
        assert_eq!(messages[2], Message::text(Role::Assistant, ""));
    }

    #[test]
    fn pictures_in_each_form() {
        let (messages, shown) = conversation(json!([
            { "role": "user", "content": "what?", "images": ["iVBORw0KGgo=", "data:,x"] },
            { "role": "user", "content": [{ "type": "image_url", "image_url": "x" }] },
        ]))
        .unwrap();
        assert_eq!(
            shown,
            ["data:;base64,iVBORw0KGgo=", "data:,x", "x"].map(|url| Reference::Image(url.into()))
        );
        assert_eq!(messages[0].parts, [Part::Image(0), Part::Image(1), Part::Text("what?".into())]);
    }

    #[test]
    fn videos_in_each_form() {
        let video = |url: &str| Reference::Video(url.into());
        let (messages, shown) = conversation(json!([{ "role": "user", "content": [
            { "type": "video_url", "video_url": { "url": "a" } },
            { "type": "video", "video": "b" },
            { "type": "image", "image": "c" },
            { "type": "input_video", "input_video": { "data": "d", "format": "mp4" } },
            { "type": "input_video", "input_video": { "data": null, "url": "e" } },
        ] }]))
        .unwrap();
        assert_eq!(shown, [video("a"), video("b"), Reference::Image("c".into()), video("d"), video("e")]);
        assert_eq!(messages[0].parts, [0, 1, 2, 3, 4].map(Part::Image));
    }

    #[test]
    fn references_become_pictures() {
        let text = || Part::Text("and".into());
        let message = |parts| Message { role: Role::User, parts };
        let mut messages =
            [message(vec![Part::Image(0), text(), Part::Image(1)]), message(vec![Part::Image(2)])];
        place(&mut messages, &[1, 3, 1]);
        assert_eq!(
            messages[0].parts,
            [Part::Image(0), text(), Part::Image(1), Part::Image(2), Part::Image(3)]
        );
        assert_eq!(messages[1].parts, [Part::Image(4)]);
    }

    #[test]
    fn errors_name_the_place() {
        let user = |content: Value| json!([{ "role": "user", "content": content }]);
        let four = vec![json!({ "type": "image_url", "image_url": { "url": "x" } }); 4];
        let assistant = json!({ "role": "assistant", "content": "x" });
        for (messages, part) in [
            (json!("hi"), "messages \"hi\": give a list"),
            (json!([]), "empty"),
            (json!([{}, {}, {}, {}, {}]), "limit is 4"),
            (json!([1]), "messages[0] 1: give an object"),
            (json!([{ "content": "x" }]), "messages[0].role"),
            (json!([{ "role": "king", "content": "x" }]), "king"),
            (json!([{ "role": "user", "tool_calls": [{}] }]), "messages[0].tool_calls: only the assistant"),
            (
                json!([{ "role": "assistant", "tool_calls": [{}] }]),
                "messages[0].tool_calls[0].function is missing",
            ),
            (
                json!([{ "role": "assistant", "tool_calls": [{ "function": { "name": "f", "arguments": "x" } }] }]),
                "messages[0].tool_calls[0].function.arguments",
            ),
            (json!([{ "role": "user", "contents": "x" }]), "did you mean messages[0].content?"),
            (json!([{ "role": "user", "images": "x", "audio": {} , "image": 1}]), "messages[0].image"),
            (json!([assistant, assistant]), "two of the assistant"),
            (user(json!(5)), "messages[0].content 5"),
            (user(json!([5])), "messages[0].content[0] 5"),
            (user(json!([{ "type": "text" }])), "messages[0].content[0].text"),
            (user(json!([{ "type": "smell" }])), "smell"),
            (user(json!([{ "type": "image_url" }])), "image_url.url"),
            (user(json!([{ "type": "image_url", "image_url": { "url": 5 } }])), "image_url.url"),
            (user(json!([{ "type": "input_audio" }])), "audio"),
            (user(json!([{ "type": "video_url", "video_url": { "fps": 1, "url": "x" } }])), "video_url.fps"),
            (user(json!([{ "type": "input_video" }])), "input_video.data or url"),
            (user(json!(vec![json!({ "type": "video_url", "video_url": "x" }); 5])), "5 videos"),
            (user(json!(four)), "4 pictures, the limit is 3"),
            (user(json!("a text of more than twenty bytes")), "32 bytes of text, the limit is 20"),
        ] {
            let error = conversation(messages.clone()).unwrap_err().to_string();
            assert!(error.contains(part), "{messages}: {error}");
        }
    }
}
