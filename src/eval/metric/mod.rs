//! Marks for answers, by each set's own metric.

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::Item;

/// Metric that gives a number from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The same words, apart from case, outer spaces and a closing full stop.
    Exact,
    /// The letter of an option, taken out of the answer.
    Choice,
    /// Average normalised Levenshtein similarity, 0 below one half (DocVQA, InfoVQA).
    Anls,
    /// Numbers within 5 %, words exactly (ChartQA).
    Relaxed,
    /// Yes or no, the first of them in the answer (MME, POPE).
    YesNo,
    /// Agreement with at least three of ten people (VQA v2, TextVQA).
    Vqa,
}

impl Metric {
    pub const ALL: [Self; 6] = [Self::Exact, Self::Choice, Self::Anls, Self::Relaxed, Self::YesNo, Self::Vqa];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Choice => "choice",
            Self::Anls => "anls",
            Self::Relaxed => "relaxed",
            Self::YesNo => "yes_no",
            Self::Vqa => "vqa",
        }
    }

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }

    /// Returns the mark of `answer` for `item`, 0 to 1.
    #[must_use]
    pub fn mark(self, item: &Item, answer: &str) -> f64 {
        let best =
            |mark: &dyn Fn(&str) -> f64| item.answers.iter().map(|right| mark(right)).fold(0.0, f64::max);
        match self {
            Self::Exact => best(&|right| f64::from(plain(right) == plain(answer))),
            Self::Choice => {
                let said = letter(answer, &item.options);
                best(&|right| f64::from(said.is_some() && said == letter(right, &item.options)))
            }
            Self::Anls => best(&|right| similarity(right, answer)),
            Self::Relaxed => best(&|right| f64::from(about(right, answer))),
            Self::YesNo => {
                best(&|right| f64::from(yes_no(right).is_some() && yes_no(right) == yes_no(answer)))
            }
            Self::Vqa => agreement(&item.answers, answer),
        }
    }
}

/// Instruction that makes an answer markable. It follows the sets' customs in our own words.
#[must_use]
pub fn instruction(metric: Metric) -> &'static str {
    match metric {
        Metric::Exact => "",
        Metric::Choice => "Reply with the letter of the right option only.",
        Metric::YesNo => "Reply with yes or no only.",
        Metric::Anls | Metric::Relaxed | Metric::Vqa => "Reply with one word or a short phrase only.",
    }
}

/// Returns the question as it is asked: with its options and the kind of answer that is wanted.
#[must_use]
pub fn prompt(item: &Item, instruction: &str) -> String {
    let mut text = item.question.trim().to_owned();
    for (letter, option) in ('A'..='Z').zip(&item.options) {
        text.push_str(&format!("\n{letter}. {option}"));
    }
    if !instruction.is_empty() {
        text.push('\n');
        text.push_str(instruction);
    }
    text
}

fn plain(text: &str) -> String {
    let text = text.trim().to_lowercase();
    text.strip_suffix('.').unwrap_or(&text).trim_end().to_owned()
}

/// Returns the option that an answer means, as an upper-case letter: alone or with a mark after it at the
/// start, after "answer", in brackets, or as the option's own text.
fn letter(answer: &str, options: &[String]) -> Option<char> {
    static LEADING: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"^\s*\(?([A-Za-z])(?:[\s).:,]|$)").ok());
    static NAMED: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"(?i:answer|option|choice)(?i:\s+is)?\s*:?\s*\(?([A-Z])\b").ok());
    static BRACKETS: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\(([A-Z])\)").ok());
    let last =
        u8::try_from(options.len()).ok().filter(|&n| n > 0).map_or('Z', |n| char::from(b'A' + n.min(26) - 1));
    let find = |pattern: &LazyLock<Option<Regex>>| {
        let found = pattern.as_ref()?.captures(answer)?.get(1)?.as_str().chars().next()?.to_ascii_uppercase();
        (found <= last).then_some(found)
    };
    let whole = plain(answer);
    let by_text = || {
        let number = options.iter().position(|option| plain(option) == whole)?;
        ('A'..='Z').nth(number)
    };
    // "A cat" begins with a letter and names no option by it: the option's text goes first.
    by_text().or_else(|| find(&NAMED)).or_else(|| find(&LEADING)).or_else(|| find(&BRACKETS))
}

/// ANLS of one right answer (Biten et al., 2019): 1 - distance / length of the longer, 0 below one half.
fn similarity(right: &str, answer: &str) -> f64 {
    let clean = |text: &str| text.trim().to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    let similarity = strsim::normalized_levenshtein(&clean(right), &clean(answer));
    if similarity > 0.5 { similarity } else { 0.0 }
}

/// ChartQA's relaxed accuracy (Masry et al., 2022): 5 % of the right number; a percentage is its number over
/// 100.
fn about(right: &str, answer: &str) -> bool {
    let number = |text: &str| -> Option<f64> {
        let text = text.trim().trim_end_matches('.').replace(',', "");
        match text.strip_suffix('%') {
            Some(share) => Some(share.trim().parse::<f64>().ok()? / 100.0),
            None => text.trim_start_matches('$').parse().ok(),
        }
    };
    match (number(right), number(answer)) {
        (Some(right), Some(answer)) if right != 0.0 => ((answer - right) / right).abs() <= 0.05,
        (Some(right), Some(answer)) => answer == right,
        _ => plain(right) == plain(answer),
    }
}

