//! Question sets: our JSONL, the parquet and JSON files of public benchmarks, and VLMEvalKit's TSV.

mod columns;
mod folder;
mod json;
mod jsonl;
mod options;
mod parquet;
mod place;
mod row;
mod tsv;

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Metric;
use super::metric::Corpus;
use crate::error::{Error, Field, Kind, Result};
use crate::file;
use crate::media::{self, Pixels, policy};

/// Source of a question's picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PictureSource {
    File(PathBuf),
    /// Encoded picture from within the set. Questions about one picture share it.
    Bytes(Arc<[u8]>),
}

impl PictureSource {
    /// # Errors
    /// As [`media::open`].
    pub fn pixels(&self, item: &str) -> Result<Pixels> {
        let limits = policy::Limits::default();
        match self {
            Self::File(path) => media::open(path, &limits),
            Self::Bytes(bytes) => media::decode(bytes, &format!("picture of question {item}"), &limits),
        }
    }
}

/// One question.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Item {
    /// Id, unique within the set.
    pub id: String,
    /// Category that tables show apart; empty if the set has none.
    pub category: String,
    pub pictures: Vec<PictureSource>,
    /// Files, folders of frames or comma lists of them.
    pub videos: Vec<OsString>,
    /// Subtitles of the video.
    pub subtitles: Option<PathBuf>,
    pub question: String,
    /// The question in other words, asked apart: a judge compares both answers.
    pub again: Option<String>,
    pub options: Vec<String>,
    /// All answers that count as right.
    pub answers: Vec<String>,
    /// Metric of this question, if the set's questions differ.
    pub metric: Option<Metric>,
    /// Decimals of a right number.
    pub precision: Option<usize>,
    /// Name that the questions about one picture share; empty if the id serves.
    pub group: String,
    /// Words about the picture for a judge, who does not see it.
    pub context: String,
}

/// Question set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    pub name: String,
    pub metric: Metric,
    pub items: Vec<Item>,
    /// Captions of the whole set, if they are marked by CIDEr.
    captions: Option<Corpus>,
}

/// Settings of reading a set.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reading<'a> {
    /// Metric in place of the one that the columns suggest.
    pub metric: Option<Metric>,
    /// Split of a folder of parquet files.
    pub split: Option<&'a str>,
    /// Number of questions, the first ones; all without it.
    pub limit: Option<usize>,
    /// Folder of a public set's videos, if it is not the set's own.
    pub media: Option<&'a Path>,
}

impl Set {
    /// Makes a set of these questions.
    #[must_use]
    pub fn new(name: String, metric: Metric, items: Vec<Item>) -> Self {
        let is_captions = metric == Metric::Cider;
        let captions = is_captions.then(|| Corpus::of(items.iter().map(|item| item.answers.as_slice())));
        Self { name, metric, items, captions }
    }

    /// Returns the metric of a question.
    #[must_use]
    pub fn metric_of(&self, item: &Item) -> Metric {
        item.metric.unwrap_or(self.metric)
    }

    /// Returns the mark of an answer that needs no judge, 0 to 1.
    #[must_use]
    pub fn mark(&self, item: &Item, answer: &str) -> f64 {
        self.metric_of(item).mark(item, answer, self.captions.as_ref())
    }

    /// Returns the names of all metrics of the set, joined by `+`.
    #[must_use]
    pub fn metrics(&self) -> String {
        let mut names = vec![self.metric.name()];
        for name in self.items.iter().filter_map(|item| item.metric).map(Metric::name) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names.join("+")
    }
}

/// Reads a set: a file, whose ending tells the layout, or a folder of parquet files.
///
/// # Errors
/// [`Kind::File`] naming the file, the line or row, and what is missing.
pub fn read(path: &Path, reading: &Reading) -> Result<Set> {
    let failed = |reason: String| Error::new(Kind::File, format!("{}: {reason}", path.display()));
    let limit = reading.limit.unwrap_or(usize::MAX);
    let answered = |file: &Path| parquet::read(file, 1, None).is_ok_and(|rows| !rows.is_empty());
    let files = match path.is_dir() {
        true => folder::files(path, reading.split, answered).map_err(failed)?,
        false => vec![path.to_owned()],
    };
    let (mut items, suggested) = match own_layout(&files).map_err(failed)? {
        Some(own) => own,
        None => {
            let rows = tables(&files, limit, reading.media).map_err(failed)?;
            // CIDEr weighs words by all captions of a set.
            let is_captions =
                reading.metric == Some(Metric::Cider) || rows.iter().any(|row| row.1 == Metric::Cider);
            let is_cut = is_captions && rows.len() == limit;
            settled(if is_cut { tables(&files, usize::MAX, reading.media).map_err(failed)? } else { rows })
        }
    };
    if reading.metric.is_some() {
        items.iter_mut().for_each(|item| item.metric = None);
    }
    let name = path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let mut set = Set::new(name, reading.metric.unwrap_or(suggested), items);
    set.items.truncate(limit);
    checked(set, failed)
}

