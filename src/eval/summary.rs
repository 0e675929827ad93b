//! Records made into rows: accuracy with its interval, differences on the same questions, and what it cost.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::log::{Cost, Record};
use super::{Interval, Metric};
use crate::report::Spread;

/// One schedule over the whole set, or over one of its categories.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub schedule: String,
    /// Empty for the whole set.
    pub category: String,
    pub questions: usize,
    pub failures: usize,
    /// Mean mark of the questions that were answered, 0 to 1.
    pub accuracy: Interval,
    /// Against the first schedule, over the questions that both answered.
    pub difference: Interval,
    /// Medians over the questions.
    pub visual_tokens: f64,
    pub visual_tokens_deepest: f64,
    pub encoder_ms: f64,
    pub prefill_ms: f64,
    pub total_ms: f64,
    pub kv_bytes: f64,
}

/// A finished evaluation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    pub set: String,
    pub metric: Metric,
    /// Whole set first, schedule by schedule; then category by category.
    pub rows: Vec<Row>,
    /// MME's score of each schedule: 100 points each for questions and for pictures with both questions right, summed
    /// over the categories. Only for yes-or-no sets with categories.
    pub mme: Vec<(String, f64)>,
    /// Question, schedule and cause.
    pub failures: Vec<(String, String, String)>,
}

/// `schedules` in the order of the table; the first is what the others are compared with.
#[must_use]
pub fn summarise(set: &str, metric: Metric, schedules: &[String], records: &[Record]) -> Summary {
    let categories: BTreeSet<&str> = records.iter().map(|record| record.category.as_str()).collect();
    let mut rows = Vec::new();
    let mut parts: Vec<Option<&str>> = vec![None];
    if categories.len() > 1 {
        parts.extend(categories.iter().copied().map(Some));
    }
    for part in parts {
        let of = |schedule: &String| -> BTreeMap<&str, &Record> {
            records
                .iter()
                .filter(|r| r.schedule == *schedule && part.is_none_or(|category| r.category == category))
                .map(|r| (r.item.as_str(), r))
                .collect()
        };
        let base = schedules.first().map(of).unwrap_or_default();
        rows.extend(
            schedules.iter().map(|schedule| row(schedule, part.unwrap_or_default(), &base, &of(schedule))),
        );
    }
    let failures = records
        .iter()
        .filter_map(|r| Some((r.item.clone(), r.schedule.clone(), r.failure.clone()?)))
        .collect();
    let mme = if metric == Metric::YesNo && categories.len() > 1 {
        schedules.iter().map(|schedule| (schedule.clone(), mme(schedule, records))).collect()
    } else {
        Vec::new()
    };
    Summary { set: set.to_owned(), metric, rows, mme, failures }
}

fn row(schedule: &str, category: &str, base: &BTreeMap<&str, &Record>, own: &BTreeMap<&str, &Record>) -> Row {
    let marks: Vec<f64> = own.values().filter_map(|record| record.mark).collect();
    let (a, b): (Vec<f64>, Vec<f64>) =
        own.iter().filter_map(|(item, record)| Some((base.get(item)?.mark?, record.mark?))).unzip();
    let median = |figure: &dyn Fn(&Cost) -> f64| {
        Spread::of(own.values().filter_map(|record| record.cost.as_ref()).map(figure)).median
    };
    Row {
        schedule: schedule.to_owned(),
        category: category.to_owned(),
        questions: own.len(),
        failures: own.len() - marks.len(),
        accuracy: Interval::of(&marks),
        difference: Interval::of_differences(&a, &b),
        visual_tokens: median(&|cost| cost.tokens.visual_after_encoder.into()),
        visual_tokens_deepest: median(&|cost| {
            cost.tokens.visual_kv.last().map_or(0.0, |kv| kv.tokens.into())
        }),
        encoder_ms: median(&|cost| cost.ms.encoder),
        prefill_ms: median(&|cost| cost.ms.prefill),
        total_ms: median(&|cost| cost.ms.total),
        kv_bytes: median(&|cost| cost.bytes.kv as f64),
    }
}

/// Fu et al., 2023: in each category the share of right questions and the share of pictures with both right, times 100.
fn mme(schedule: &str, records: &[Record]) -> f64 {
    let mut pictures: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.schedule == schedule) {
        // The reader numbers the questions of one picture: "name#row".
        let picture = record.item.rsplit_once('#').map_or(record.item.as_str(), |(name, _)| name);
        pictures.entry((&record.category, picture)).or_default().push(record.mark.unwrap_or(0.0));
    }
    let mut categories: BTreeMap<&str, (f64, f64, f64, f64)> = BTreeMap::new();
    for ((category, _), marks) in &pictures {
        let sums = categories.entry(category).or_default();
        sums.0 += marks.iter().sum::<f64>();
        sums.1 += marks.len() as f64;
        sums.2 += f64::from(u8::from(marks.iter().all(|&mark| mark >= 1.0)));
        sums.3 += 1.0;
    }
    categories
        .values()
        .map(|(right, questions, both, pictures)| 100.0 * (right / questions + both / pictures))
        .sum()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::report::tests::example;

    pub fn record(schedule: &str, item: &str, category: &str, mark: Option<f64>) -> Record {
        let mut report = example();
        report.ms.total = 100.0;
        Record {
            schedule: schedule.into(),
            item: item.into(),
            category: category.into(),
            mark,
            answer: String::new(),
            failure: mark.is_none().then(|| "no such file".into()),
            cost: mark.map(|_| Cost { tokens: report.tokens, ms: report.ms, bytes: report.bytes }),
            logprobs: Vec::new(),
        }
    }

    #[test]
    fn differences_are_of_questions_both_answered() {
        let records = [
            record("off", "1", "a", Some(1.0)),
            record("off", "2", "a", Some(1.0)),
            record("off", "3", "b", Some(0.0)),
            record("paper", "1", "a", Some(0.0)),
            record("paper", "2", "a", None),
            record("paper", "3", "b", Some(0.0)),
        ];
        let summary = summarise("set", Metric::Exact, &["off".into(), "paper".into()], &records);
        let whole = &summary.rows[1];
        assert_eq!((whole.questions, whole.failures), (3, 1));
        assert!((whole.accuracy.mean - 0.0).abs() < 1e-9);
        assert!((whole.difference.mean + 0.5).abs() < 1e-9, "question 2 does not count");
        assert_eq!(summary.rows.len(), 6, "the whole and two categories of two schedules");
        assert_eq!(summary.failures, [("2".into(), "paper".into(), "no such file".into())]);
        assert!(summary.mme.is_empty());
    }

    #[test]
    fn mme_counts_questions_and_pictures() {
        // Category a: 3 of 4 right, 1 of 2 pictures; category b: all right.
        let records = [
            record("off", "p1#0", "a", Some(1.0)),
            record("off", "p1#1", "a", Some(1.0)),
            record("off", "p2#2", "a", Some(1.0)),
            record("off", "p2#3", "a", Some(0.0)),
            record("off", "p3#4", "b", Some(1.0)),
        ];
        let summary = summarise("mme", Metric::YesNo, &["off".into()], &records);
        assert_eq!(summary.mme, [("off".to_owned(), 75.0 + 50.0 + 200.0)]);
    }
}
