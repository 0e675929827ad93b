//! Our own layout: one JSON object a line, pictures as paths beside the file.
//!
//! `{"id": "7", "image": "a.png", "question": "...", "answer": "..."}`; `images`, `answers`, `options` as lists, `kind`
//! or `category`, `metric`; `video`: a file, a folder of frames or a list of them.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use serde::Deserialize;

use super::{Item, Metric, PictureSource};

#[derive(Deserialize)]
struct Line {
    id: Option<Text>,
    #[serde(alias = "kind")]
    category: Option<String>,
    image: Option<String>,
    #[serde(default)]
    images: Vec<String>,
    video: Option<Video>,
    question: String,
    #[serde(default)]
    options: Vec<String>,
    answer: Option<Text>,
    #[serde(default)]
    answers: Vec<Text>,
    metric: Option<Metric>,
}

/// Id or answer, which is often a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Text(String),
    Number(serde_json::Number),
}

/// A file or a folder; or frames.
#[derive(Deserialize)]
#[serde(untagged)]
enum Video {
    Path(String),
    Frames(Vec<String>),
}

impl Video {
    /// Returns the value as [`crate::media::video::Source::open`] takes it, every path beside the set.
    fn beside(self, folder: &Path) -> OsString {
        let beside = |name: &str| folder.join(name).into_os_string();
        match self {
            // One name may itself be a list.
            Self::Path(name) if name.contains(',') && !folder.join(&name).exists() => {
                Self::Frames(name.split(',').map(str::to_owned).collect()).beside(folder)
            }
            Self::Path(name) => beside(&name),
            Self::Frames(names) => {
                let mut list: Vec<OsString> = names.iter().map(|name| beside(name)).collect();
                if let [_] = list.as_slice() {
                    // A list of one frame is not a video file.
                    list.push(OsString::new());
                }
                list.join(OsStr::new(","))
            }
        }
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        match text {
            Text::Text(text) => text,
            Text::Number(number) => number.to_string(),
        }
    }
}

pub fn read(path: &Path, text: &str) -> Result<(Vec<Item>, Metric), String> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut items = Vec::new();
    let mut metric = None;
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let number = i + 1;
        let line: Line = serde_json::from_str(line).map_err(|error| format!("line {number}: {error}"))?;
        let answers: Vec<String> = line.answers.into_iter().chain(line.answer).map(String::from).collect();
        if answers.is_empty() {
            return Err(format!("line {number}: no answer"));
        }
        let suggested =
            line.metric.unwrap_or(if line.options.is_empty() { Metric::Exact } else { Metric::Choice });
        if *metric.get_or_insert(suggested) != suggested {
            return Err(format!(
                "line {number}: marked in another way than the lines before; split the file"
            ));
        }
        items.push(Item {
            id: line.id.map_or_else(|| number.to_string(), String::from),
            category: line.category.unwrap_or_default(),
            pictures: line
                .image
                .into_iter()
                .chain(line.images)
                .map(|name| PictureSource::File(folder.join(name)))
                .collect(),
            videos: line.video.into_iter().map(|video| video.beside(folder)).collect(),
            question: line.question,
            options: line.options,
            answers,
            ..Item::default()
        });
    }
    Ok((items, metric.unwrap_or(Metric::Exact)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<(Vec<Item>, Metric), String> {
        read(Path::new("folder/set.jsonl"), text)
    }

    #[test]
    fn lines() {
        let (items, metric) = read_text(
            "{\"image\": \"a.png\", \"question\": \"How many?\", \"answer\": 2, \"kind\": \"count\"}\n\n\
             {\"id\": 7, \"images\": [\"a.png\", \"b.png\"], \"question\": \"Same?\", \"answers\": [\"yes\", \"Yes\"]}\n",
        )
        .unwrap();
        assert_eq!(metric, Metric::Exact);
        assert_eq!(
            (items[0].id.as_str(), items[0].answers[0].as_str(), items[0].category.as_str()),
            ("1", "2", "count")
        );
        assert_eq!((items[1].id.as_str(), items[1].pictures.len(), items[1].answers.len()), ("7", 2, 2));
    }

    #[test]
    fn videos_are_beside_the_set() {
        let line = |video: &str| format!("{{\"video\": {video}, \"question\": \"a\", \"answer\": \"b\"}}\n");
        let text = [r#""a.mp4""#, r#"["f1.png", "f2.png"]"#, r#""f1.png,f2.png""#, r#"["f1.png"]"#]
            .map(line)
            .concat();
        let (items, _) = read_text(&text).unwrap();
        let shown: Vec<String> =
            items.iter().map(|item| item.videos[0].to_string_lossy().into_owned()).collect();
        let folder = shown[0].strip_suffix("a.mp4").unwrap();
        assert_eq!(shown[1], format!("{folder}f1.png,{folder}f2.png"));
        assert_eq!(shown[2], shown[1]);
        assert_eq!(shown[3], format!("{folder}f1.png,"));
        assert!(items.iter().all(|item| item.pictures.is_empty() && item.videos.len() == 1));
    }

    #[test]
    fn faults_name_their_line() {
        for (text, part) in [
            ("{\"question\": \"a\", \"answer\": \"b\"}\n{", "line 2"),
            ("{\"question\": \"a\"}", "line 1: no answer"),
            ("{\"answer\": \"a\"}", "line 1: missing field `question`"),
            (
                "{\"question\": \"a\", \"answer\": \"b\"}\n{\"question\": \"a\", \"answer\": \"b\", \"options\": [\"b\"]}",
                "line 2: marked in another way",
            ),
        ] {
            let error = read_text(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
