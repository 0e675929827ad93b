//! Methods of Python's strings and lists that published templates call and minijinja-contrib lacks.

use minijinja::value::{ValueKind, from_args};
use minijinja::{Error, State, Value};

use super::json::invalid;

/// Longest text that padding makes.
const MAX_WIDTH: usize = 1 << 20;

/// The callback for methods that minijinja does not know.
pub(super) fn python_method(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let found = match value.kind() {
        ValueKind::String => string_method(value.as_str().unwrap_or_default(), method, args)?,
        ValueKind::Seq if method == "index" => Some(index_of(value, args)?),
        _ => None,
    };
    match found {
        Some(found) => Ok(found),
        None => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn index_of(value: &Value, args: &[Value]) -> Result<Value, Error> {
    let (wanted,): (Value,) = from_args(args)?;
    for (i, item) in value.try_iter()?.checked().enumerate() {
        if item? == wanted {
            return Ok(Value::from(i));
        }
    }
    Err(invalid(format!("{wanted} is not in the list")))
}

fn string_method(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let swapped = |letter: char| -> String {
        if letter.is_uppercase() { letter.to_lowercase().collect() } else { letter.to_uppercase().collect() }
    };
    Ok(Some(match method {
        "removeprefix" | "removesuffix" => {
            let (part,): (&str,) = from_args(args)?;
            let cut =
                if method == "removeprefix" { text.strip_prefix(part) } else { text.strip_suffix(part) };
            Value::from(cut.unwrap_or(text))
        }
        "partition" | "rpartition" => {
            let (part,): (&str,) = from_args(args)?;
            if part.is_empty() {
                return Err(invalid(format!("{method}: empty separator")));
            }
            let cut = if method == "partition" { text.split_once(part) } else { text.rsplit_once(part) };
            let parts = match (cut, method) {
                (Some((before, after)), _) => [before, part, after],
                (None, "partition") => [text, "", ""],
                (None, _) => ["", "", text],
            };
            parts.into_iter().map(Value::from).collect()
        }
        "rsplit" => {
            let (separator, most): (Option<&str>, Option<i64>) = from_args(args)?;
            Value::from(rsplit(text, separator, most.and_then(|most| usize::try_from(most).ok())))
        }
        "index" | "rindex" => {
            let (part,): (&str,) = from_args(args)?;
            let at = if method == "index" { text.find(part) } else { text.rfind(part) };
            let at = at.ok_or_else(|| invalid("substring not found".to_owned()))?;
            Value::from(text[..at].chars().count())
        }
        "ljust" | "rjust" | "center" | "zfill" => Value::from(padded(text, method, args)?),
        "swapcase" => {
            let () = from_args(args)?;
            Value::from(text.chars().map(swapped).collect::<String>())
        }
        "casefold" => {
            let () = from_args(args)?;
            Value::from(text.to_lowercase())
        }
        _ => return Ok(None),
    }))
}

fn rsplit(text: &str, separator: Option<&str>, most: Option<usize>) -> Vec<String> {
    let limit = most.unwrap_or(usize::MAX);
    let mut parts = Vec::new();
    let mut rest = if separator.is_none() { text.trim_end() } else { text };
    while parts.len() < limit {
        let cut = match separator {
            Some(separator) => rest.rsplit_once(separator),
            None => rest.rsplit_once(char::is_whitespace).map(|(before, after)| (before.trim_end(), after)),
        };
        let Some((before, after)) = cut else { break };
        parts.push(after.to_owned());
        rest = before;
    }
    if separator.is_some() || !rest.is_empty() {
        parts.push(rest.to_owned());
    }
    parts.reverse();
    parts
}

fn padded(text: &str, method: &str, args: &[Value]) -> Result<String, Error> {
    let (width, fill): (usize, Option<char>) = from_args(args)?;
    if width > MAX_WIDTH {
        return Err(invalid(format!("{method}: {width} letters are more than {MAX_WIDTH}")));
    }
    let missing = width.saturating_sub(text.chars().count());
    let pad = |count: usize| String::from(fill.unwrap_or(' ')).repeat(count);
    Ok(match method {
        "ljust" => format!("{text}{}", pad(missing)),
        "rjust" => format!("{}{text}", pad(missing)),
        "center" => {
            // Python's own rule for the odd one.
            let left = missing / 2 + (missing & width & 1);
            format!("{}{text}{}", pad(left), pad(missing - left))
        }
        _ => {
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['-', '+'])));
            format!("{sign}{}{digits}", "0".repeat(missing))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Right-hand sides are Python's.
    #[test]
    fn methods() {
        let mut environment = minijinja::Environment::new();
        environment.set_unknown_method_callback(python_method);
        for (call, printed) in [
            ("'a-b-c'.rsplit('-', 1)", "['a-b', 'c']"),
            ("' a  b '.rsplit()", "['a', 'b']"),
            ("'abc'.rsplit('-')", "['abc']"),
            ("'a-b-c'.partition('-')[2]", "b-c"),
            ("'a-b-c'.rpartition('-')[0]", "a-b"),
            ("'abc'.rpartition('-')[2]", "abc"),
            ("'abc'.removeprefix('a').removesuffix('c')", "b"),
            ("'ab'.center(5, '.')", "..ab."),
            ("'abc'.center(6, '.')", ".abc.."),
            ("'ab'.ljust(4) + 'x'.rjust(2)", "ab   x"),
            ("'-7'.zfill(4)", "-007"),
            ("'aBc'.swapcase()", "AbC"),
            ("'abcb'.index('b')", "1"),
            ("[5, 6].index(6)", "1"),
            ("'abc'.upper()", "ABC"),
        ] {
            let rendered = environment.render_str(&format!("{{{{ {call} }}}}"), ());
            assert_eq!(rendered.expect(call), printed, "{call}");
        }
        for call in ["'abc'.index('x')", "[1].index(2)", "'a'.ljust(99999999999)", "'a'.partition('')"] {
            assert!(environment.render_str(&format!("{{{{ {call} }}}}"), ()).is_err(), "{call}");
        }
    }
}
