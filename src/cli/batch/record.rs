//! One line of input as a request, in our form or OpenAI's.

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::request::{Defaults, Fields, Reference, Reply, Request, json};

/// Line of input.
#[derive(Debug)]
pub(super) struct Line {
    /// Id as given, as far as it can be read. A line without an id has its number instead.
    pub id: Value,
    /// Whether the line is of OpenAI's batch files. Its answer then has OpenAI's form.
    pub openai: bool,
    pub record: Result<Record>,
}

/// Request whose pictures are not read yet.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    pub request: Request<Reference>,
    pub reply: Reply,
}

/// Returns an id as text, the same for every form of output.
pub(super) fn shown(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), str::to_owned)
}

pub(super) fn parse(line: &[u8], number: usize, defaults: &Defaults) -> Line {
    let bad = |error: Error| Error::new(error.kind(), format!("line {number}: {}", error.message()));
    let map = match json::object(line, defaults.bounds.json_depth) {
        Ok(map) => map,
        Err(error) => return Line { id: number.into(), openai: false, record: Err(bad(error)) },
    };
    let openai = map.contains_key("custom_id");
    let given = map.get(if openai { "custom_id" } else { "id" }).filter(|id| !id.is_null()).cloned();
    let id = given.clone().filter(|id| id.is_string() || id.is_number()).unwrap_or_else(|| number.into());
    let record = match given {
        Some(given) if given != id => Err(Error::usage("an id is a string or a number")),
        _ => body(map, openai).and_then(|map| record(map, defaults)),
    };
    Line { id, openai, record: record.map_err(bad) }
}

/// Reads a body as a record.
pub(super) fn record(body: Map<String, Value>, defaults: &Defaults) -> Result<Record> {
    let (request, reply) = json::read(body, defaults)?;
    if reply.choices > 1 {
        return Err(Error::usage("n: a line has one answer; leave it out"));
    }
    Ok(Record { request, reply })
}

