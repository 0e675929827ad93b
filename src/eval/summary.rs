//! Rows made from records: accuracy with its interval, differences on the same questions, and costs.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::log::{Cost, Record};
use super::scores::{self, Score};
use super::{Interval, Set};
use crate::report::{Spread, digits};
use crate::schedule::Subject;

/// Set and schedules of an evaluation.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub model: &'a str,
    pub set: &'a Set,
    /// Schedules in the order of the table. The first is the one that the others are compared with.
    pub subjects: &'a [Subject],
    /// Judge that marked the answers, if one did.
    pub judge: Option<&'a str>,
}

/// One schedule over the whole set, or over one of its categories. Figures have the digits of the file of rows: tables
/// and plots made from it are those of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub schedule: String,
    /// Strategy of the schedule; empty if it merges nothing.
    pub strategy: String,
    /// Category; empty for the whole set.
    pub category: String,
    /// Questions of the set, or of the category.
    pub asked: usize,
    /// Questions that were tried: all of them, unless the run was interrupted.
    pub questions: usize,
    pub failures: usize,
    /// Mean mark of the questions that were answered, 0 to 1.
    pub accuracy: Interval,
    /// Difference to the first schedule, over the questions that both answered.
    pub difference: Interval,
    /// Number of these questions.
    pub compared: usize,
    /// Medians over the questions.
    pub visual_tokens: f64,
    pub visual_tokens_deepest: f64,
    pub encoder_ms: f64,
    pub prefill_ms: f64,
    pub total_ms: f64,
    pub kv_bytes: f64,
    /// Weights, KV cache and compute buffers.
    #[serde(default)]
    pub memory_bytes: f64,
    /// Seconds of all answers together.
    #[serde(default)]
    pub seconds: f64,
}

impl Row {
    /// Returns the number of questions that have a mark.
    #[must_use]
    pub fn marked(&self) -> usize {
        self.questions - self.failures
    }
}

/// Evaluation, finished or as far as it came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub model: String,
    pub set: String,
    /// Names of the metrics, joined by `+`.
    pub metric: String,
    /// Judge that marked the answers; left out without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<String>,
    /// Rows of the whole set first, schedule by schedule; then category by category.
    pub rows: Vec<Row>,
    /// Scores of the set's own kind beside the accuracy.
    #[serde(default)]
    pub scores: Vec<Score>,
    /// Failures: question, schedule and cause.
    pub failures: Vec<(String, String, String)>,
}

/// Makes the rows of the answers so far.
#[must_use]
pub fn summarise(asked: &Asked, records: &[Record]) -> Summary {
    let Asked { model, set, subjects, judge } = *asked;
    let categories: BTreeSet<&str> = set.items.iter().map(|item| item.category.as_str()).collect();
    let mut rows = Vec::new();
    let mut parts: Vec<Option<&str>> = vec![None];
    if categories.len() > 1 {
        // Questions without a category count in the whole set alone.
        parts.extend(categories.iter().copied().filter(|category| !category.is_empty()).map(Some));
    }
    for part in parts {
        let is_of = |category: &str| part.is_none_or(|part| part == category);
        let of = |subject: &Subject| -> BTreeMap<&str, &Record> {
            records
                .iter()
                .filter(|r| r.schedule == subject.name && is_of(&r.category))
                .map(|r| (r.item.as_str(), r))
                .collect()
        };
        let base = subjects.first().map(of).unwrap_or_default();
        let asked = set.items.iter().filter(|item| is_of(&item.category)).count();
        rows.extend(subjects.iter().map(|subject| Row {
            category: part.unwrap_or_default().to_owned(),
            asked,
            ..row(subject, &base, &of(subject))
        }));
    }
    let failures = records
        .iter()
        .filter_map(|r| Some((r.item.clone(), r.schedule.clone(), r.failure.clone()?)))
        .collect();
    Summary {
        model: model.to_owned(),
        set: set.name.clone(),
        metric: set.metrics(),
        judge: judge.map(str::to_owned),
        rows,
        scores: subjects.iter().flat_map(|subject| scores::scores(set, &subject.name, records)).collect(),
        failures,
    }
}

