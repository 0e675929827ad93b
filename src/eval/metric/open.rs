//! MMMU's rule for open questions (Yue et al., 2024): the closing words of a sentence, and the numbers in
//! them.

use std::sync::LazyLock;

use regex::Regex;

/// Words after which an answer stands.
const KEYS: [&str; 8] = ["could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result "];

/// A candidate, or a right answer: a number of two decimals, or text in lower case.
#[derive(Debug, PartialEq)]
enum Said {
    Number(f64),
    Text(String),
}

/// Whether one of the candidates of `answer` is the right number, or holds the right words.
pub fn is_right(right: &str, answer: &str) -> bool {
    let wanted = normal(right);
    candidates(answer).iter().any(|said| match said {
        Said::Number(_) => wanted.contains(said),
        Said::Text(text) => {
            wanted.iter().any(|wanted| matches!(wanted, Said::Text(wanted) if text.contains(wanted)))
        }
    })
}

fn candidates(answer: &str) -> Vec<Said> {
    let whole = answer.trim().trim_matches('.').to_lowercase();
    let lines: Vec<&str> = whole.split('\n').collect();
    let mut closing: Vec<&str> = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        // Only the last line may be an equation.
        let equals = (i + 1 == lines.len()).then_some("=");
        let tails = KEYS.into_iter().chain(equals).filter_map(|key| Some(line.rsplit_once(key)?.1.trim()));
        let shortest = tails.filter(|tail| !tail.is_empty()).min_by_key(|tail| tail.chars().count());
        closing.extend(shortest.filter(|tail| ![":", ",", ".", "!", "?", ";", "'"].contains(tail)));
    }
    if closing.is_empty() {
        closing.push(&whole);
    }
    let numbers = closing.iter().flat_map(|tail| numbers(tail));
    closing.iter().map(|tail| (*tail).to_owned()).chain(numbers).flat_map(|text| normal(&text)).collect()
}

/// Returns the numbers of a text: with thousands between commas, in scientific notation, and plain.
fn numbers(text: &str) -> Vec<String> {
    static COMMAS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"-?\b\d{1,3}(?:,\d{3})+\b").ok());
    static SCIENTIFIC: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"-?\d+(?:\.\d+)?[eE][+-]?\d+").ok());
    static PLAIN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"-?(?:\d+\.\d+|\.\d+|\d+\b)").ok());
    let all = |pattern: &LazyLock<Option<Regex>>| -> Vec<(usize, String)> {
        let found = pattern.iter().flat_map(|pattern| pattern.find_iter(text));
        found.map(|found| (found.end(), found.as_str().to_owned())).collect()
    };
    // A plain number is no part of one in the other forms.
    let is_whole = |end: usize| {
        let rest = &text[end..];
        let exponent = rest.strip_prefix(['e', 'E']).map(|rest| rest.trim_start_matches(['+', '-']));
        !rest.starts_with(|c: char| c == ',' || c.is_ascii_digit())
            && !exponent.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let plain = all(&PLAIN).into_iter().filter(|(end, _)| is_whole(*end));
    all(&COMMAS).into_iter().chain(all(&SCIENTIFIC)).chain(plain).map(|(_, text)| text).collect()
}

/// Returns the number that a text is, or its words. A single letter needs a space beside it.
fn normal(text: &str) -> Vec<Said> {
    let text = text.trim();
    if let Ok(number) = text.replace(',', "").parse::<f64>() {
        return vec![Said::Number((number * 100.0).round() / 100.0)];
    }
    let text = text.to_lowercase();
    match text.chars().count() {
        1 => vec![Said::Text(format!(" {text}")), Said::Text(format!("{text} "))],
        _ => vec![Said::Text(text)],
    }
}