/// Reads a file of one JSON object a line; nothing if it is a table.
fn own_layout(files: &[PathBuf]) -> std::result::Result<Option<(Vec<Item>, Metric)>, String> {
    let [file] = files else { return Ok(None) };
    let ending = file.extension().and_then(|ending| ending.to_str());
    if !matches!(ending, Some("jsonl" | "json")) {
        return Ok(None);
    }
    let text = file::text(file).map_err(|error| error.to_string())?;
    if ending == Some("json") && json::is_table(&text) {
        return Ok(None);
    }
    jsonl::read(file, &text).map(Some)
}

/// Reads at most `limit` rows of public tables.
fn tables(
    files: &[PathBuf],
    limit: usize,
    media: Option<&Path>,
) -> std::result::Result<Vec<(Item, Metric)>, String> {
    let mut found = Vec::new();
    for file in files {
        let left = limit - found.len();
        if left == 0 {
            break;
        }
        let rows =
            match file.extension().and_then(|ending| ending.to_str()) {
                Some("parquet") => parquet::read(file, left, media),
                Some("tsv") => tsv::read(file, left, media),
                Some("json") => json::read(file, left, media),
                _ => Err("not a question set by its name; give a .jsonl, .parquet or .tsv file, or a folder"
                    .into()),
            };
        let of_file = |reason| if files.len() > 1 { format!("{}: {reason}", file.display()) } else { reason };
        found.extend(rows.map_err(of_file)?);
    }
    match found.iter().any(|(item, _)| !item.pictures.is_empty() || !item.videos.is_empty()) {
        true => Ok(found),
        false if found.is_empty() => Ok(found),
        false => Err("no image and no video in it".into()),
    }
}

fn checked(set: Set, failed: impl Fn(String) -> Error) -> Result<Set> {
    if set.items.is_empty() {
        return Err(failed("no question in it".into()));
    }
    let mut ids = HashSet::new();
    if let Some(twice) = set.items.iter().find(|item| !ids.insert(item.id.as_str())) {
        return Err(failed(format!("two questions are called {}", twice.id)));
    }
    let is_open = |item: &&Item| {
        set.metric_of(item) == Metric::Choice && item.options.is_empty() && !item.question.contains('A')
    };
    if let Some(item) = set.items.iter().find(is_open) {
        let line = "has no options to choose from; give another";
        return Err(failed(format!("question {} {line} {}", item.id, Field::Metric)));
    }
    Ok(set)
}

/// Settles the metric of a public set whose rows suggest several. Ids that stand twice get their row's number.
fn settled(rows: Vec<(Item, Metric)>) -> (Vec<Item>, Metric) {
    let any = |metric: Metric| rows.iter().any(|(_, own)| *own == metric);
    // The enumeration lists first what is more special.
    let special = rows.iter().map(|(_, metric)| *metric).min().unwrap_or(Metric::Exact);
    let is_mixed = any(Metric::Choice)
        && special >= Metric::Choice
        && rows.iter().any(|(_, own)| *own != Metric::Choice);
    let metric = if is_mixed { Metric::Choice } else { special };
    let mut ids = HashSet::new();
    let mut items: Vec<Item> = Vec::with_capacity(rows.len());
    for (number, (mut item, own)) in rows.into_iter().enumerate() {
        if is_mixed && own != Metric::Choice {
            item.metric = Some(if own == Metric::Open { own } else { Metric::Words });
        }
        if !ids.insert(item.id.clone()) {
            item.id = format!("{}#{number}", item.id);
            ids.insert(item.id.clone());
        }
        items.push(item);
    }
    if metric == Metric::VideoChat {
        items = paired(items);
    }
    (items, metric)
}

/// Joins the two wordings of one question, which stand in rows of their own.
fn paired(items: Vec<Item>) -> Vec<Item> {
    let mut joined: Vec<Item> = Vec::with_capacity(items.len());
    for item in items {
        let is_first = |other: &&mut Item| {
            other.category == "consistency"
                && other.again.is_none()
                && (&other.videos, &other.answers) == (&item.videos, &item.answers)
        };
        match joined.iter_mut().find(is_first).filter(|_| item.category == "consistency") {
            Some(first) => first.again = Some(item.question),
            None => joined.push(item),
        }
    }
    joined
}