fn row(subject: &Subject, base: &BTreeMap<&str, &Record>, own: &BTreeMap<&str, &Record>) -> Row {
    let marks: Vec<f64> = own.values().filter_map(|record| record.mark).collect();
    let (a, b): (Vec<f64>, Vec<f64>) =
        own.iter().filter_map(|(item, record)| Some((base.get(item)?.mark?, record.mark?))).unzip();
    let median = |figure: &dyn Fn(&Cost) -> f64| {
        let spread = Spread::of(own.values().filter_map(|record| record.cost.as_ref()).map(figure));
        digits::to_thousandths(spread.median)
    };
    let total_ms: f64 =
        own.values().filter_map(|record| record.cost.as_ref()).map(|cost| cost.ms.total).sum();
    let schedule = &subject.schedule;
    Row {
        schedule: subject.name.clone(),
        strategy: if schedule.is_off() { String::new() } else { schedule.strategy.name().to_owned() },
        category: String::new(),
        asked: 0,
        questions: own.len(),
        failures: own.len() - marks.len(),
        accuracy: Interval::of(&marks),
        difference: Interval::of_differences(&a, &b),
        compared: a.len(),
        visual_tokens: median(&|cost| cost.tokens.visual_after_encoder.into()),
        visual_tokens_deepest: median(&|cost| {
            cost.tokens.visual_kv.last().map_or(0.0, |kv| kv.tokens.into())
        }),
        encoder_ms: median(&|cost| cost.ms.encoder),
        prefill_ms: median(&|cost| cost.ms.prefill),
        total_ms: median(&|cost| cost.ms.total),
        kv_bytes: median(&|cost| cost.bytes.kv as f64),
        memory_bytes: median(&|cost| (cost.bytes.weights + cost.bytes.kv + cost.bytes.compute) as f64),
        seconds: digits::to_thousandths(total_ms / 1000.0),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{Item, Metric};
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
            failure: mark.is_none().then(|| "no such file".into()),
            cost: mark.map(|_| Cost { tokens: report.tokens, ms: report.ms, bytes: report.bytes }),
            ..Record::default()
        }
    }

    /// Makes a set with the questions of these records.
    pub fn set(metric: Metric, records: &[Record]) -> Set {
        let mut items: Vec<Item> = Vec::new();
        for record in records {
            if items.iter().all(|item| item.id != record.item) {
                let (id, category) = (record.item.clone(), record.category.clone());
                items.push(Item { id, category, ..Item::default() });
            }
        }
        Set::new("set".into(), metric, items)
    }

    /// Makes their summary. The first schedule is off, the others merge.
    pub fn summary(metric: Metric, schedules: &[&str], records: &[Record]) -> Summary {
        let merging = || {
            let step = (1, crate::schedule::Amount::Count(1));
            let encoder = crate::schedule::HalfSchedule { steps: vec![step] };
            crate::schedule::Schedule { encoder, ..Default::default() }
        };
        let subject = |(i, name): (usize, &&str)| Subject {
            name: (*name).to_owned(),
            schedule: if i == 0 { crate::schedule::Schedule::default() } else { merging() },
        };
        let subjects: Vec<Subject> = schedules.iter().enumerate().map(subject).collect();
        let set = &set(metric, records);
        summarise(&Asked { model: "a model", set, subjects: &subjects, judge: None }, records)
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
        let summary = summary(Metric::Exact, &["off", "paper"], &records);
        let whole = &summary.rows[1];
        assert_eq!((whole.asked, whole.questions, whole.failures, whole.marked()), (3, 3, 1, 2));
        assert_eq!((summary.rows[0].strategy.as_str(), whole.strategy.as_str()), ("", "merge"));
        assert!((whole.accuracy.mean - 0.0).abs() < 1e-9);
        assert!((whole.difference.mean + 0.5).abs() < 1e-9, "question 2 does not count");
        assert_eq!(summary.rows.len(), 6, "the whole and two categories of two schedules");
        assert_eq!(summary.failures, [("2".into(), "paper".into(), "no such file".into())]);
        assert!(summary.scores.is_empty());
    }

    #[test]
    fn a_summary_is_what_its_file_is() {
        let mut records =
            [("1", 1.0), ("2", 0.0), ("3", 0.0)].map(|(item, mark)| record("off", item, "a", Some(mark)));
        for record in &mut records {
            // Shown as 43 ms; as 42 if the file alone had rounded it, to a half.
            record.cost.as_mut().unwrap().ms.total = 42.500_3;
        }
        let summary = summary(Metric::YesNo, &["off"], &records);
        let read: Summary = serde_json::from_str(&serde_json::to_string(&summary).unwrap()).unwrap();
        assert_eq!(summary, read);
        assert_eq!(summary.rows[0].accuracy.mean, 0.333_333);
        assert_eq!(summary.rows[0].total_ms, 42.5);
    }

    #[test]
    fn questions_without_a_category_count_once() {
        let records = [record("off", "1", "a", Some(1.0)), record("off", "2", "", Some(0.0))];
        let summary = summary(Metric::Exact, &["off"], &records);
        let rows: Vec<_> = summary.rows.iter().map(|row| (row.category.as_str(), row.asked)).collect();
        assert_eq!(rows, [("", 2), ("a", 1)]);
    }
}
