//! Option that an answer means.

use std::sync::LazyLock;

use regex::Regex;

use super::{plain, words};

/// Last letter of a question whose options are not listed apart.
const LAST: char = 'H';
/// Words from which on an answer may name its option by the option's text.
const SENTENCE: usize = 3;

/// Whether `answer` means the option that `right` names, by its letter or its text. A right answer that is no
/// option is compared as words.
pub fn is_right(right: &str, answer: &str, options: &[String]) -> bool {
    match letter(right, options) {
        Some(right) => Some(right) == letter(answer, options),
        None => words(right) == words(answer),
    }
}

/// Returns the option that an answer means, as an upper-case letter: the option's own text, a letter after
/// "answer", at the start, in brackets or at the end; or the one option whose text stands in a sentence.
pub fn letter(answer: &str, options: &[String]) -> Option<char> {
    static LEADING: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"^\s*\(?([A-Za-z])(?:[\s).:,]|$)").ok());
    static NAMED: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"(?i:answer|option|choice)(?i:\s+is)?\s*:?\s*\(?([A-Z])(?:[^A-Za-z']|$)").ok()
    });
    static BRACKETS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\(([A-Z])\)").ok());
    static CLOSING: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r#"(?:^|[^A-Za-z'])([A-Z])\W*$"#).ok());
    let last = u8::try_from(options.len())
        .ok()
        .filter(|&n| n > 0)
        .map_or(LAST, |n| char::from(b'A' + n.min(26) - 1));
    let answer = answer.replace('*', "");
    let find = |pattern: &LazyLock<Option<Regex>>| {
        let found =
            pattern.as_ref()?.captures(&answer)?.get(1)?.as_str().chars().next()?.to_ascii_uppercase();
        (found <= last).then_some(found)
    };
    let whole = plain(&answer);
    let by_text = || {
        let number = options.iter().position(|option| plain(option) == whole)?;
        ('A'..='Z').nth(number)
    };
    let by_content = || {
        let said = format!(" {} ", words(&answer));
        let mut named = options.iter().enumerate().filter(|(_, option)| {
            let option = words(option);
            !option.is_empty() && said.contains(&format!(" {option} "))
        });
        let number = named.next()?.0;
        (named.next().is_none() && said.split_whitespace().count() >= SENTENCE)
            .then(|| ('A'..='Z').nth(number))
            .flatten()
    };
    // "A cat" begins with a letter and names no option by it: the option's text goes first.
    by_text()
        .or_else(|| find(&NAMED))
        .or_else(|| find(&LEADING))
        .or_else(|| find(&BRACKETS))
        .or_else(|| find(&CLOSING))
        .or_else(by_content)
}
