//! Prompts that no template touches: texts, token ids, both mixed, and several of them in one body.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fields::{Fields, whole, wrong};
use super::{Defaults, Reference, Reply, Request, json, messages};
use crate::error::{Error, Result};

/// Prompts in one body.
const MOST_PROMPTS: usize = 8;
/// Mark of a picture in a prompt's text, as in llama.cpp.
pub const MEDIA: &str = "<__media__>";

/// A stretch of a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Raw {
    /// Special tokens count.
    Text(String),
    Tokens(Vec<i32>),
    /// A picture, by its number in the request.
    Image(usize),
}

impl Raw {
    /// The token ids that were given as such.
    #[must_use]
    pub fn tokens(&self) -> &[i32] {
        if let Raw::Tokens(tokens) = self { tokens } else { &[] }
    }
}

/// The prompts of a body as texts, to be shown again.
#[must_use]
pub fn shown(body: &Fields) -> Vec<String> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Object(map) => map.get("prompt_string").and_then(Value::as_str).unwrap_or_default().to_owned(),
        other => other.to_string(),
    };
    match body.peek("prompt") {
        Some(Value::Array(items)) if is_several(items) => items.iter().map(text).collect(),
        Some(one) => vec![text(one)],
        None => Vec::new(),
    }
}

/// A list of prompts, and not one prompt of several pieces: those have a number among them.
fn is_several(items: &[Value]) -> bool {
    !items.is_empty() && !items.iter().any(Value::is_number)
}

/// A body with `prompt` as a request for each prompt. The fields beside it are those of every other body.
///
/// # Errors
/// As [`json::read`].
pub fn read(mut body: Fields, defaults: &Defaults) -> Result<(Vec<Request<Reference>>, Reply)> {
    let beside = body.texts("image_data")?.into_iter().chain(body.texts("images")?).flatten();
    let beside: Vec<Reference> = beside.map(|image| Reference::Image(messages::inline(image))).collect();
    let prompts = match body.value("prompt") {
        None => return Err(Error::usage("prompt is missing: give a text, token ids, or a list of them")),
        Some(Value::Array(items)) if is_several(&items) => items,
        Some(one) => vec![one],
    };
    if prompts.len() > MOST_PROMPTS {
        return Err(Error::usage(format!(
            "prompt: {} prompts, the limit is {MOST_PROMPTS}; send fewer",
            prompts.len()
        )));
    }
    if prompts.len() > 1 && !beside.is_empty() {
        return Err(Error::usage("images: several prompts have pictures of their own (multimodal_data)"));
    }
    let (settings, reply) = json::settings(body, defaults, (Vec::new(), Vec::new()))?;
    let requests = prompts.into_iter().map(|value| {
        let mut media = beside.clone();
        let raw = one(value, &mut media)?;
        let request = Request { raw, media, ..settings.clone() };
        check(&request, defaults).map(|()| request)
    });
    Ok((requests.collect::<Result<_>>()?, reply))
}

fn check(request: &Request<Reference>, defaults: &Defaults) -> Result<()> {
    let texts = request.raw.iter().map(|part| match part {
        Raw::Text(text) => text.clone(),
        // No token is sent as less than a digit and a comma.
        Raw::Tokens(tokens) => " ".repeat(2 * tokens.len()),
        Raw::Image(_) => String::new(),
    });
    let text = crate::prompt::Message::text(crate::prompt::Role::User, texts.collect::<String>());
    messages::check(&(vec![text], request.media.clone()), &defaults.bounds)
}

fn one(value: Value, media: &mut Vec<Reference>) -> Result<Vec<Raw>> {
    let given = media.len();
    let parts = match value {
        Value::String(text) => pieces(&text, media, given),
        Value::Array(items) => {
            let mut parts: Vec<Raw> = Vec::new();
            for item in items {
                match (item, parts.last_mut()) {
                    (Value::String(text), _) => parts.push(Raw::Text(text)),
                    (id, last) => {
                        let id = whole(&id).and_then(|id| i32::try_from(id).ok()).ok_or_else(|| bad(&id))?;
                        if let Some(Raw::Tokens(tokens)) = last {
                            tokens.push(id);
                        } else {
                            parts.push(Raw::Tokens(vec![id]));
                        }
                    }
                }
            }
            Ok(parts)
        }
        Value::Object(map) => {
            let mut object = Fields::new(map, "prompt.");
            let text = object.text("prompt_string")?.unwrap_or_default();
            let shown = object.texts("multimodal_data")?.unwrap_or_default();
            media.extend(shown.into_iter().map(|image| Reference::Image(messages::inline(image))));
            object.all_read()?;
            let all = media.len();
            pieces(&text, media, all)
        }
        other => return Err(bad(&other)),
    }?;
    if parts.is_empty() { Err(Error::usage("prompt is empty: give a text or token ids")) } else { Ok(parts) }
}

