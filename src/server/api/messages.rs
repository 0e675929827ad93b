//! Messages of a request: texts, pictures and videos in the order they were given.

use serde_json::{Map, Value};

use super::super::error::{ApiError, ApiResult};
use super::super::settings::Bounds;
use crate::prompt::{self, Part, Role};

/// As it arrives.
pub type Message = Map<String, Value>;

/// Something to look at, as it was referred to: a URL or base64.
#[derive(Debug, PartialEq, Eq)]
pub enum Reference {
    Image(String),
    Video(String),
}

/// The conversation, what it shows still references.
#[derive(Debug, PartialEq)]
pub struct Conversation {
    pub messages: Vec<prompt::Message>,
    /// `Part::Image(n)` is `references[n]`.
    pub references: Vec<Reference>,
}

/// Numbers pictures anew where references became none, one or several of them: `counts[n]` for reference n.
pub fn place(messages: &mut [prompt::Message], counts: &[usize]) {
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

/// # Errors
/// 400 that names the message and its part.
pub fn conversation(messages: Vec<Message>, bounds: &Bounds) -> ApiResult<Conversation> {
    if messages.is_empty() {
        return Err(ApiError::invalid("messages is empty: ask something"));
    }
    if messages.len() > bounds.messages {
        return Err(ApiError::invalid(format!(
            "messages has {} entries, the limit is {}",
            messages.len(),
            bounds.messages
        )));
    }
    let mut out = Conversation { messages: Vec::with_capacity(messages.len()), references: Vec::new() };
    let mut bytes = 0;
    for (i, mut message) in messages.into_iter().enumerate() {
        let at = format!("messages[{i}]");
        let role = role(&message, &at)?;
        let parts = parts(message.remove("content"), &at, &mut out.references)?;
        let videos = out.references.iter().filter(|one| matches!(one, Reference::Video(_))).count();
        for (count, most, what) in [
            (out.references.len() - videos, bounds.images, "pictures (--max-images)"),
            (videos, bounds.videos, "videos (--max-videos)"),
        ] {
            if count > most {
                return Err(ApiError::invalid(format!("the request has more than {most} {what}")));
            }
        }
        bytes +=
            parts.iter().map(|part| if let Part::Text(text) = part { text.len() } else { 0 }).sum::<usize>();
        if bytes > bounds.prompt_bytes {
            return Err(ApiError::invalid(format!(
                "the conversation has more than {} bytes of text (--max-prompt-bytes); shorten it",
                bounds.prompt_bytes
            )));
        }
        out.messages.push(prompt::Message { role, parts });
    }
    Ok(out)
}

fn role(message: &Message, at: &str) -> ApiResult<Role> {
    let calls = message
        .get("tool_calls")
        .is_some_and(|calls| !calls.is_null() && calls.as_array().is_none_or(|calls| !calls.is_empty()));
    if calls {
        return Err(ApiError::invalid(format!("{at}.tool_calls: tools are not supported by this server")));
    }
    match message.get("role").and_then(Value::as_str) {
        Some("system" | "developer") => Ok(Role::System),
        Some("user") => Ok(Role::User),
        Some("assistant") => Ok(Role::Assistant),
        Some("tool" | "function") => Err(ApiError::invalid(format!(
            "{at}.role: tools are not supported by this server; use system, user or assistant"
        ))),
        Some(other) => Err(ApiError::invalid(format!(
            "{at}.role: `{}` is none; use system, user or assistant",
            other.chars().take(40).collect::<String>()
        ))),
        None => Err(ApiError::invalid(format!("{at}.role is missing; use system, user or assistant"))),
    }
}

fn parts(content: Option<Value>, at: &str, references: &mut Vec<Reference>) -> ApiResult<Vec<Part>> {
    match content {
        None | Some(Value::Null) => Ok(vec![Part::Text(String::new())]),
        Some(Value::String(text)) => Ok(vec![Part::Text(text)]),
        Some(Value::Array(parts)) => parts
            .into_iter()
            .enumerate()
            .map(|(i, value)| part(value, &format!("{at}.content[{i}]"), references))
            .collect(),
        Some(_) => Err(ApiError::invalid(format!("{at}.content: give a text or a list of parts"))),
    }
}

fn part(mut value: Value, at: &str, references: &mut Vec<Reference>) -> ApiResult<Part> {
    let kind = value.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    match kind.as_str() {
        "text" | "refusal" => match value.get_mut(&kind).map(Value::take) {
            Some(Value::String(text)) => Ok(Part::Text(text)),
            _ => Err(ApiError::invalid(format!("{at}.{kind}: give a text"))),
        },
        "image_url" => {
            let url = url(&mut value, "image_url", &["url"], at)?;
            references.push(Reference::Image(url));
            Ok(Part::Image(references.len() - 1))
        }
        // The first is what OpenAI's form would be, the second llama.cpp's.
        "video_url" | "input_video" => {
            let fields = if kind == "video_url" { &["url"][..] } else { &["data", "url"] };
            let url = url(&mut value, &kind, fields, at)?;
            references.push(Reference::Video(url));
            Ok(Part::Image(references.len() - 1))
        }
        "input_audio" => Err(ApiError::invalid(format!("{at}: no audio is understood; leave it out"))),
        "" => Err(ApiError::invalid(format!("{at}.type is missing; use text, image_url or video_url"))),
        other => Err(ApiError::invalid(format!(
            "{at}.type: `{}` is none; use text, image_url or video_url",
            other.chars().take(40).collect::<String>()
        ))),
    }
}

/// The reference in the object `name`, under the first of `fields` that is there; some clients send the bare text.
fn url(value: &mut Value, name: &str, fields: &[&str], at: &str) -> ApiResult<String> {
    let found = match value.get_mut(name).map(Value::take) {
        Some(Value::Object(mut object)) => {
            fields.iter().find_map(|field| object.remove(*field).filter(|value| !value.is_null()))
        }
        other => other,
    };
    match found {
        Some(Value::String(url)) => Ok(url),
        _ => Err(ApiError::invalid(format!(
            "{at}.{name}.{}: give a data:, http(s) or file URL",
            fields.join(" or ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(messages: Value) -> Result<Conversation, (u64, String)> {
        let bounds = Bounds { images: 3, videos: 4, prompt_bytes: 20, messages: 4, ..Bounds::default() };
        conversation(serde_json::from_value(messages).unwrap(), &bounds).map_err(|error| {
            let body = error.body();
            (body["code"].as_u64().unwrap(), body["message"].as_str().unwrap().to_owned())
        })
    }

    #[test]
    fn texts_and_pictures_keep_their_order() {
        let image = |url: &str| json!({ "type": "image_url", "image_url": { "url": url, "detail": "low" } });
        let text = |text: &str| json!({ "type": "text", "text": text, "extra": 1 });
        let found = read(json!([
            { "role": "developer", "content": "brief" },
            { "role": "user", "content": [image("a"), text("one"), image("b"), image("c"), text("two")] },
            { "role": "assistant", "content": null },
        ]))
        .unwrap();
        assert_eq!(found.references, ["a", "b", "c"].map(|url| Reference::Image(url.into())));
        assert_eq!(found.messages[0], prompt::Message::text(Role::System, "brief"));
        assert_eq!(
            found.messages[1].parts,
            [
                Part::Image(0),
                Part::Text("one".into()),
                Part::Image(1),
                Part::Image(2),
                Part::Text("two".into())
            ]
        );
        assert_eq!(found.messages[2], prompt::Message::text(Role::Assistant, ""));
    }

    #[test]
    fn a_bare_url_is_taken_too() {
        let found = read(json!([{ "role": "user", "content": [{ "type": "image_url", "image_url": "x" }] }]));
        assert_eq!(found.unwrap().references, [Reference::Image("x".into())]);
    }

    #[test]
    fn videos_in_each_form() {
        let video = |url: &str| Reference::Video(url.into());
        let found = read(json!([{ "role": "user", "content": [
            { "type": "video_url", "video_url": { "url": "a", "fps": 1 } },
            { "type": "video_url", "video_url": "b" },
            { "type": "image_url", "image_url": { "url": "c" } },
            { "type": "input_video", "input_video": { "data": "d", "format": "mp4" } },
            { "type": "input_video", "input_video": { "data": null, "url": "e" } },
        ] }]))
        .unwrap();
        assert_eq!(
            found.references,
            [video("a"), video("b"), Reference::Image("c".into()), video("d"), video("e")]
        );
        assert_eq!(found.messages[0].parts, [0, 1, 2, 3, 4].map(Part::Image));
    }

    #[test]
    fn references_become_pictures() {
        let text = || Part::Text("and".into());
        let message = |parts| prompt::Message { role: Role::User, parts };
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
        for (messages, code, part) in [
            (json!([]), 400, "empty"),
            (json!([{}, {}, {}, {}, {}]), 400, "limit is 4"),
            (json!([{ "content": "x" }]), 400, "messages[0].role"),
            (json!([{ "role": "king", "content": "x" }]), 400, "king"),
            (json!([{ "role": "tool", "content": "x" }]), 400, "tools are not supported"),
            (json!([{ "role": "assistant", "tool_calls": [{}] }]), 400, "messages[0].tool_calls"),
            (user(json!(5)), 400, "messages[0].content"),
            (user(json!([5])), 400, "messages[0].content[0].type"),
            (user(json!([{ "type": "text" }])), 400, "messages[0].content[0].text"),
            (user(json!([{ "type": "smell" }])), 400, "smell"),
            (user(json!([{ "type": "image_url" }])), 400, "image_url.url"),
            (user(json!([{ "type": "image_url", "image_url": { "url": 5 } }])), 400, "image_url.url"),
            (user(json!([{ "type": "input_audio" }])), 400, "audio"),
            (user(json!([{ "type": "video_url", "video_url": { "data": "x" } }])), 400, "video_url.url"),
            (user(json!([{ "type": "input_video" }])), 400, "input_video.data or url"),
            (user(json!([{ "type": "input_video", "input_video": { "url": 5 } }])), 400, "data or url"),
            (user(json!(vec![json!({ "type": "video_url", "video_url": "x" }); 5])), 400, "--max-videos"),
            (user(json!(four)), 400, "--max-images"),
            (user(json!("a text of more than twenty bytes")), 400, "--max-prompt-bytes"),
        ] {
            let (status, message) = read(messages).unwrap_err();
            assert!(status == code && message.contains(part), "{status} {message}");
        }
    }
}
