//! Scores that a set has beside the mean of its marks: MME's points, POPE's F1, means over categories, ratings.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::log::Record;
use super::metric::yes_no;
use super::{Metric, Set};
use crate::report::digits;

/// MME's categories (Fu et al., 2023), by its two totals.
const PERCEPTION: [&str; 10] = [
    "existence",
    "count",
    "position",
    "color",
    "posters",
    "celebrity",
    "scene",
    "landmark",
    "artwork",
    "OCR",
];
const COGNITION: [&str; 4] =
    ["commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning"];
/// Points at the top of the scale that judges of videos use.
const RATING: f64 = 5.0;

/// Named score of one schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Score {
    pub schedule: String,
    pub name: String,
    pub value: f64,
}

/// Returns the scores of one schedule, from the answers that have a mark.
pub fn scores(set: &Set, schedule: &str, records: &[Record]) -> Vec<Score> {
    let own: BTreeMap<&str, &Record> = records
        .iter()
        .filter(|record| record.schedule == schedule && record.mark.is_some())
        .map(|record| (record.item.as_str(), record))
        .collect();
    if own.is_empty() {
        return Vec::new();
    }
    let found = match set.metric {
        Metric::YesNo if set.items.iter().any(|item| is_mme(&item.category)) => mme(set, &own),
        Metric::YesNo => agreement(set, &own),
        Metric::Choice => categories(&own),
        Metric::Llava => ratio(&own),
        Metric::VideoChat | Metric::Description => ratings(&own),
        Metric::Cider => {
            vec![("CIDEr, times 100", 100.0 * mean(own.values().filter_map(|record| record.mark)))]
        }
        _ => Vec::new(),
    };
    let score = |(name, value): (&str, f64)| Score {
        schedule: schedule.to_owned(),
        name: name.to_owned(),
        value: digits::to_thousandths(value),
    };
    found.into_iter().map(score).collect()
}

fn is_mme(category: &str) -> bool {
    PERCEPTION.contains(&category) || COGNITION.contains(&category)
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count.max(1))
}

/// Score by Fu et al., 2023: in each category the share of right questions and the share of pictures with
/// both right, times 100.
fn mme(set: &Set, own: &BTreeMap<&str, &Record>) -> Vec<(&'static str, f64)> {
    let mut pictures: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    for item in &set.items {
        if let Some(mark) = own.get(item.id.as_str()).and_then(|record| record.mark) {
            let picture = if item.group.is_empty() { &item.id } else { &item.group };
            pictures.entry((&item.category, picture)).or_default().push(mark);
        }
    }
    let total = |names: &[&str]| -> f64 {
        let points = |category: &&str| {
            let of_category = || pictures.iter().filter(move |((name, _), _)| name == category);
            let right = mean(of_category().flat_map(|(_, marks)| marks.iter().copied()));
            let both = mean(of_category().map(|(_, marks)| f64::from(marks.iter().all(|&mark| mark >= 1.0))));
            100.0 * (right + both)
        };
        names.iter().map(points).sum()
    };
    vec![("MME perception", total(&PERCEPTION)), ("MME cognition", total(&COGNITION))]
}

/// Precision, recall, F1 and share of yes, in percent, as POPE has them (Li et al., 2023).
fn agreement(set: &Set, own: &BTreeMap<&str, &Record>) -> Vec<(&'static str, f64)> {
    let (mut both, mut said, mut wanted, mut count) = (0.0, 0.0, 0.0, 0.0);
    for item in &set.items {
        let Some(record) = own.get(item.id.as_str()) else { continue };
        let yes = yes_no(&record.answer) == Some(true);
        let right = item.answers.first().and_then(|answer| yes_no(answer)) == Some(true);
        both += f64::from(u8::from(yes && right));
        said += f64::from(u8::from(yes));
        wanted += f64::from(u8::from(right));
        count += 1.0;
    }
    let share = |part: f64, whole: f64| if whole > 0.0 { 100.0 * part / whole } else { 0.0 };
    vec![
        ("precision, %", share(both, said)),
        ("recall, %", share(both, wanted)),
        ("F1, %", share(2.0 * both, said + wanted)),
        ("yes, %", share(said, count)),
    ]
}

/// Mean of the categories' accuracies, in percent: MLVU's and MMStar's total.
fn categories(own: &BTreeMap<&str, &Record>) -> Vec<(&'static str, f64)> {
    let mut marks: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for record in own.values().filter(|record| !record.category.is_empty()) {
        marks.entry(&record.category).or_default().extend(record.mark);
    }
    let means = marks.values().map(|marks| mean(marks.iter().copied()));
    if marks.len() > 1 { vec![("mean of categories, %", 100.0 * mean(means))] } else { Vec::new() }
}