fn bad(value: &Value) -> Error {
    wrong("prompt", value, "a text, token ids, a list of both, or {\"prompt_string\", \"multimodal_data\"}")
}

/// A text cut at the places of `count` pictures; pictures without a place stand before it.
fn pieces(text: &str, media: &[Reference], count: usize) -> Result<Vec<Raw>> {
    let places = text.matches(MEDIA).count();
    if places > count || (places > 0 && places < count) {
        return Err(Error::usage(format!(
            "prompt: {places} places for pictures ({MEDIA}) and {count} pictures; give as many"
        )));
    }
    let mut parts: Vec<Raw> =
        if places == 0 { (0..media.len()).map(Raw::Image).collect() } else { Vec::new() };
    for (i, piece) in text.split(MEDIA).enumerate() {
        if i > 0 {
            parts.push(Raw::Image(i - 1));
        }
        if !piece.is_empty() {
            parts.push(Raw::Text(piece.to_owned()));
        }
    }
    Ok(parts)
}

/// As [`messages::place`].
pub(super) fn place(parts: &mut Vec<Raw>, counts: &[usize]) {
    let first = |n: usize| counts[..n].iter().sum::<usize>();
    *parts = std::mem::take(parts)
        .into_iter()
        .flat_map(|part| match part {
            Raw::Image(n) => (first(n)..first(n) + counts[n]).map(Raw::Image).collect(),
            other => vec![other],
        })
        .collect();
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn prompts(body: Value) -> Result<Vec<Vec<Raw>>> {
        let Value::Object(map) = body else { panic!("no object") };
        let (requests, _) = read(Fields::new(map, ""), &Defaults::default())?;
        Ok(requests.into_iter().map(|request| request.raw).collect())
    }

    #[test]
    fn forms() {
        let text = |text: &str| Raw::Text(text.into());
        for (prompt, expected) in [
            (json!("a"), vec![vec![text("a")]]),
            (json!([1, 2]), vec![vec![Raw::Tokens(vec![1, 2])]]),
            (json!(["a", 1, 2, "b"]), vec![vec![text("a"), Raw::Tokens(vec![1, 2]), text("b")]]),
            (json!(["a", "b"]), vec![vec![text("a")], vec![text("b")]]),
            (json!([[1], "b"]), vec![vec![Raw::Tokens(vec![1])], vec![text("b")]]),
            (
                json!({ "prompt_string": "see <__media__>?", "multimodal_data": ["x"] }),
                vec![vec![text("see "), Raw::Image(0), text("?")]],
            ),
        ] {
            assert_eq!(prompts(json!({ "prompt": prompt })).unwrap(), expected, "{prompt}");
        }
        let pictures = prompts(json!({ "prompt": "what?", "images": ["x"] })).unwrap();
        assert_eq!(pictures, [[Raw::Image(0), text("what?")]]);
    }

    #[test]
    fn what_is_none() {
        for (body, part) in [
            (json!({}), "prompt is missing"),
            (json!({ "prompt": "" }), "empty"),
            (json!({ "prompt": [] }), "empty"),
            (json!({ "prompt": 5 }), "prompt 5: give a text"),
            (json!({ "prompt": [1.5, 1] }), "prompt 1.5"),
            (json!({ "prompt": "<__media__>" }), "1 places"),
            (json!({ "prompt": vec!["a"; 9] }), "9 prompts"),
            (json!({ "prompt": "a", "temprature": 1 }), "did you mean temperature"),
        ] {
            let error = prompts(body.clone()).unwrap_err().to_string();
            assert!(error.contains(part), "{body}: {error}");
        }
    }
}