fn yes_no(text: &str) -> Option<bool> {
    text.split(|c: char| !c.is_alphanumeric()).find_map(|word| match word.to_lowercase().as_str() {
        "yes" | "true" => Some(true),
        "no" | "false" => Some(false),
        _ => None,
    })
}

/// VQA's soft accuracy (Antol et al., 2015): the mean, over leaving one person out, of min(1, agreeing others
/// / 3). If a set has one answer, it is right or wrong.
fn agreement(people: &[String], answer: &str) -> f64 {
    let clean = |text: &str| {
        let plain = plain(text).replace(|c: char| c.is_ascii_punctuation() && c != '\'' && c != '-', " ");
        plain
            .split_whitespace()
            .filter(|word| !matches!(*word, "a" | "an" | "the"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let said = clean(answer);
    let agrees: Vec<bool> = people.iter().map(|right| clean(right) == said).collect();
    let total = agrees.iter().filter(|&&agrees| agrees).count();
    if people.len() < 2 {
        return f64::from(u8::from(total > 0));
    }
    let marks = agrees.iter().map(|&own| ((total - usize::from(own)) as f64 / 3.0).min(1.0));
    marks.sum::<f64>() / people.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(answers: &[&str], options: &[&str]) -> Item {
        let own = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        Item { answers: own(answers), options: own(options), ..Item::default() }
    }

    #[test]
    fn marks() {
        let animals = ["A cat", "a dog", "two birds", "no animal"];
        // (metric, right answers, options, answer, mark)
        let cases: [(Metric, &[&str], &[&str], &str, f64); 30] = [
            (Metric::Exact, &["Two"], &[], " two. ", 1.0),
            (Metric::Exact, &["two"], &[], "two birds", 0.0),
            (Metric::Exact, &["grey", "gray"], &[], "Gray", 1.0),
            (Metric::Choice, &["B"], &animals, "B", 1.0),
            (Metric::Choice, &["B"], &animals, "b. a dog", 1.0),
            (Metric::Choice, &["B"], &animals, "(B)", 1.0),
            (Metric::Choice, &["B"], &animals, "The answer is B.", 1.0),
            (Metric::Choice, &["B"], &animals, "Answer: (B) since it barks", 1.0),
            (Metric::Choice, &["B"], &animals, "a dog", 1.0),
            (Metric::Choice, &["A"], &animals, "A cat", 1.0),
            (Metric::Choice, &["a dog"], &animals, "B", 1.0),
            (Metric::Choice, &["B"], &animals, "C", 0.0),
            (Metric::Choice, &["B"], &animals, "G", 0.0),
            (Metric::Choice, &["B"], &animals, "", 0.0),
            (Metric::Choice, &["B"], &animals, "I see (B) here", 1.0),
            (Metric::Anls, &["hello world"], &[], "Hello  World", 1.0),
            (Metric::Anls, &["abcd"], &[], "abce", 0.75),
            (Metric::Anls, &["abcd"], &[], "axyz", 0.0),
            (Metric::Anls, &["x", "abcd"], &[], "abcd", 1.0),
            (Metric::Relaxed, &["100"], &[], "104.9", 1.0),
            (Metric::Relaxed, &["100"], &[], "106", 0.0),
            (Metric::Relaxed, &["1,000"], &[], "$1000", 1.0),
            (Metric::Relaxed, &["0.5"], &[], "50%", 1.0),
            (Metric::Relaxed, &["Blue"], &[], "blue.", 1.0),
            (Metric::Relaxed, &["0"], &[], "0.01", 0.0),
            (Metric::YesNo, &["Yes"], &[], "yes, it is", 1.0),
            (Metric::YesNo, &["No"], &[], "Nothing known", 0.0),
            (Metric::YesNo, &["No"], &[], "It is not there: no.", 1.0),
            (Metric::Vqa, &["a cat"], &[], "Cat", 1.0),
            (Metric::Vqa, &["dog"], &[], "cat", 0.0),
        ];
        for (metric, right, options, answer, mark) in cases {
            let got = metric.mark(&item(right, options), answer);
            assert!((got - mark).abs() < 1e-9, "{metric:?} {right:?} {answer:?}: {got}");
        }
    }

    #[test]
    fn three_of_ten_people_make_it_right() {
        let people = |agreeing: usize| {
            let mut all = vec!["cat"; agreeing];
            all.resize(10, "dog");
            Metric::Vqa.mark(&item(&all, &[]), "cat")
        };
        // By hand for 2 of 10: leaving out an agreeing one leaves 1 (1/3, twice), another leaves 2 (2/3,
        // eight times).
        assert!((people(2) - (2.0 / 3.0 + 8.0 * 2.0 / 3.0) / 10.0).abs() < 1e-9);
        assert_eq!(people(0), 0.0);
        assert_eq!(people(4), 1.0);
    }

    #[test]
    fn names_come_back() {
        for metric in Metric::ALL {
            assert_eq!(Metric::named(metric.name()), Some(metric));
        }
    }

    #[test]
    fn prompts_show_the_options() {
        let item = Item { question: "What is it? ".into(), ..item(&[], &["cat", "dog"]) };
        assert_eq!(prompt(&item, "Letter only."), "What is it?\nA. cat\nB. dog\nLetter only.");
        assert_eq!(prompt(&Item { question: "Q".into(), ..Item::default() }, ""), "Q");
    }
}
