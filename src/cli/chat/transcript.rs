//! Conversation as a file.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::error::{Error, Kind, Result};
use crate::prompt::{Message, Part};

/// Writes `messages` to `path`, as OpenAI's messages if it ends in `.json`, else as Markdown. `names` are the
/// pictures' files, by number.
///
/// # Errors
/// [`Kind::File`] naming the file.
pub(super) fn save(path: &Path, messages: &[Message], names: &[String]) -> Result<()> {
    let as_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let text = match as_json {
        true => format!("{:#}\n", json(messages, names)),
        false => markdown(messages, names),
    };
    std::fs::write(path, text).map_err(|error| Error::new(Kind::File, format!("{}: {error}", path.display())))
}

fn name(names: &[String], number: usize) -> &str {
    names.get(number).map_or("picture", String::as_str)
}

fn json(messages: &[Message], names: &[String]) -> Value {
    let part = |part: &Part| match part {
        Part::Text(text) => Some(json!({ "type": "text", "text": text })),
        Part::Image(number) => {
            Some(json!({ "type": "image_url", "image_url": { "url": name(names, *number) } }))
        }
        // A chat has no tools.
        Part::Call(_) | Part::CallId(_) | Part::Thought(_) => None,
    };
    let message = |message: &Message| {
        let content = match message.parts.as_slice() {
            [Part::Text(text)] => json!(text),
            parts => parts.iter().filter_map(part).collect(),
        };
        json!({ "role": message.role.name(), "content": content })
    };
    messages.iter().map(message).collect()
}

fn markdown(messages: &[Message], names: &[String]) -> String {
    let mut out = String::new();
    for message in messages {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "**{}**\n", message.role.name());
        for part in &message.parts {
            let _ = match part {
                Part::Text(text) => writeln!(out, "{}\n", text.trim()),
                Part::Image(number) => writeln!(out, "![]({})\n", name(names, *number)),
                Part::Call(_) | Part::CallId(_) | Part::Thought(_) => Ok(()),
            };
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::Role;

    #[test]
    fn both_forms() {
        let messages = [
            Message { role: Role::User, parts: vec![Part::Image(0), Part::Text("What?".into())] },
            Message::text(Role::Assistant, " A cat."),
        ];
        let names = ["a b.png".to_owned()];
        assert_eq!(
            markdown(&messages, &names),
            "**user**\n\n![](a b.png)\n\nWhat?\n\n**assistant**\n\nA cat.\n\n"
        );
        let json = json(&messages, &names);
        assert_eq!(json[0]["content"][0]["image_url"]["url"], "a b.png");
        assert_eq!(json[1], json!({ "role": "assistant", "content": " A cat." }));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("talk.json");
        save(&path, &messages, &names).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap(), json);
        let error = save(&folder.path().join("none/talk.md"), &messages, &names).unwrap_err().to_string();
        assert!(error.contains("none/talk.md"), "{error}");
    }
}
