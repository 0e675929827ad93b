//! Marks for answers, by each set's own metric.

mod caption;
mod choice;
mod number;
mod open;
mod people;

use serde::{Deserialize, Serialize};

use super::Item;

pub use caption::Corpus;

/// Metric that gives a number from 0 to 1; CIDEr's reaches 10.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Rating from 0 to 1 by a judge, elements joined by `<AND>` and `<OR>` (MM-Vet).
    #[serde(rename = "mmvet")]
    MmVet,
    /// Share of a reference answer's rating, by a judge (LLaVA-Bench in the wild).
    Llava,
    /// Aspects rated from 0 to 5 by a judge (Video-ChatGPT).
    #[serde(rename = "videochatgpt")]
    VideoChat,
    /// Detail rated from 0 to 5 by a judge (VideoDC).
    #[serde(rename = "videodc")]
    Description,
    /// Yes or no by a judge (ActivityNet-QA).
    #[serde(rename = "activitynet")]
    ActivityNet,
    /// CIDEr-D of a caption against people's captions (NoCaps, Flickr30k).
    Cider,
    /// MathVista's: an option, a whole number, or a number of so many digits.
    Math,
    /// Average normalised Levenshtein similarity, 0 below one half (DocVQA, InfoVQA).
    Anls,
    /// Agreement with at least three of ten people (VQA v2, TextVQA).
    Vqa,
    /// Numbers within 5 %, words exactly (ChartQA).
    Relaxed,
    /// The letter of an option, taken out of the answer.
    Choice,
    /// A right answer within the answer's closing words or numbers (MMMU's open questions).
    Open,
    /// The same words, apart from case and punctuation (GQA).
    Words,
    /// Yes or no, the first of them in the answer (MME, POPE).
    YesNo,
    /// The same words, apart from case, outer spaces and a closing full stop.
    Exact,
}

impl Metric {
    pub const ALL: [Self; 15] = [
        Self::Exact,
        Self::Words,
        Self::Choice,
        Self::Open,
        Self::Anls,
        Self::Relaxed,
        Self::Math,
        Self::YesNo,
        Self::Vqa,
        Self::Cider,
        Self::MmVet,
        Self::ActivityNet,
        Self::VideoChat,
        Self::Description,
        Self::Llava,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Words => "words",
            Self::Choice => "choice",
            Self::Open => "open",
            Self::Anls => "anls",
            Self::Relaxed => "relaxed",
            Self::Math => "math",
            Self::YesNo => "yes_no",
            Self::Vqa => "vqa",
            Self::Cider => "cider",
            Self::MmVet => "mmvet",
            Self::ActivityNet => "activitynet",
            Self::VideoChat => "videochatgpt",
            Self::Description => "videodc",
            Self::Llava => "llava",
        }
    }

    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }

    /// Whether a judge model marks the answers.
    #[must_use]
    pub fn is_judged(self) -> bool {
        matches!(self, Self::MmVet | Self::ActivityNet | Self::VideoChat | Self::Description | Self::Llava)
    }

    /// Returns the number of tokens that an answer of this kind needs at most.
    #[must_use]
    pub fn longest_answer(self) -> u32 {
        match self {
            Self::MmVet | Self::VideoChat | Self::Description | Self::Llava => 512,
            Self::Cider | Self::ActivityNet | Self::Math | Self::Open => 64,
            _ => 32,
        }
    }

    /// Returns the mark of `answer` for `item`, 0 to 1; 0 for a metric that needs a judge. `captions` are
    /// those of the whole set, for CIDEr.
    #[must_use]
    pub fn mark(self, item: &Item, answer: &str, captions: Option<&Corpus>) -> f64 {
        let best =
            |mark: &dyn Fn(&str) -> f64| item.answers.iter().map(|right| mark(right)).fold(0.0, f64::max);
        match self {
            Self::Exact => best(&|right| f64::from(plain(right) == plain(answer))),
            Self::Words => best(&|right| f64::from(words(right) == words(answer))),
            Self::Choice => best(&|right| f64::from(choice::is_right(right, answer, &item.options))),
            Self::Open => best(&|right| f64::from(open::is_right(right, answer))),
            Self::Anls => best(&|right| similarity(right, answer)),
            Self::Relaxed => best(&|right| f64::from(number::about(right, answer))),
            Self::Math => best(&|right| f64::from(number::is_solved(item, right, answer))),
            Self::YesNo => {
                best(&|right| f64::from(yes_no(right).is_some() && yes_no(right) == yes_no(answer)))
            }
            Self::Vqa => people::agreement(&item.answers, answer),
            Self::Cider => captions.map_or(0.0, |captions| captions.cider(&item.answers, answer)),
            Self::MmVet | Self::ActivityNet | Self::VideoChat | Self::Description | Self::Llava => 0.0,
        }
    }
}