/// Ratio of the mean ratings, in percent, as LLaVA-Bench has it.
fn ratio(own: &BTreeMap<&str, &Record>) -> Vec<(&'static str, f64)> {
    let reference = mean(own.values().filter_map(|record| record.verdict.as_ref()?.reference));
    let rating = mean(own.values().filter_map(|record| record.mark));
    if reference > 0.0 { vec![("of the reference, %", 100.0 * rating / reference)] } else { Vec::new() }
}

/// Mean rating of each aspect, and the mean of these.
fn ratings(own: &BTreeMap<&str, &Record>) -> Vec<(&'static str, f64)> {
    const ASPECTS: [(&str, &str); 5] = [
        ("correctness", "correctness of 5"),
        ("detail", "detail of 5"),
        ("context", "context of 5"),
        ("temporal", "temporal of 5"),
        ("consistency", "consistency of 5"),
    ];
    let mut found = Vec::new();
    for (aspect, name) in ASPECTS {
        let verdicts = own.values().filter_map(|record| record.verdict.as_ref());
        let marks: Vec<f64> = verdicts
            .flat_map(|verdict| {
                verdict.aspects.iter().filter(|(own, _)| own == aspect).map(|(_, mark)| *mark)
            })
            .collect();
        if !marks.is_empty() {
            found.push((name, RATING * mean(marks.into_iter())));
        }
    }
    if found.len() > 1 {
        found.push(("mean of aspects, of 5", mean(found.iter().map(|(_, value)| *value))));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::Item;
    use super::super::judge::Verdict;
    use super::*;

    fn asked(metric: Metric, rows: &[(&str, &str, f64)]) -> (Set, Vec<Record>) {
        let items = rows.iter().enumerate().map(|(i, (group, category, _))| Item {
            id: i.to_string(),
            group: (*group).into(),
            category: (*category).into(),
            answers: vec!["yes".into()],
            ..Item::default()
        });
        let records = rows.iter().enumerate().map(|(i, (_, category, mark))| Record {
            schedule: "off".into(),
            item: i.to_string(),
            category: (*category).into(),
            mark: Some(*mark),
            answer: if *mark > 0.0 { "Yes".into() } else { "No.".into() },
            ..Record::default()
        });
        (Set::new("set".into(), metric, items.collect()), records.collect())
    }

    fn values(set: &Set, records: &[Record]) -> Vec<(String, f64)> {
        scores(set, "off", records).into_iter().map(|score| (score.name, score.value)).collect()
    }

    fn named<const N: usize>(values: [(&str, f64); N]) -> Vec<(String, f64)> {
        values.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    #[test]
    fn mme_counts_questions_and_pictures() {
        // The category of colours has 3 of 4 right, 1 of 2 pictures; that of code has all right.
        let (set, records) = asked(
            Metric::YesNo,
            &[
                ("p1", "color", 1.0),
                ("p1", "color", 1.0),
                ("p2", "color", 1.0),
                ("p2", "color", 0.0),
                ("p3", "code_reasoning", 1.0),
            ],
        );
        assert_eq!(values(&set, &records), named([("MME perception", 125.0), ("MME cognition", 200.0)]));
    }

    #[test]
    fn pope_has_precision_and_recall() {
        let (mut set, records) =
            asked(Metric::YesNo, &[("", "random", 1.0), ("", "random", 1.0), ("", "popular", 0.0)]);
        set.items[1].answers = vec!["no".into()];
        // Said yes twice, once rightly; two of three should be yes.
        let found = values(&set, &records);
        assert_eq!(found[..3], named([("precision, %", 50.0), ("recall, %", 50.0), ("F1, %", 50.0)]));
        assert_eq!(found[3].1, 66.667);
    }

    #[test]
    fn categories_count_alike() {
        let (set, records) = asked(Metric::Choice, &[("", "a", 1.0), ("", "a", 1.0), ("", "b", 0.0)]);
        assert_eq!(values(&set, &records), named([("mean of categories, %", 50.0)]));
    }

    #[test]
    fn ratings_are_shown_on_their_scale() {
        let (set, mut records) = asked(Metric::Llava, &[("", "", 0.6), ("", "", 0.9)]);
        for record in &mut records {
            let aspects = vec![("rating".to_owned(), record.mark.unwrap())];
            record.verdict = Some(Verdict { aspects, reference: Some(0.8), replies: Vec::new() });
        }
        let (name, value) = &values(&set, &records)[0];
        assert_eq!(name, "of the reference, %");
        assert!((value - 93.75).abs() < 1e-9);
        let (set, mut records) = asked(Metric::VideoChat, &[("", "", 0.6), ("", "", 1.0)]);
        for (record, aspect) in records.iter_mut().zip(["detail", "temporal"]) {
            let aspects = vec![(aspect.to_owned(), record.mark.unwrap())];
            record.verdict = Some(Verdict { aspects, reference: None, replies: Vec::new() });
        }
        let found = values(&set, &records);
        let wanted = [("detail of 5", 3.0), ("temporal of 5", 5.0), ("mean of aspects, of 5", 4.0)];
        assert_eq!(found, named(wanted));
    }
}
