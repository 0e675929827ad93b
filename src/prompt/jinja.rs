//! The Jinja that transformers renders chat templates with, on minijinja.
//!
//! `transformers.utils.chat_template_utils` sets `trim_blocks` and `lstrip_blocks`, adds the `generation` tag and
//! loop controls, and gives templates `raise_exception`, `strftime_now` and a `tojson` of its own.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, ErrorKind, Value};

use super::json::{self, invalid};
use super::python_methods::python_method;

/// Instructions one rendering may take: a thousand times those of a long conversation.
const FUEL: u64 = 5_000_000;

type Rendered = std::result::Result<Value, minijinja::Error>;

/// An environment that bounds a template's time and recursion.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(64);
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    minijinja_contrib::add_to_environment(&mut environment);
    environment.set_unknown_method_callback(python_method);
    environment.add_function("raise_exception", |message: String| -> Rendered {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", |format: String| strftime(&format));
    environment.add_filter("tojson", tojson);
    environment
}

/// The local time in the notation of C's `strftime`.
fn strftime(format: &str) -> Rendered {
    use std::fmt::Write;
    let mut out = String::new();
    match write!(out, "{}", chrono::Local::now().format(format)) {
        Ok(()) => Ok(Value::from(out)),
        Err(_) => Err(invalid(format!("strftime_now: {format} is no format of a date"))),
    }
}

/// `json.dumps` with the arguments that transformers passes on.
fn tojson(value: &Value, given: Option<Value>, kwargs: Kwargs) -> Rendered {
    let ascii = match given {
        Some(first) => first.is_true(),
        None => kwargs.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
    };
    let indent = kwargs.get::<Option<Value>>("indent")?.filter(|value| !value.is_none());
    let indent = match indent {
        None => None,
        Some(value) if value.kind() == ValueKind::String => Some(value.to_string()),
        Some(value) => Some(" ".repeat(usize::try_from(value).unwrap_or(0).min(64))),
    };
    let separators = kwargs.get::<Option<Value>>("separators")?.filter(|value| !value.is_none());
    let separators = match separators {
        // Before a line break, Python leaves out the space behind a comma.
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
        Some(pair) => {
            let part = |i: usize| pair.get_item(&Value::from(i)).map(|part| part.to_string());
            (part(0)?, part(1)?)
        }
    };
    let sort_keys = kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    kwargs.assert_all_used()?;
    let style = json::Style { ascii, indent, separators, sort_keys };
    json::dumps(value, &style).map(Value::from)
}

/// `source` with `{% generation %}` blocks, which only mark the text that is trained on, as scopes of their own.
///
/// Tags in comments, strings and `raw` blocks stay as they are, and so do the marks of whitespace control.
pub(super) fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    let mut raw = false;
    while let Some(at) = rest.find("{{").into_iter().chain(rest.find("{%")).chain(rest.find("{#")).min() {
        let (text, from) = rest.split_at(at);
        out.push_str(text);
        let kind = from.as_bytes()[1];
        let length = match kind {
            b'#' if !raw => from.find("#}").map_or(from.len(), |end| end + 2),
            b'%' => tag_length(from, raw),
            b'{' if !raw => tag_length(from, false),
            _ => 2,
        };
        let (tag, after) = from.split_at(length);
        match (kind, statement(tag)) {
            (b'%', Some("raw")) => raw = true,
            (b'%', Some("endraw")) => raw = false,
            _ => {}
        }
        match (kind, raw, statement(tag)) {
            (b'%', false, Some("generation")) => out.push_str(&tag.replacen("generation", "with", 1)),
            (b'%', false, Some("endgeneration")) => {
                out.push_str(&tag.replacen("endgeneration", "endwith", 1));
            }
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Bytes of the tag that `from` begins with, its end looked for outside of strings and brackets. In a `raw` block
/// nothing but its end is a tag.
fn tag_length(from: &str, raw: bool) -> usize {
    if raw && statement(from.split_inclusive("%}").next().unwrap_or_default()) != Some("endraw") {
        return 2;
    }
    let end = if from.starts_with("{%") { b'%' } else { b'}' };
    let bytes = from.as_bytes();
    let (mut i, mut depth, mut quote) = (2, 0_u32, None);
    while i < bytes.len() {
        match (quote, bytes[i]) {
            (Some(_), b'\\') => i += 1,
            (Some(open), byte) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, byte @ (b'"' | b'\'')) => quote = Some(byte),
            (None, b'(' | b'[' | b'{') => depth += 1,
            (None, byte) if depth == 0 && byte == end && bytes.get(i + 1) == Some(&b'}') => return i + 2,
            (None, b')' | b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        i += 1;
    }
    from.len()
}

/// The name of a `{% name %}` without arguments.
fn statement(tag: &str) -> Option<&str> {
    let inside = tag.strip_prefix("{%")?.strip_suffix("%}")?;
    let inside = inside.strip_prefix(['-', '+']).unwrap_or(inside);
    Some(inside.strip_suffix(['-', '+']).unwrap_or(inside).trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str) -> std::result::Result<String, String> {
        let source = without_generation_tags(source);
        environment()
            .template_from_str(&source)
            .and_then(|template| template.render(minijinja::context! { text => " x ", list => [1, 2] }))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn generation_blocks_are_transparent() {
        for (source, rendered) in [
            ("a{% generation %}b{{ text }}{% endgeneration %}c", "ab x c"),
            ("a {%- generation -%} b {%- endgeneration -%} c", "abc"),
            ("a\n  {%generation%}\nb\n  {% endgeneration +%}\nc", "a\nb\n\nc"),
            ("{# {% generation %} #}a", "a"),
            ("{{ '{% generation %}' }}", "{% generation %}"),
            ("{{ {'a': {'b': '}}{% generation %}'}}.a.b }}", "}}{% generation %}"),
            ("{% raw %}{% generation %}{{ {% endraw %}b", "{% generation %}{{ b"),
            ("{% if '%}{% generation %}' == \"\\\"\" %}{% endif %}b", "b"),
            // A scope, as the call block is that transformers makes of it.
            ("{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}", "21"),
            (
                "{% for i in list %}{% generation %}{{ loop.index }}{{ i }}{% endgeneration %}{% endfor %}",
                "1122",
            ),
        ] {
            assert_eq!(render(source).as_deref(), Ok(rendered), "{source}");
        }
        for source in ["{% generation %}a", "a{% endgeneration %}", "{% generation %}a{% endif %}"] {
            assert!(render(source).is_err(), "{source}");
        }
    }

    #[test]
    fn filters_and_functions_of_transformers() {
        for (source, rendered) in [
            ("{{ {'b': [1, true], 'a': none} | tojson }}", r#"{"b": [1, true], "a": null}"#),
            (
                "{{ {'b': 1, 'a': 'é<'} | tojson(sort_keys=true, ensure_ascii=true) }}",
                "{\"a\": \"\\u00e9<\", \"b\": 1}",
            ),
            (
                "{{ {'a': [1, 2], 'c': {}} | tojson(indent=2) }}",
                "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"c\": {}\n}",
            ),
            ("{{ [1, 2] | tojson(separators=(',', ':')) }}", "[1,2]"),
            ("{% for i in list %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "1"),
            ("{{ strftime_now('%Y') | length }}", "4"),
            ("{{ [true, none, 'a'] }}", "[True, None, 'a']"),
            ("{{ (list + [3])[::-1] | join('-') }}", "3-2-1"),
            ("{{ text.strip() }}{{ text | trim }}{{ 'a,b'.rsplit(',', 1)[1] }}", "xxb"),
        ] {
            assert_eq!(render(source).as_deref(), Ok(rendered), "{source}");
        }
        assert!(render("{{ strftime_now('%Q%') }}").is_err());
    }
}
