//! Options of a question, in the columns of public sets.

use super::row::Row;

/// Columns that hold a list, and whether a right answer in digits counts their options from 0.
const LISTS: [(&str, bool); 4] =
    [("options", true), ("option", true), ("candidates", false), ("choices", false)];
/// Text in the place of an option that is not there.
const NONE: [&str; 3] = ["", "nan", "N/A"];

/// Options of one question.
#[derive(Debug, Default)]
pub struct Options {
    pub texts: Vec<String>,
    /// Whether a right answer in digits is the number of an option, counted from 0.
    pub counted: bool,
}

pub fn options(row: &impl Row) -> Options {
    for (column, counted) in LISTS {
        let listed = row.texts(column);
        let texts = match listed.as_slice() {
            [text] if text.starts_with('[') => list_as_text(text),
            _ => listed,
        };
        if !texts.is_empty() {
            return Options { texts: without_letters(texts), counted };
        }
    }
    let by_name = |count: u8, name: &dyn Fn(u8) -> String| -> Vec<String> {
        (0..count)
            .map(|i| row.texts(&name(i)).into_iter().next().unwrap_or_default())
            .take_while(|text| !NONE.contains(&text.as_str()))
            .collect()
    };
    let names: [&dyn Fn(u8) -> String; 4] = [
        &|i| char::from(b'A' + i).to_string(),
        &|i| format!("choice_{}", char::from(b'a' + i)),
        &|i| format!("a{i}"),
        &|i| format!("option{i}"),
    ];
    let found = names.iter().map(|name| by_name(8, name)).find(|texts| !texts.is_empty());
    Options { texts: without_letters(found.unwrap_or_default()), counted: true }
}

/// Takes the letters off options that bring their own: "A. a dog", "(B) a cat".
fn without_letters(texts: Vec<String>) -> Vec<String> {
    let bare = |(letter, text): (char, &String)| -> Option<String> {
        let text = text.trim();
        let rest = match text.strip_prefix('(') {
            Some(rest) => rest.strip_prefix(letter)?.strip_prefix(')')?,
            None => text.strip_prefix(letter)?.strip_prefix(['.', ')', ':'])?,
        };
        Some(rest.trim().to_owned())
    };
    let stripped: Option<Vec<String>> = ('A'..='Z').zip(&texts).map(bare).collect();
    stripped.unwrap_or(texts)
}

/// Reads a Python list of strings, in either kind of quotes, or of numbers.
pub fn list_as_text(text: &str) -> Vec<String> {
    if !text.contains(['\'', '"']) {
        let inside = text.trim().trim_start_matches('[').trim_end_matches(']');
        return inside
            .split(',')
            .map(|part| part.trim().to_owned())
            .filter(|part| !part.is_empty())
            .collect();
    }
    let mut items = Vec::new();
    let mut rest = text.chars();
    while let Some(quote) = rest.find(|c| matches!(c, '\'' | '"')) {
        let mut item = String::new();
        while let Some(c) = rest.next() {
            match c {
                '\\' => item.extend(rest.next()),
                c if c == quote => break,
                c => item.push(c),
            }
        }
        items.push(item);
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_of_their_own_go() {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(without_letters(texts(&["A. dog", "B. cat"])), ["dog", "cat"]);
        assert_eq!(without_letters(texts(&["(A) dog", "(B) cat"])), ["dog", "cat"]);
        assert_eq!(without_letters(texts(&["A dog", "B. cat"])), ["A dog", "B. cat"]);
    }

    #[test]
    fn lists_as_text() {
        assert_eq!(list_as_text(r#"['it\'s', "x, y"]"#), ["it's", "x, y"]);
        assert_eq!(list_as_text("[3, 4]"), ["3", "4"]);
    }
}
