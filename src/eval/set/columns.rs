//! The column names of public sets, in one place for both table layouts.
//!
//! | set | columns beside `image` (or `image_1` ... `image_7`) and `question` |
//! |---|---|
//! | MMMU | `id`, `options` (a list written as text), `answer` (letter) |
//! | MME | `question_id`, `answer` (Yes or No), `category` |
//! | MMBench | `index`, `hint`, `A` ... `D`, `answer` (letter), `category` |
//! | SEED-Bench | `question_id`, `choice_a` ... `choice_d`, `answer` (letter) |
//! | MMStar | `index`, `answer` (letter; the options stand in the question), `category` |
//! | AI2D | `options` (a list), `answer` (number of the option) |
//! | DocVQA, InfoVQA | `questionId`, `answers` (a list) |
//! | ChartQA | `answer`, `type` (human or augmented) |

use super::{Item, Metric, PictureSource};

/// One row of a table, for every layout.
pub trait Row {
    /// Returns a cell as text, or one text for each element of a list. It is empty if the column is missing
    /// or null.
    fn texts(&self, column: &str) -> Vec<String>;
    /// Returns the encoded pictures of a cell.
    fn pictures(&self, column: &str) -> Vec<PictureSource>;
}

/// Reads the question of row `number` (counted from 0), with the metric that its columns suggest.
pub fn item(row: &impl Row, number: usize) -> Result<(Item, Metric), String> {
    let text = |column: &str| row.texts(column).into_iter().next().unwrap_or_default();
    let first = |columns: &[&str]| columns.iter().map(|column| text(column)).find(|text| !text.is_empty());
    let missing = |what: &str| format!("row {}: no {what}", number + 1);

    let mut question = text("question");
    if question.is_empty() {
        return Err(missing("question"));
    }
    if let Some(hint) = first(&["hint"]).filter(|hint| hint != "nan") {
        question = format!("{hint}\n{question}");
    }
    let mut pictures = row.pictures("image");
    pictures.extend((1..=7).flat_map(|i| row.pictures(&format!("image_{i}"))));
    if pictures.is_empty() {
        return Err(missing("image"));
    }
    let options = options(row);
    let mut answers = row.texts("answers");
    answers.extend(row.texts("answer"));
    answers.retain(|answer| !answer.is_empty());
    if answers.is_empty() {
        return Err(missing("answer"));
    }
    let one_letter = |answer: &String| answer.len() == 1 && answer.chars().all(|c| c.is_ascii_uppercase());
    // AI2D counts its options from 0.
    if !options.is_empty()
        && let [only] = answers.as_mut_slice()
        && let Some(letter) = only.parse::<usize>().ok().and_then(|n| ('A'..='Z').nth(n))
    {
        *only = letter.to_string();
    }
    let metric = if !options.is_empty() || answers.iter().all(one_letter) {
        Metric::Choice
    } else if answers.iter().all(|answer| matches!(answer.to_lowercase().as_str(), "yes" | "no")) {
        Metric::YesNo
    } else if answers.len() == 10 {
        Metric::Vqa
    } else if !row.texts("answers").is_empty() {
        Metric::Anls
    } else if matches!(
        first(&["type"]).as_deref(),
        Some("human" | "human_test" | "augmented" | "augmented_test")
    ) {
        Metric::Relaxed
    } else {
        Metric::Exact
    };
    let name = first(&["id", "question_id", "questionId", "index"]);
    // MME gives both questions about a picture one id.
    let id = match (name, metric) {
        (Some(name), Metric::YesNo) => format!("{name}#{number}"),
        (Some(name), _) => name,
        (None, _) => number.to_string(),
    };
    let category = first(&["category", "type", "subfield"]).unwrap_or_default();
    Ok((Item { id, category, pictures, videos: Vec::new(), question, options, answers }, metric))
}

fn options(row: &impl Row) -> Vec<String> {
    let listed = row.texts("options");
    if let [text] = listed.as_slice()
        && text.starts_with('[')
    {
        return list_as_text(text);
    }
    if !listed.is_empty() {
        return listed;
    }
    let by_letter = |name: &dyn Fn(char) -> String| -> Vec<String> {
        ('a'..='h')
            .map(|letter| row.texts(&name(letter)).into_iter().next().unwrap_or_default())
            .take_while(|text| !text.is_empty() && text != "nan")
            .collect()
    };
    let capital = by_letter(&|letter| letter.to_ascii_uppercase().to_string());
    if capital.is_empty() { by_letter(&|letter| format!("choice_{letter}")) } else { capital }
}

/// Reads MMMU's options: a Python list of strings, in either kind of quotes.
fn list_as_text(text: &str) -> Vec<String> {
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
    use std::collections::HashMap;

    use super::*;

    struct Cells(HashMap<&'static str, Vec<&'static str>>);

    impl Row for Cells {
        fn texts(&self, column: &str) -> Vec<String> {
            self.0.get(column).into_iter().flatten().map(ToString::to_string).collect()
        }

        fn pictures(&self, column: &str) -> Vec<PictureSource> {
            if column == "image" { vec![PictureSource::Bytes([1].into())] } else { Vec::new() }
        }
    }

    fn read(cells: &[(&'static str, &[&'static str])]) -> Result<(Item, Metric), String> {
        item(&Cells(cells.iter().map(|(name, texts)| (*name, texts.to_vec())).collect()), 4)
    }

    #[test]
    fn public_layouts() {
        let (item, metric) = read(&[
            ("id", &["val_1"]),
            ("question", &["Which?"]),
            ("options", &[r#"['it\'s', "x, y"]"#]),
            ("answer", &["B"]),
        ])
        .unwrap();
        assert_eq!(
            (item.id.as_str(), item.options, metric),
            ("val_1", vec!["it's".into(), "x, y".into()], Metric::Choice)
        );

        let (item, metric) =
            read(&[("question", &["Is it?"]), ("question_id", &["a/1"]), ("answer", &["Yes"])]).unwrap();
        assert_eq!((item.id.as_str(), metric), ("a/1#4", Metric::YesNo));

        let (item, metric) = read(&[
            ("question", &["Which?"]),
            ("hint", &["Look."]),
            ("A", &["one"]),
            ("B", &["two"]),
            ("C", &["nan"]),
            ("answer", &["A"]),
            ("index", &["77"]),
        ])
        .unwrap();
        assert_eq!(
            (item.question.as_str(), item.options.len(), metric),
            ("Look.\nWhich?", 2, Metric::Choice)
        );

        let (item, metric) =
            read(&[("question", &["Which?"]), ("options", &["a", "b", "c"]), ("answer", &["2"])]).unwrap();
        assert_eq!((item.answers, item.id.as_str(), metric), (vec!["C".to_owned()], "4", Metric::Choice));

        let (item, metric) =
            read(&[("question", &["Who?"]), ("answers", &["Ann", "ann"]), ("questionId", &["9"])]).unwrap();
        assert_eq!((item.answers.len(), metric), (2, Metric::Anls));

        let (item, metric) =
            read(&[("question", &["How much?"]), ("answer", &["14"]), ("type", &["human_test"])]).unwrap();
        assert_eq!((item.category.as_str(), metric), ("human_test", Metric::Relaxed));

        assert_eq!(read(&[("question", &["Who?"])]).unwrap_err(), "row 5: no answer");
        assert_eq!(read(&[("answer", &["x"])]).unwrap_err(), "row 5: no question");
    }
}
