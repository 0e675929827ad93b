//! Rules of the sets that a judge marks: what it is asked, and how its reply is read.
//!
//! The rules are those of the sets' authors, in our own words: scales, what counts, and the form of the reply.

use std::sync::LazyLock;

use regex::Regex;

use crate::eval::{Item, Metric};

/// One question to the judge.
pub struct Question {
    /// Name of the aspect that is rated.
    pub aspect: &'static str,
    pub system: String,
    pub text: String,
}

/// Aspects of Video-ChatGPT, each with what it rates (Maaz et al., 2024).
const CORRECTNESS: (&str, &str) = (
    "correctness",
    "how far the prediction states the same facts as the right answer, without false or made-up ones",
);
const DETAIL: (&str, &str) =
    ("detail", "how completely and how specifically the prediction covers the points of the right answer");
const CONTEXT: (&str, &str) = (
    "context",
    "how well the prediction fits the video's overall content and theme, as the right answer tells it",
);
const TEMPORAL: (&str, &str) =
    ("temporal", "how well the prediction keeps the order of events of the right answer");
const CONSISTENCY: (&str, &str) = (
    "consistency",
    "how well two predictions, given to two wordings of one question, agree with each other and with the right answer",
);

/// Returns what the judge is asked about an answer.
pub fn questions(metric: Metric, item: &Item, answer: &str, again: Option<&str>) -> Vec<Question> {
    let right = item.answers.first().map_or("", String::as_str);
    match metric {
        Metric::MmVet => vec![correctness(item, right, answer)],
        Metric::ActivityNet => vec![matching(item, right, answer)],
        Metric::Llava => vec![comparison(item, right, answer)],
        Metric::Description => vec![rating(DETAIL, item, right, answer, None)],
        Metric::VideoChat => {
            let aspects: &[(&'static str, &str)] = match (item.category.as_str(), again) {
                ("temporal", _) => &[TEMPORAL],
                ("consistency", _) => &[CONSISTENCY],
                _ => &[CORRECTNESS, DETAIL, CONTEXT],
            };
            aspects.iter().map(|aspect| rating(*aspect, item, right, answer, again)).collect()
        }
        _ => Vec::new(),
    }
}

fn correctness(item: &Item, right: &str, answer: &str) -> Question {
    let right = right.replace("<AND>", " <AND> ").replace("<OR>", " <OR> ");
    Question {
        aspect: "correctness",
        system: "You grade answers about pictures that you do not see. You get a question, the right answer and a \
                 prediction. Reply with one number from 0.0 (wholly wrong) to 1.0 (wholly right) in steps of 0.1, \
                 and nothing else. <AND> joins parts that must all be in the prediction: each that is there earns its \
                 share. <OR> joins parts of which one is enough. Example: right answer \"2 <AND> 7\", prediction \
                 \"x is 7\": 0.5; prediction \"2 or 7\": 1.0; prediction \"3\": 0.0. An explanation is graded by the \
                 share of the right answer's points that it makes."
            .into(),
        text: format!("Question: {}\nRight answer: {right}\nPrediction: {answer}", item.question),
    }
}

fn matching(item: &Item, right: &str, answer: &str) -> Question {
    Question {
        aspect: "match",
        system:
            "You decide whether a prediction means the same as the right answer to a question about a video. \
                 Synonyms and other wordings count. Reply with one JSON object and nothing else: \
                 {\"pred\": \"yes\" or \"no\", \"score\": whole number from 0 to 5}, 5 for the best match."
                .into(),
        text: format!("Question: {}\nRight answer: {right}\nPrediction: {answer}", item.question),
    }
}

fn rating(
    (aspect, what): (&'static str, &str),
    item: &Item,
    right: &str,
    answer: &str,
    again: Option<&str>,
) -> Question {
    let mut text = format!("Question: {}\nRight answer: {right}\nPrediction: {answer}", item.question);
    if let (Some(other), Some(again)) = (&item.again, again) {
        text.push_str(&format!("\nQuestion in other words: {other}\nPrediction for it: {again}"));
    }
    Question {
        aspect,
        system: format!(
            "You rate predictions about videos that you do not see against a right answer: {what}. Synonyms and other \
             wordings count. Reply with one JSON object and nothing else: {{\"score\": whole number from 0 to 5}}, \
             5 for the best."
        ),
        text,
    }
}

/// LLaVA-Bench (Liu et al., 2023): the reference answer and the model's are rated beside each other.
fn comparison(item: &Item, reference: &str, answer: &str) -> Question {
    Question {
        aspect: "rating",
        system: "You rate two assistants' answers to a question about a picture that you do not see; sentences \
                 describe it. Consider helpfulness, relevance, accuracy and level of detail. The order of the answers \
                 must not matter. Reply with a first line that has only two numbers from 1 to 10 with a space between \
                 them: the rating of assistant 1, then that of assistant 2."
            .into(),
        text: format!(
            "Picture: {}\n\nQuestion: {}\n\nAssistant 1: {reference}\n\nAssistant 2: {answer}",
            item.context, item.question
        ),
    }
}

/// Reads the judge's reply: the mark of the answer, and that of the reference if both are rated, 0 to 1.
pub fn marks(metric: Metric, reply: &str) -> Option<(f64, Option<f64>)> {
    let within = |value: f64, most: f64| (0.0..=most).contains(&value).then_some(value / most);
    match metric {
        Metric::MmVet => Some((within(*numbers(reply).first()?, 1.0)?, None)),
        Metric::ActivityNet => {
            static PRED: LazyLock<Option<Regex>> =
                LazyLock::new(|| Regex::new(r#"(?i)pred['"]?\s*:\s*['"]?(yes|no)"#).ok());
            let found = PRED.as_ref()?.captures(reply).map(|found| found[1].to_lowercase());
            let said = match found {
                Some(word) => word == "yes",
                None => super::super::metric::yes_no(reply)?,
            };
            Some((f64::from(u8::from(said)), None))
        }
        Metric::Llava => {
            let [reference, answer] = numbers(reply.trim().lines().next()?).try_into().ok()?;
            Some((within(answer, 10.0)?, Some(within(reference, 10.0)?)))
        }
        Metric::Description | Metric::VideoChat => {
            static SCORE: LazyLock<Option<Regex>> =
                LazyLock::new(|| Regex::new(r#"(?i)score['"]*\s*:\s*['"]?(\d+(?:\.\d+)?)"#).ok());
            let found = SCORE.as_ref()?.captures(reply).and_then(|found| found[1].parse().ok());
            Some((within(found.or_else(|| numbers(reply).first().copied())?, 5.0)?, None))
        }
        _ => None,
    }
}

fn numbers(text: &str) -> Vec<f64> {
    static NUMBER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"-?\d+(?:\.\d+)?").ok());
    let found = NUMBER.iter().flat_map(|pattern| pattern.find_iter(text));
    found.filter_map(|number| number.as_str().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies() {
        for (metric, reply, mark) in [
            (Metric::MmVet, "0.5", Some((0.5, None))),
            (Metric::MmVet, "Correctness: 1.0", Some((1.0, None))),
            (Metric::MmVet, "7", None),
            (Metric::MmVet, "wholly right", None),
            (Metric::ActivityNet, "{'pred': 'yes', 'score': 4}", Some((1.0, None))),
            (Metric::ActivityNet, "```json\n{\"pred\": \"no\", \"score\": 0}\n```", Some((0.0, None))),
            (Metric::ActivityNet, "Yes.", Some((1.0, None))),
            (Metric::Llava, "8 7\nBoth are fine, the first in 3 ways.", Some((0.7, Some(0.8)))),
            (Metric::Llava, "8.5, 9", Some((0.9, Some(0.85)))),
            (Metric::Llava, "9", None),
            (Metric::Description, "{\"score\": 4}", Some((0.8, None))),
            (Metric::VideoChat, "{''score'': 3}", Some((0.6, None))),
            (Metric::VideoChat, "2", Some((0.4, None))),
            (Metric::VideoChat, "{\"score\": 6}", None),
        ] {
            assert_eq!(marks(metric, reply), mark, "{metric:?} {reply}");
        }
    }

    #[test]
    fn questions_hold_what_the_judge_needs() {
        let item = Item {
            question: "What happens?".into(),
            again: Some("What is going on?".into()),
            answers: vec!["a<AND>b".into()],
            category: "consistency".into(),
            context: "A street.".into(),
            ..Item::default()
        };
        let asked = |metric, item: &Item, again| questions(metric, item, "it rains", again);
        let both = &asked(Metric::VideoChat, &item, Some("rain falls"))[0];
        assert_eq!(both.aspect, "consistency");
        assert!(both.text.contains("rain falls") && both.text.contains("What is going on?"), "{}", both.text);
        assert!(asked(Metric::MmVet, &item, None)[0].text.contains("a <AND> b"));
        assert!(asked(Metric::Llava, &item, None)[0].text.starts_with("Picture: A street."));
        let generic = Item { category: "generic".into(), again: None, ..item };
        assert_eq!(asked(Metric::VideoChat, &generic, None).len(), 3);
        for metric in Metric::ALL {
            assert_eq!(asked(metric, &generic, None).is_empty(), !metric.is_judged(), "{metric:?}");
        }
    }
}
