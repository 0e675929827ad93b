//! Log of answers, one JSON object a line, from which a stopped evaluation continues.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::judge::Verdict;
use crate::answer::Token;
use crate::error::{Error, Field, Kind, Result};
use crate::file;
use crate::report::{Bytes, Milliseconds, Tokens};

/// One question under one schedule.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Record {
    pub schedule: String,
    pub item: String,
    pub category: String,
    /// Mark from 0 to 1; absent if the question failed.
    pub mark: Option<f64>,
    pub answer: String,
    /// Answer to the question in other words, if the set asks it so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<String>,
    /// Opinion of the judge, if one marks the set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Reason why there is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
    /// Tokens of the answer, if log-probabilities were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logprobs: Vec<Token>,
}

/// Costs of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    pub tokens: Tokens,
    pub ms: Milliseconds,
    pub bytes: Bytes,
}

/// Records in memory and, if there is a file, in it.
#[derive(Debug, Default)]
pub struct Log {
    file: Option<File>,
    records: Vec<Record>,
    known: HashMap<(String, String), usize>,
}

impl Log {
    /// Continues the file at `path`, or begins it. Its first line names the run it belongs to.
    ///
    /// # Errors
    /// [`Kind::File`] if the file cannot be written, is no such log, or belongs to another run.
    pub fn open(path: &Path, run: &str) -> Result<Self> {
        let failed = |reason: String| Error::new(Kind::File, format!("{}: {reason}", path.display()));
        let text = match file::text(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(failed(error.to_string())),
        };
        let mut log = Self::default();
        // A line that a crash cut off has no end. Its question is asked again.
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let mut lines = whole.lines();
        if let Some(first) = lines.next() {
            let known: serde_json::Value = serde_json::from_str(first).unwrap_or_default();
            match known["run"].as_str() {
                Some(known) if known == run => {}
                Some(_) => {
                    return Err(failed(format!(
                        "is of another model, question set or setting; give another {}",
                        Field::Log
                    )));
                }
                None => {
                    return Err(failed(format!("is not a log of this command; give another {}", Field::Log)));
                }
            }
        }
        for (i, line) in lines.enumerate() {
            let record =
                serde_json::from_str(line).map_err(|error| failed(format!("line {}: {error}", i + 2)))?;
            log.keep(record);
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(|error| failed(error.to_string()))?;
        file.set_len(whole.len() as u64).map_err(|error| failed(error.to_string()))?;
        log.file = Some(file);
        if whole.is_empty() {
            log.write(&serde_json::json!({ "run": run }))?;
        }
        Ok(log)
    }

    /// Returns the record of a question. A failure counts as absent, so that another call tries it again.
    #[must_use]
    pub fn find(&self, schedule: &str, item: &str) -> Option<&Record> {
        self.last(schedule, item).filter(|record| record.failure.is_none())
    }

    /// Returns the record of an answer that the judge has not marked.
    #[must_use]
    pub fn unmarked(&self, schedule: &str, item: &str) -> Option<&Record> {
        self.last(schedule, item).filter(|record| record.failure.is_some() && record.cost.is_some())
    }

    fn last(&self, schedule: &str, item: &str) -> Option<&Record> {
        let key = (schedule.to_owned(), item.to_owned());
        self.known.get(&key).map(|&i| &self.records[i])
    }

    /// # Errors
    /// [`Kind::File`] if the file cannot be written.
    pub fn add(&mut self, record: Record) -> Result<()> {
        self.write(&record)?;
        self.keep(record);
        Ok(())
    }

    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    fn keep(&mut self, record: Record) {
        let key = (record.schedule.clone(), record.item.clone());
        match self.known.get(&key) {
            Some(&i) => self.records[i] = record,
            None => {
                self.known.insert(key, self.records.len());
                self.records.push(record);
            }
        }
    }

    fn write(&mut self, value: &impl Serialize) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let failed = |reason: String| Error::new(Kind::File, format!("evaluation log: {reason}"));
        let mut line = serde_json::to_string(value).map_err(|error| failed(error.to_string()))?;
        line.push('\n');
        file.write_all(line.as_bytes()).map_err(|error| failed(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(item: &str, mark: Option<f64>) -> Record {
        Record {
            schedule: "off".into(),
            item: item.into(),
            category: String::new(),
            mark,
            answer: "a".into(),
            failure: mark.is_none().then(|| "why".into()),
            ..Record::default()
        }
    }

    #[test]
    fn it_goes_on_after_a_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        let mut log = Log::open(&path, "run").unwrap();
        log.add(record("1", Some(1.0))).unwrap();
        log.add(record("2", None)).unwrap();
        drop(log);
        let mut cut = OpenOptions::new().append(true).open(&path).unwrap();
        cut.write_all(b"{\"schedule\": \"off\", \"it").unwrap();
        let mut log = Log::open(&path, "run").unwrap();
        assert_eq!(log.records().len(), 2);
        log.add(record("2", Some(0.5))).unwrap();
        log.add(record("3", Some(0.0))).unwrap();
        let log = Log::open(&path, "run").unwrap();
        assert_eq!(
            log.records().iter().map(|r| r.mark).collect::<Vec<_>>(),
            [Some(1.0), Some(0.5), Some(0.0)]
        );
        assert!(log.find("off", "3").is_some() && log.find("paper", "3").is_none());
        assert!(Log::open(&path, "other").unwrap_err().to_string().contains("another model"));
        std::fs::write(&path, "not json\n").unwrap();
        assert!(Log::open(&path, "run").unwrap_err().to_string().contains("not a log"));
    }
}
