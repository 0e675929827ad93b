//! Calls of tools in an answer, found while it grows.

use serde_json::Value;

use super::tools::CallForm;

/// Piece of an answer: text, or part of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallUpdate {
    Text(String),
    /// Call number `index` of the answer begins.
    Begin {
        index: u32,
        id: String,
        name: String,
    },
    /// More of the arguments' JSON of call `index`.
    Arguments {
        index: u32,
        text: String,
    },
}

/// The longest head of a call, in bytes: its name and what stands before the arguments.
const LONGEST_HEAD: usize = 1024;

/// Takes an answer apart, piece by piece.
#[derive(Debug)]
pub struct CallParser {
    form: CallForm,
    state: State,
    /// Text that is not told yet.
    held: String,
    /// The mark that led into the head, if one did and it is text.
    mark: &'static str,
    calls: u32,
    said: bool,
    ids: fn() -> String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Text,
    /// Behind the opening: a call, or what separates calls.
    Head,
    /// Inside the arguments' object.
    Arguments(Scan),
    /// Behind the arguments: what closes the call.
    Tail,
}

/// How far JSON has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Scan {
    depth: u32,
    quoted: bool,
    escaped: bool,
}

impl Scan {
    /// Bytes of `text` up to the end of the object or list, if it ends there.
    fn end(&mut self, text: &str) -> Option<usize> {
        for (i, byte) in text.bytes().enumerate() {
            match (self.quoted, byte) {
                (true, _) if self.escaped => self.escaped = false,
                (true, b'\\') => self.escaped = true,
                (_, b'"') => self.quoted = !self.quoted,
                (false, b'{' | b'[') => self.depth += 1,
                (false, b'}' | b']') => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Some(i + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

impl CallParser {
    #[must_use]
    pub fn new(form: CallForm) -> Self {
        Self { form, state: State::Text, held: String::new(), mark: "", calls: 0, said: false, ids: new_id }
    }

    /// More of the answer.
    pub fn push(&mut self, text: &str) -> Vec<CallUpdate> {
        self.held.push_str(text);
        let mut updates = Vec::new();
        while self.step(&mut updates, false) {}
        updates
    }

    /// The answer is over: what was held back is text, or the rest of a call that was cut.
    pub fn finish(&mut self) -> Vec<CallUpdate> {
        let mut updates = Vec::new();
        while self.step(&mut updates, true) {}
        let rest = std::mem::take(&mut self.held);
        match self.state {
            State::Text => self.say(rest, &mut updates),
            // A head that became no call was text.
            State::Head if self.calls == 0 => self.say(format!("{}{rest}", self.mark), &mut updates),
            State::Head if !matches!(rest.trim(), "" | "]" | ",") => self.say(rest, &mut updates),
            State::Head | State::Arguments(_) | State::Tail => {}
        }
        self.state = State::Text;
        updates
    }

    /// One step on; false if more text is needed.
    fn step(&mut self, updates: &mut Vec<CallUpdate>, over: bool) -> bool {
        match self.state {
            State::Text => self.text(updates),
            State::Head => self.head(updates, over),
            State::Arguments(scan) => self.arguments(scan, updates),
            State::Tail => self.tail(),
        }
    }

    fn text(&mut self, updates: &mut Vec<CallUpdate>) -> bool {
        if self.held.is_empty() {
            return false;
        }
        let bare = !self.said && self.calls == 0;
        let first = self.held.trim_start().chars().next();
        // Calls of these forms may stand without their mark, as the whole answer.
        let whole = match self.form {
            CallForm::Llama => first == Some('{'),
            CallForm::Mistral => first == Some('['),
            CallForm::Hermes | CallForm::Told => false,
        };
        let mark = self.form.opening().unwrap_or("<|python_tag|>");
        if let Some(at) = self.held.find(mark) {
            let rest = self.held.split_off(at + mark.len());
            // Llama's is a token of the template, no text.
            self.mark = self.form.opening().unwrap_or_default();
            let before = std::mem::replace(&mut self.held, rest);
            // White space before a call belongs to neither.
            self.say(before[..at].trim_end().to_owned(), updates);
            self.state = State::Head;
            return true;
        }
        if bare && first.is_none() {
            return false;
        }
        let kept = (1..mark.len()).rev().find(|&n| self.held.ends_with(&mark[..n])).unwrap_or(0);
        if bare && whole && kept != self.held.trim_start().len() {
            self.mark = "";
            self.state = State::Head;
            return true;
        }
        let end = self.held[..self.held.len() - kept].trim_end().len();
        let told: String = self.held.drain(..end).collect();
        self.say(told, updates);
        false
    }

    fn say(&mut self, text: String, updates: &mut Vec<CallUpdate>) {
        if !text.is_empty() {
            self.said = true;
            updates.push(CallUpdate::Text(text));
        }
    }

    fn head(&mut self, updates: &mut Vec<CallUpdate>, over: bool) -> bool {
        let start = self.held.find('{');
        let skipped = |text: &str| text.chars().all(|c| c.is_whitespace() || matches!(c, '[' | ',' | ';'));
        let before = &self.held[..start.unwrap_or(self.held.len())];
        if !skipped(before) {
            return self.end_of_calls(updates);
        }
        let Some(start) = start else { return false };
        let object = &self.held[start..];
        match head(object, self.form.arguments()) {
            Head::Streams { name, at } => {
                self.begin(name, updates);
                self.held.drain(..start + at);
                self.state = State::Arguments(Scan::default());
                true
            }
            Head::Whole { name, arguments, end } => {
                let index = self.begin(name, updates);
                updates.push(CallUpdate::Arguments { index, text: arguments });
                self.held.drain(..start + end);
                // As if its last brace were still to come.
                self.held.insert(0, '}');
                self.state = State::Tail;
                true
            }
            Head::More if object.len() <= LONGEST_HEAD && !over => false,
            Head::More | Head::None => self.end_of_calls(updates),
        }
    }

    /// A failed call is text, and so is the rest.
    fn end_of_calls(&mut self, updates: &mut Vec<CallUpdate>) -> bool {
        let rest = std::mem::take(&mut self.held);
        let closing = rest.trim_start().trim_start_matches([']', ',']);
        let text = if self.calls > 0 { closing.to_owned() } else { format!("{}{rest}", self.mark) };
        self.state = State::Text;
        self.say(text, updates);
        false
    }

    fn begin(&mut self, name: String, updates: &mut Vec<CallUpdate>) -> u32 {
        let index = self.calls;
        self.calls += 1;
        updates.push(CallUpdate::Begin { index, id: (self.ids)(), name });
        index
    }

    fn arguments(&mut self, mut scan: Scan, updates: &mut Vec<CallUpdate>) -> bool {
        if self.held.is_empty() {
            return false;
        }
        let end = scan.end(&self.held);
        let text: String = match end {
            Some(end) => {
                let rest = self.held.split_off(end);
                std::mem::replace(&mut self.held, rest)
            }
            None => std::mem::take(&mut self.held),
        };
        updates.push(CallUpdate::Arguments { index: self.calls - 1, text });
        self.state = if end.is_some() { State::Tail } else { State::Arguments(scan) };
        end.is_some()
    }

    /// Behind the arguments: fields that follow (Mistral's id), the object's brace, and the form's closing mark.
    fn tail(&mut self) -> bool {
        let mut scan = Scan { depth: 1, ..Scan::default() };
        let Some(end) = scan.end(&self.held) else { return false };
        match self.form {
            CallForm::Hermes | CallForm::Told => {
                const CLOSING: &str = "</tool_call>";
                let rest = self.held[end..].trim_start();
                if let Some(behind) = rest.strip_prefix(CLOSING) {
                    self.held = behind.trim_start().to_owned();
                    self.state = State::Text;
                    return !self.held.is_empty();
                }
                if CLOSING.starts_with(rest) {
                    return false;
                }
                self.held.drain(..end);
                self.state = State::Text;
                true
            }
            CallForm::Mistral | CallForm::Llama => {
                self.held.drain(..end);
                self.state = State::Head;
                true
            }
        }
    }
}

enum Head {
    /// The arguments' object begins at byte `at`.
    Streams {
        name: String,
        at: usize,
    },
    /// The object is there as a whole and had to be: its name stands behind its arguments, or these are a
    /// text.
    Whole {
        name: String,
        arguments: String,
        end: usize,
    },
    More,
    /// No call.
    None,
}

/// The head of a call: `object` begins with a brace.
fn head(object: &str, arguments: &str) -> Head {
    // This order alone can be told before the object's end.
    let streams = (|| {
        let rest = object[1..].trim_start().strip_prefix("\"name\"")?;
        let rest = rest.trim_start().strip_prefix(':')?.trim_start();
        let mut names = serde_json::Deserializer::from_str(rest).into_iter::<String>();
        let name = names.next()?.ok()?;
        let rest = rest[names.byte_offset()..].trim_start().strip_prefix(',')?.trim_start();
        let rest = [arguments, "arguments", "parameters"]
            .iter()
            .find_map(|field| rest.strip_prefix(&format!("\"{field}\"")))?;
        let rest = rest.trim_start().strip_prefix(':')?.trim_start();
        rest.starts_with('{').then(|| Head::Streams { name, at: object.len() - rest.len() })
    })();
    if let Some(streams) = streams {
        return streams;
    }
    if let Some(end) = (Scan::default()).end(object) {
        let Ok(Value::Object(map)) = serde_json::from_str::<Value>(&object[..end]) else { return Head::None };
        let Some(name) = map.get("name").and_then(Value::as_str) else { return Head::None };
        let value = [arguments, "arguments", "parameters"].iter().find_map(|name| map.get(*name));
        let text = match value {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => "{}".to_owned(),
        };
        return Head::Whole { name: name.to_owned(), arguments: text, end };
    }
    let rest = object[1..].trim_start();
    if rest.is_empty() || rest.starts_with('"') { Head::More } else { Head::None }
}

/// Nine letters and digits, which every template takes.
fn new_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()[..9].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text and the calls of an answer that comes in pieces of `size` bytes.
    fn parse(form: CallForm, answer: &str, size: usize) -> (String, Vec<(String, String)>) {
        let mut parser = CallParser::new(form);
        let letters: Vec<char> = answer.chars().collect();
        let pieces = letters.chunks(size).flat_map(|piece| parser.push(&piece.iter().collect::<String>()));
        let mut updates: Vec<CallUpdate> = pieces.collect();
        updates.extend(parser.finish());
        let (mut text, mut calls) = (String::new(), Vec::<(String, String)>::new());
        for one in updates {
            match one {
                CallUpdate::Text(more) => text.push_str(&more),
                CallUpdate::Begin { index, name, id } => {
                    assert_eq!((index as usize, id.len()), (calls.len(), 9));
                    calls.push((name, String::new()));
                }
                CallUpdate::Arguments { index, text } => calls[index as usize].1.push_str(&text),
            }
        }
        (text, calls)
    }

    #[test]
    fn answers_in_pieces_of_any_size() {
        let call = |name: &str, arguments: &str| (name.to_owned(), arguments.to_owned());
        let brace = r#"{"a": "}\"{", "b": [1, {"c": 2}]}"#;
        let two = |before: &str| {
            format!(
                "{before}<tool_call>\n{{\"name\": \"f\", \"arguments\": {brace}}}\n</tool_call>\n<tool_call>\n{{\"name\": \"g\", \"arguments\": {{}}}}\n</tool_call>"
            )
        };
        let calls = vec![call("f", brace), call("g", "{}")];
        for (form, answer, text, calls) in [
            (CallForm::Hermes, "just <b>words</b> é".to_owned(), "just <b>words</b> é", vec![]),
            (CallForm::Hermes, two(""), "", calls.clone()),
            (CallForm::Told, two("I look é.\n"), "I look é.", calls.clone()),
            (CallForm::Hermes, "<tool_call>\nno call".into(), "<tool_call>\nno call", vec![]),
            (CallForm::Hermes, "a <tool".into(), "a <tool", vec![]),
            (
                CallForm::Hermes,
                r#"<tool_call>{"arguments": {"x": 1}, "name": "f"}</tool_call>"#.into(),
                "",
                vec![call("f", r#"{"x":1}"#)],
            ),
            (
                CallForm::Hermes,
                r#"<tool_call>{"name": "f", "arguments": "{\"x\": 1}"}</tool_call>"#.into(),
                "",
                vec![call("f", r#"{"x": 1}"#)],
            ),
            (
                CallForm::Llama,
                r#"{"name": "f", "parameters": {"x": 1}}"#.into(),
                "",
                vec![call("f", r#"{"x": 1}"#)],
            ),
            (
                CallForm::Llama,
                r#"<|python_tag|>{"name": "f", "parameters": {}}; {"name": "g", "parameters": {}}"#.into(),
                "",
                vec![call("f", "{}"), call("g", "{}")],
            ),
            (CallForm::Llama, "{not a call}".into(), "{not a call}", vec![]),
            (CallForm::Llama, r#"{"colour": "red"}"#.into(), r#"{"colour": "red"}"#, vec![]),
            (
                CallForm::Mistral,
                format!(
                    r#"[TOOL_CALLS] [{{"name": "f", "arguments": {brace}, "id": "abcdefghi"}}, {{"name": "g", "arguments": {{}}}}]"#
                ),
                "",
                calls.clone(),
            ),
            (CallForm::Mistral, r#"[{"name": "f", "arguments": {}}]"#.into(), "", vec![call("f", "{}")]),
            (CallForm::Mistral, "[1, 2] are".into(), "[1, 2] are", vec![]),
        ] {
            for size in [1, 2, 3, 5, 7, 1000] {
                let found = parse(form, &answer, size);
                assert_eq!((found.0.as_str(), &found.1), (text, &calls), "{form:?} {size}: {answer}");
            }
        }
    }

    #[test]
    fn a_call_that_is_cut_keeps_what_there_is() {
        let (text, calls) =
            parse(CallForm::Hermes, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": \"ab", 3);
        assert_eq!((text.as_str(), calls), ("", vec![("f".into(), "{\"x\": \"ab".into())]));
    }

    #[test]
    fn what_only_begins_like_a_call_is_text() {
        for (form, text) in [
            (CallForm::Mistral, "[\n"),
            (CallForm::Mistral, "[TOOL_CALLS]["),
            (CallForm::Hermes, "<tool_call>"),
            (CallForm::Hermes, "<tool_call>]"),
            (CallForm::Llama, "{ "),
        ] {
            let (found, calls) = parse(form, text, 3);
            assert_eq!((found.trim(), calls.len()), (text.trim(), 0), "{form:?} {text:?}");
        }
    }

    proptest::proptest! {
        /// Nothing an answer holds is lost, and nothing makes the parser stumble.
        #[test]
        fn text_comes_through(text in "[a-z<>{}\":,é\\[\\] \n/_]{0,60}", size in 1_usize..9) {
            for form in [CallForm::Hermes, CallForm::Llama, CallForm::Mistral, CallForm::Told] {
                let (found, calls) = parse(form, &text, size);
                if calls.is_empty() {
                    let bare = |text: &str| text.split_whitespace().collect::<String>();
                    proptest::prop_assert_eq!(bare(&found), bare(&text));
                }
            }
        }
    }
}
