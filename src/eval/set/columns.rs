//! Columns of public sets, in one place for every table layout. docs/evaluation.md lists the sets.

use std::path::PathBuf;

use super::options::{self, Options, list_as_text};
use super::place::Place;
use super::row::Row;
use super::{Item, Metric, PictureSource};

/// Ids, the best first.
const IDS: [&str; 10] =
    ["id", "question_id", "questionId", "index", "pid", "qid", "idx", "question_idx", "img_id", "image_id"];
const CATEGORIES: [&str; 11] = [
    "category",
    "task_type",
    "task",
    "type",
    "data_type",
    "subfield",
    "subject",
    "area",
    "capability",
    "answer_type",
    "domain",
];
const VIDEOS: [&str; 6] = ["videoID", "video_name", "video", "video_idx", "video_path", "video_id"];
const PICTURES: [&str; 7] =
    ["image", "images", "image_list", "decoded_image", "image_path", "imagename", "img"];
/// Sets that their columns do not tell from others, by a part of the file's or folder's name.
const BY_NAME: [(&str, Metric); 15] = [
    ("chartqa", Metric::Relaxed),
    ("docvqa", Metric::Anls),
    ("infovqa", Metric::Anls),
    ("infographicvqa", Metric::Anls),
    ("textvqa", Metric::Vqa),
    ("vqav2", Metric::Vqa),
    ("gqa", Metric::Words),
    ("mmvet", Metric::MmVet),
    ("mathvista", Metric::Math),
    ("activitynet", Metric::ActivityNet),
    ("videochatgpt", Metric::VideoChat),
    ("videodetail", Metric::Description),
    ("videodc", Metric::Description),
    ("nocaps", Metric::Cider),
    ("flickr30k", Metric::Cider),
];

/// Reads the question of row `number` (counted from 0), with the metric that its columns and the names of the
/// file and its folders suggest.
pub fn item(row: &impl Row, number: usize, place: &Place) -> Result<(Item, Metric), String> {
    let missing = |what: &str| format!("row {}: no {what}", number + 1);
    let named = by_name(place);
    let is_caption = named == Some(Metric::Cider) || row.has("annotations_captions");
    let mut question = first(row, &["question", "question_1", "question_2", "query"]).unwrap_or_default();
    if row.has("precision") {
        // MathVista's own wording says which kind of answer is wanted.
        question = first(row, &["query"]).unwrap_or(question);
    }
    if question.is_empty() && is_caption {
        "Describe the picture in one sentence.".clone_into(&mut question);
    }
    if question.is_empty() {
        return Err(missing("question"));
    }
    if let Some(hint) = first(row, &["hint"]) {
        question = format!("{hint}\n{question}");
    }
    let mut pictures: Vec<PictureSource> = PICTURES
        .iter()
        .map(|column| row.pictures(column))
        .find(|found| !found.is_empty())
        .unwrap_or_default();
    pictures.extend(
        (1..=7).flat_map(|i| ["image_", "image"].map(|name| row.pictures(&format!("{name}{i}")))).flatten(),
    );
    let video = if pictures.is_empty() { first(row, &VIDEOS) } else { None };
    let options = options::options(row);
    let (mut answers, is_list) = answers(row, is_caption);
    if answers.is_empty() {
        return Err(missing("answer"));
    }
    let counts = row.has("answer_id") || options.counted || row.is_integer("answer");
    if let ([only], true, false) = (answers.as_mut_slice(), counts, options.texts.is_empty())
        && let Some(letter) = only.parse::<usize>().ok().and_then(|n| ('A'..='Z').nth(n))
    {
        *only = letter.to_string();
    }
    let columns = suggested(row, &options, &answers, is_list, is_caption);
    let metric = named.filter(|_| !matches!(columns, Metric::Choice | Metric::Open)).unwrap_or(columns);
    if metric == Metric::ActivityNet && !question.ends_with(['?', '.']) {
        question.push('?');
    }
    let name = first(row, &IDS);
    // MME gives both questions about a picture one id.
    let id = match (name, metric) {
        (Some(name), Metric::YesNo) => format!("{name}#{number}"),
        (Some(name), _) => name,
        (None, _) => number.to_string(),
    };
    let texts = if metric == Metric::Llava { row.texts("caption") } else { Vec::new() };
    let item = Item {
        category: category(row, metric, &id, place),
        id,
        pictures,
        subtitles: video.as_deref().and_then(|name| subtitles(row, name, place)),
        videos: video.iter().map(|name| place.video(name)).collect(),
        question,
        options: options.texts,
        answers,
        precision: first(row, &["precision"]).and_then(|text| text.parse::<f64>().ok()).map(|n| n as usize),
        group: first(row, &["image_path", "question_id"]).unwrap_or_default(),
        context: texts.join("\n"),
        ..Item::default()
    };
    Ok((item, metric))
}

/// Returns the first text that says something.
fn first(row: &impl Row, columns: &[&str]) -> Option<String> {
    let mut found = columns.iter().filter_map(|column| row.texts(column).into_iter().next());
    found.find(|text| !matches!(text.trim(), "" | "nan" | "None"))
}

