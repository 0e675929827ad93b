//! A template's value as `json.dumps` of Python writes it.

use std::fmt::Write;

use minijinja::Value;
use minijinja::value::ValueKind;

/// Depth that Python's writer reaches before it gives up, in round numbers.
const MAX_DEPTH: usize = 128;

/// The arguments of `json.dumps`.
pub(super) struct Style {
    /// Whether letters beyond ASCII are escaped.
    pub ascii: bool,
    /// Indentation of one level; none for a single line.
    pub indent: Option<String>,
    /// Between items, and between a key and its value.
    pub separators: (String, String),
    pub sort_keys: bool,
}

/// # Errors
/// A value that JSON has no form for.
pub(super) fn dumps(value: &Value, style: &Style) -> Result<String, minijinja::Error> {
    let mut out = String::new();
    write_value(&mut out, value, style, 0)?;
    Ok(out)
}

fn write_value(out: &mut String, value: &Value, style: &Style, depth: usize) -> Result<(), minijinja::Error> {
    if depth > MAX_DEPTH {
        return Err(invalid(format!("tojson: more than {MAX_DEPTH} levels")));
    }
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&value.to_string()),
        ValueKind::String => write_string(out, value.as_str().unwrap_or_default(), style.ascii),
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter()?.checked().collect::<Result<Vec<_>, _>>()?;
            write_items(out, ('[', ']'), &items, style, depth, |out, item| {
                write_value(out, item, style, depth + 1)
            })?;
        }
        ValueKind::Map => {
            let mut keys = value.try_iter()?.checked().collect::<Result<Vec<_>, _>>()?;
            if style.sort_keys {
                keys.sort();
            }
            write_items(out, ('{', '}'), &keys, style, depth, |out, key| {
                let name = match key.kind() {
                    ValueKind::Bool | ValueKind::None => {
                        key.to_string().to_lowercase().replace("none", "null")
                    }
                    _ => key.to_string(),
                };
                write_string(out, &name, style.ascii);
                out.push_str(&style.separators.1);
                write_value(out, &value.get_item(key)?, style, depth + 1)
            })?;
        }
        kind => return Err(invalid(format!("tojson: a value of kind {kind} has no form in JSON"))),
    }
    Ok(())
}

fn write_items(
    out: &mut String,
    brackets: (char, char),
    items: &[Value],
    style: &Style,
    depth: usize,
    mut write: impl FnMut(&mut String, &Value) -> Result<(), minijinja::Error>,
) -> Result<(), minijinja::Error> {
    let line = |out: &mut String, depth: usize| {
        if let Some(indent) = &style.indent {
            out.push('\n');
            out.push_str(&indent.repeat(depth));
        }
    };
    out.push(brackets.0);
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push_str(&style.separators.0);
        }
        line(out, depth + 1);
        write(out, item)?;
    }
    if !items.is_empty() {
        line(out, depth);
    }
    out.push(brackets.1);
    Ok(())
}

fn write_string(out: &mut String, text: &str, ascii: bool) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            letter if letter < ' ' || (ascii && letter > '~') => {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
}
/// The error of a call that a template makes wrongly.
pub(super) fn invalid(message: String) -> minijinja::Error {
    minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, message)
}