fn plain(text: &str) -> String {
    let text = text.trim().to_lowercase();
    text.strip_suffix('.').unwrap_or(&text).trim_end().to_owned()
}

/// Returns the text in lower case without punctuation. Points and commas within numbers stay.
fn words(text: &str) -> String {
    let letters: Vec<char> = text.to_lowercase().chars().collect();
    let is_digit = |i: usize| letters.get(i).is_some_and(char::is_ascii_digit);
    let stays = |i: usize| match letters[i] {
        '.' | ',' => i > 0 && is_digit(i - 1) && is_digit(i + 1),
        '-' => is_digit(i + 1) && (i == 0 || letters[i - 1].is_whitespace()),
        letter => !letter.is_ascii_punctuation(),
    };
    let kept: String = (0..letters.len()).filter(|&i| stays(i)).map(|i| letters[i]).collect();
    kept.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// ANLS of one right answer (Biten et al., 2019), as the public evaluators count it: 1 - distance / length of
/// the longer, 0 below one half.
fn similarity(right: &str, answer: &str) -> f64 {
    let clean = |text: &str| text.trim().to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    let similarity = strsim::normalized_levenshtein(&clean(right), &clean(answer));
    if similarity >= 0.5 { similarity } else { 0.0 }
}

pub(super) fn yes_no(text: &str) -> Option<bool> {
    text.split(|c: char| !c.is_alphanumeric()).find_map(|word| match word.to_lowercase().as_str() {
        "yes" | "true" => Some(true),
        "no" | "false" => Some(false),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One case of `tests/fixtures/eval/marks.json`.
    #[derive(Deserialize)]
    struct Case {
        metric: Metric,
        answers: Vec<String>,
        options: Vec<String>,
        precision: Option<usize>,
        answer: String,
        mark: f64,
    }

    /// Marks by another account: `tools/public_sets/marks.py`.
    #[test]
    fn marks_are_those_of_the_reference() {
        let text = std::fs::read_to_string("tests/fixtures/eval/marks.json").unwrap();
        let cases: Vec<Case> = serde_json::from_str(&text).unwrap();
        assert!(cases.len() > 100);
        for metric in Metric::ALL {
            let there = cases.iter().any(|case| case.metric == metric);
            assert_eq!(there, !metric.is_judged() && metric != Metric::Cider, "{metric:?}");
        }
        for case in cases {
            let item = Item {
                answers: case.answers,
                options: case.options,
                precision: case.precision,
                ..Item::default()
            };
            let got = case.metric.mark(&item, &case.answer, None);
            assert!(
                (got - case.mark).abs() < 1e-9,
                "{:?} {item:?} {:?}: {got}, not {}",
                case.metric,
                case.answer,
                case.mark
            );
        }
    }

    #[test]
    fn names_come_back() {
        for metric in Metric::ALL {
            assert_eq!(Metric::named(metric.name()), Some(metric));
            assert_eq!(serde_json::to_value(metric).unwrap(), metric.name());
        }
    }
}