/// Returns the right answers, and whether the set gives a list of them.
fn answers(row: &impl Row, is_caption: bool) -> (Vec<String>, bool) {
    let columns: &[&str] = match is_caption {
        true => &["annotations_captions", "caption", "answer"],
        false => &["answers", "answer", "correct_choice", "answer_id", "gpt_answer", "gpt4_ans", "label"],
    };
    for column in columns {
        let mut found = row.texts(column);
        let mut is_list = found.len() > 1 || *column == "answers" || is_caption;
        if let [text] = found.as_slice()
            && text.starts_with('[')
            && text.ends_with(']')
            && text.contains(['\'', '"'])
        {
            found = list_as_text(text);
            is_list = true;
        }
        // A question mark stands for an answer that is kept secret.
        found.retain(|answer| !matches!(answer.trim(), "" | "nan" | "?"));
        if !found.is_empty() {
            return (found, is_list);
        }
    }
    (Vec::new(), false)
}

fn by_name(place: &Place) -> Option<Metric> {
    BY_NAME.iter().find(|(part, _)| place.name.contains(part)).map(|(_, metric)| *metric).or_else(|| {
        // Two forms of one name.
        (place.name.contains("llavabench") && !place.name.contains("coco")).then_some(Metric::Llava)
    })
}

fn suggested(
    row: &impl Row,
    options: &Options,
    answers: &[String],
    is_list: bool,
    is_caption: bool,
) -> Metric {
    let is = |wanted: &dyn Fn(&str) -> bool| answers.iter().all(|answer| wanted(answer));
    let kind = first(row, &["type"]).unwrap_or_default();
    if row.has("answer_type") && row.has("precision") {
        Metric::Math
    } else if row.has("capability") {
        Metric::MmVet
    } else if row.has("gpt_answer") || row.has("gpt4_ans") {
        Metric::Llava
    } else if row.has("question_1") {
        Metric::VideoChat
    } else if is_caption {
        Metric::Cider
    } else if first(row, &["question_type"]).as_deref() == Some("open") {
        Metric::Open
    } else if !options.texts.is_empty() {
        Metric::Choice
    } else if matches!(kind.as_str(), "human" | "human_test" | "augmented" | "augmented_test") {
        Metric::Relaxed
    } else if !is_list && is(&|answer| answer.len() == 1 && answer.chars().all(|c| c.is_ascii_uppercase())) {
        Metric::Choice
    } else if is(&|answer| matches!(answer.to_lowercase().as_str(), "yes" | "no")) {
        Metric::YesNo
    } else if answers.len() == 10 {
        Metric::Vqa
    } else if is_list {
        Metric::Anls
    } else if row.has("video_name") && kind.parse::<u32>().is_ok() {
        Metric::ActivityNet
    } else if row.has("video_name") {
        Metric::Description
    } else {
        Metric::Words
    }
}

fn category(row: &impl Row, metric: Metric, id: &str, place: &Place) -> String {
    if metric == Metric::VideoChat {
        let is_there = |column: &str| first(row, &[column]).is_some();
        return match (is_there("question"), place.name.contains("temporal")) {
            (false, _) => "consistency",
            (true, true) => "temporal",
            (true, false) => "generic",
        }
        .to_owned();
    }
    // MMMU's subjects stand in its ids: validation_Art_Theory_3.
    let subject = || id.rsplit_once('_')?.0.split_once('_').map(|(_, subject)| subject.to_owned());
    if let Some(subject) = row.has("subfield").then(subject).flatten() {
        return subject;
    }
    first(row, &CATEGORIES).unwrap_or_default()
}

fn subtitles(row: &impl Row, video: &str, place: &Place) -> Option<PathBuf> {
    place.subtitles(&first(row, &["subtitle_path"]).unwrap_or_else(|| video.to_owned()))
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

        fn has(&self, column: &str) -> bool {
            self.0.contains_key(column)
        }

        fn is_integer(&self, _: &str) -> bool {
            false
        }
    }

    fn read(cells: &[(&'static str, &[&'static str])]) -> Result<(Item, Metric), String> {
        let cells = Cells(cells.iter().map(|(name, texts)| (*name, texts.to_vec())).collect());
        item(&cells, 4, &Place::default())
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

        // Candidates are named by their text, which may be a number.
        let (item, _) =
            read(&[("question", &["How many?"]), ("candidates", &["3", "0", "1"]), ("answer", &["1"])])
                .unwrap();
        assert_eq!(item.answers, ["1"]);

        let (item, metric) =
            read(&[("question", &["Who?"]), ("answers", &["Ann", "ann"]), ("questionId", &["9"])]).unwrap();
        assert_eq!((item.answers.len(), metric), (2, Metric::Anls));

        let (item, metric) =
            read(&[("question", &["How much?"]), ("answer", &["14"]), ("type", &["human_test"])]).unwrap();
        assert_eq!((item.category.as_str(), metric), ("human_test", Metric::Relaxed));

        assert_eq!(read(&[("question", &["Who?"])]).unwrap_err(), "row 5: no answer");
        assert_eq!(read(&[("question", &["Who?"]), ("answer", &["?"])]).unwrap_err(), "row 5: no answer");
        assert_eq!(read(&[("answer", &["x"])]).unwrap_err(), "row 5: no question");
    }
}
