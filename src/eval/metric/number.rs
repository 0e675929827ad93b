//! Numbers in answers: ChartQA's 5 % and MathVista's digits.

use std::sync::LazyLock;

use regex::Regex;

use super::{choice, plain};
use crate::eval::Item;

/// ChartQA's relaxed accuracy (Masry et al., 2022): 5 % of the right number; a percentage is its number over
/// 100.
pub fn about(right: &str, answer: &str) -> bool {
    match (number(right), number(answer)) {
        (Some(right), Some(answer)) if right != 0.0 => ((answer - right) / right).abs() <= 0.05,
        (Some(right), Some(answer)) => answer == right,
        _ => plain(right) == plain(answer),
    }
}

fn number(text: &str) -> Option<f64> {
    let text = text.trim().trim_end_matches('.').replace(',', "");
    match text.strip_suffix('%') {
        Some(share) => Some(share.trim().parse::<f64>().ok()? / 100.0),
        None => text.trim_start_matches('$').parse().ok(),
    }
}

/// MathVista's rule (Lu et al., 2024) for one right answer. An option is meant by its letter or the most
/// similar text. A number is the whole answer or the last one in it, cut to a whole one or rounded to the
/// item's digits. Anything else is compared as text.
pub fn is_solved(item: &Item, right: &str, answer: &str) -> bool {
    if !item.options.is_empty() {
        let said = choice::letter(answer, &item.options).or_else(|| nearest(answer, &item.options));
        return said.is_some() && said == choice::letter(right, &item.options);
    }
    let Ok(wanted) = right.trim().parse::<f64>() else { return plain(right) == plain(answer) };
    let Some(said) = last_number(answer) else { return false };
    match item.precision {
        Some(digits) => format!("{said:.digits$}").parse() == Ok(wanted),
        None if wanted.fract() == 0.0 && !right.contains('.') => said.trunc() == wanted,
        None => said == wanted,
    }
}

fn nearest(answer: &str, options: &[String]) -> Option<char> {
    let distance = |option: &String| strsim::levenshtein(answer, option);
    let number = (0..options.len()).min_by_key(|&i| distance(&options[i]))?;
    ('A'..='Z').nth(number)
}

fn last_number(text: &str) -> Option<f64> {
    static NUMBER: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"-?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?").ok());
    let text = text.replace(',', "");
    text.trim().parse().ok().or_else(|| NUMBER.as_ref()?.find_iter(&text).last()?.as_str().parse().ok())
}