/// Returns the body of a line: the whole line, or the body inside OpenAI's envelope.
fn body(map: Map<String, Value>, openai: bool) -> Result<Map<String, Value>> {
    if !openai {
        return Ok(map);
    }
    let mut envelope = Fields::new(map, "");
    let (_, method) = (envelope.value("custom_id"), envelope.text("method")?);
    if method.is_some_and(|method| method != "POST") {
        return Err(Error::usage("method: only POST is answered"));
    }
    if let Some(url) = envelope.text("url")?.filter(|url| !url.ends_with("/chat/completions")) {
        return Err(Error::usage(format!("url {url}: only /v1/chat/completions is answered")));
    }
    let body = envelope.value("body");
    envelope.all_read()?;
    match body {
        Some(Value::Object(body)) => Ok(body),
        _ => Err(Error::usage("body is missing: give the request as an object")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::prompt::{Message, Part, Role};
    use crate::request::Limits;

    fn defaults() -> Defaults {
        let limits = Limits { max_tokens: Some(9), ..Limits::default() };
        Defaults { limits, ..Defaults::default() }
    }

    fn request(line: &str) -> (Value, Request<Reference>) {
        let Line { id, record, .. } = parse(line.as_bytes(), 3, &defaults());
        (id, record.unwrap_or_else(|error| panic!("{line}: {error}")).request)
    }

    #[test]
    fn lines() {
        let image = Part::Image;
        let text = |text: &str| Part::Text(text.into());
        let user = |parts: Vec<Part>| Message { role: Role::User, parts };
        let cases: [(&str, Value, Vec<Message>, &[&str]); 7] = [
            (r#"{"prompt": "hi"}"#, 3.into(), vec![user(vec![text("hi")])], &[]),
            (
                r#"{"id": "x", "prompt": "hi", "image": "a.png", "images": ["/b.png"]}"#,
                "x".into(),
                vec![user(vec![image(0), image(1), text("hi")])],
                &["a.png", "/b.png"],
            ),
            (
                r#"{"id": 7, "prompt": "hi", "system": "be brief"}"#,
                7.into(),
                vec![Message::text(Role::System, "be brief"), user(vec![text("hi")])],
                &[],
            ),
            (
                r#"{"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image", "image": "p.png"}, {"type": "image_url", "image_url": {"url": "file:///q.png"}}]}, {"role": "assistant", "content": "b"}]}"#,
                3.into(),
                vec![user(vec![text("a"), image(0), image(1)]), Message::text(Role::Assistant, "b")],
                &["p.png", "file:///q.png"],
            ),
            (r#"{"id": null, "prompt": "hi"}"#, 3.into(), vec![user(vec![text("hi")])], &[]),
            ("\u{feff}{\"id\": 1, \"prompt\": \"hi\"}", 1.into(), vec![user(vec![text("hi")])], &[]),
            (
                r#"{"custom_id": "c", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "messages": [{"role": "user", "content": "hi"}]}}"#,
                "c".into(),
                vec![user(vec![text("hi")])],
                &[],
            ),
        ];
        for (line, id, messages, images) in cases {
            let (found, request) = request(line);
            assert_eq!((&found, &request.messages), (&id, &messages), "{line}");
            let images: Vec<_> = images.iter().map(|image| Reference::Image((*image).into())).collect();
            assert_eq!((request.media, request.limits.max_tokens), (images, Some(9)), "{line}");
        }
    }

    #[test]
    fn what_a_line_asks_for() {
        let (_, request) = request(
            r#"{"prompt": "hi", "video": "v.mp4", "merge": "paper", "keep": 0.5, "max_tokens": 3, "temperature": 0, "seed": 4, "stop": "x", "json_schema": {"type": "object"}}"#,
        );
        let merge = request.merge.unwrap();
        assert_eq!((merge.merge.unwrap().name(), merge.keep), ("paper", Some(0.5)));
        assert_eq!((request.limits.max_tokens, request.limits.stop), (Some(3), vec!["x".to_owned()]));
        assert_eq!((request.sampling.temperature, request.sampling.seed), (0.0, Some(4)));
        assert_eq!(request.media, [Reference::Video("v.mp4".into())]);
        assert!(request.grammar.is_some());
    }

    #[test]
    fn wrong_lines_keep_their_id() {
        for (line, id, part) in [
            ("{", Value::from(2), "line 2: not JSON"),
            (r#"{"id": "x"}"#, "x".into(), "messages is missing"),
            (r#"{"id": "x", "prompt": 1}"#, "x".into(), "line 2: prompt 1: give a text"),
            (r#"{"id": [], "prompt": "a"}"#, 2.into(), "an id is"),
            (r#"{"id": "x", "prompt": "a", "messages": []}"#, "x".into(), "not both"),
            (r#"{"id": "x", "prompt": "a", "merge": "most"}"#, "x".into(), "merge.preset most"),
            (r#"{"id": "x", "image": "a", "messages": []}"#, "x".into(), "stand in their content"),
            (r#"{"id": "x", "prompt": "a", "promt": "b"}"#, "x".into(), "did you mean prompt?"),
            (r#"{"id": "x", "prompt": "a", "n": 2}"#, "x".into(), "one answer"),
            (r#"{"custom_id": "c", "body": 1}"#, "c".into(), "body is missing"),
            (r#"{"custom_id": "c", "url": "/v1/embeddings", "body": {}}"#, "c".into(), "url /v1/embeddings"),
            (r#"{"custom_id": "c", "bdy": {}}"#, "c".into(), "did you mean body?"),
        ] {
            let Line { id: found, record, .. } = parse(line.as_bytes(), 2, &defaults());
            let error = record.unwrap_err();
            assert_eq!((found, error.kind()), (id, Kind::Usage), "{line}");
            assert!(error.to_string().contains(part), "{line}: {error}");
        }
    }
}
