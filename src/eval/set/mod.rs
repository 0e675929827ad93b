//! Question sets: our JSONL, the parquet files of public benchmarks, and VLMEvalKit's TSV.

mod columns;
mod jsonl;
mod parquet;
mod tsv;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Metric;
use crate::error::{Error, Field, Kind, Result};
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
    pub question: String,
    pub options: Vec<String>,
    /// All answers that count as right.
    pub answers: Vec<String>,
}

/// Question set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    pub name: String,
    pub metric: Metric,
    pub items: Vec<Item>,
}

/// Reads a set. The ending of its name tells its layout. `metric` replaces the one that the columns suggest.
///
/// # Errors
/// [`Kind::File`] naming the file, the line or row, and what is missing.
pub fn read(path: &Path, metric: Option<Metric>) -> Result<Set> {
    let failed = |reason: String| Error::new(Kind::File, format!("{}: {reason}", path.display()));
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let (items, suggested) = match extension {
        "jsonl" | "json" => jsonl::read(path),
        "tsv" => tsv::read(path),
        "parquet" => parquet::read(path),
        _ => Err("not a question set by its name; give a .jsonl, .parquet or .tsv file".to_owned()),
    }
    .map_err(failed)?;
    if items.is_empty() {
        return Err(failed("no question in it".into()));
    }
    let mut ids: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
    ids.sort_unstable();
    if let Some(twice) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(failed(format!("two questions are called {}", twice[0])));
    }
    let metric = metric.unwrap_or(suggested);
    if metric == Metric::Choice
        && let Some(item) = items.iter().find(|item| item.options.is_empty() && !item.question.contains("A"))
    {
        return Err(failed(format!(
            "question {} has no options to choose from; give another {}",
            item.id,
            Field::Metric
        )));
    }
    let name = path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Ok(Set { name, metric, items })
}
