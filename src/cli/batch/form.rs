//! The forms of an output file: JSON lines and CSV, written record by record and read again by `--resume`.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::path::Path;

use serde_json::Value;

use super::outcome::Outcome;
use super::record::shown;
use crate::error::{Error, Kind, Result};

/// The columns of a CSV file.
const COLUMNS: [&str; 5] = ["id", "text", "finish", "error", "digest"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A JSON object a line.
    Jsonl,
    /// [`COLUMNS`], for spreadsheets.
    Csv,
}

/// A record that an earlier run wrote.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Known {
    pub id: String,
    /// Digest of everything that decides the answer. Older versions wrote none.
    pub digest: Option<String>,
    pub failed: bool,
    /// Its bytes in the file, line break included.
    pub bytes: Range<u64>,
}

impl Form {
    /// The form that is asked for by name, else that of the file's ending.
    ///
    /// # Errors
    /// [`Kind::Usage`] with the names there are.
    pub(super) fn of(name: Option<&str>, path: Option<&Path>) -> Result<Self> {
        match name {
            Some("jsonl") => Ok(Self::Jsonl),
            Some("csv") => Ok(Self::Csv),
            Some(other) => Err(Error::usage(format!("--format {other}: choose jsonl or csv"))),
            None => {
                let csv =
                    path.and_then(Path::extension).is_some_and(|ending| ending.eq_ignore_ascii_case("csv"));
                Ok(if csv { Self::Csv } else { Self::Jsonl })
            }
        }
    }

    /// Returns the first bytes of a new file.
    pub(super) fn head(self) -> String {
        match self {
            Self::Jsonl => String::new(),
            Self::Csv => COLUMNS.join(",") + "\n",
        }
    }

    /// The record of `outcome`, line break included.
    ///
    /// # Errors
    /// The serializer's own words.
    pub(super) fn record(self, outcome: &Outcome) -> std::result::Result<Vec<u8>, String> {
        match self {
            Self::Jsonl => {
                let mut line = serde_json::to_vec(outcome).map_err(|error| error.to_string())?;
                line.push(b'\n');
                Ok(line)
            }
            Self::Csv => {
                let mut writer = csv::Writer::from_writer(Vec::new());
                writer.write_record(outcome.row()).map_err(|error| error.to_string())?;
                writer.into_inner().map_err(|error| error.to_string())
            }
        }
    }

    /// The whole records of `file`, and the bytes they take. A record that was being written when its run ended is
    /// none of them.
    ///
    /// # Errors
    /// [`Kind::File`] for what cannot be read, and for a file that holds something else.
    pub(super) fn records(self, file: &File, path: &Path) -> Result<(Vec<Known>, u64)> {
        match self {
            Self::Jsonl => lines(file, path),
            Self::Csv => rows(file, path),
        }
    }
}

fn unreadable(path: &Path, error: &impl std::fmt::Display) -> Error {
    Error::new(Kind::File, format!("{}: {error}", path.display()))
}

fn foreign(path: &Path, what: &str, number: usize) -> Error {
    Error::new(Kind::File, format!("{}: {what} {number} is no answer of illava batch", path.display()))
}

fn lines(file: &File, path: &Path) -> Result<(Vec<Known>, u64)> {
    let mut reader = BufReader::new(file);
    let (mut records, mut end) = (Vec::new(), 0);
    loop {
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line).map_err(|error| unreadable(path, &error))?;
        if line.last() != Some(&b'\n') {
            return Ok((records, end));
        }
        let no_answer = || foreign(path, "line", records.len() + 1);
        let value: Value = serde_json::from_slice(&line).map_err(|_| no_answer())?;
        let id = value.get("custom_id").or_else(|| value.get("id")).ok_or_else(no_answer)?;
        let begin = end;
        end += line.len() as u64;
        records.push(Known {
            id: shown(id),
            digest: value["digest"].as_str().map(str::to_owned),
            failed: value.get("error").is_some_and(|error| !error.is_null()),
            bytes: begin..end,
        });
    }
}

fn rows(file: &File, path: &Path) -> Result<(Vec<Known>, u64)> {
    let length = file.metadata().map_err(|error| unreadable(path, &error))?.len();
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(BufReader::new(file));
    let (mut records, mut end, mut number) = (Vec::new(), 0, 0);
    let mut row = csv::StringRecord::new();
    while reader.read_record(&mut row).map_err(|error| unreadable(path, &error))? {
        number += 1;
        let begin = end;
        let next = reader.position().byte();
        let is_last = next >= length;
        if row.len() != COLUMNS.len() || is_last && !ends_a_line(file, length, path)? {
            // The row that a run left half written.
            if is_last && number > 1 {
                break;
            }
            return Err(foreign(path, "row", number));
        }
        end = next;
        if number == 1 {
            if row != COLUMNS[..] {
                return Err(foreign(path, "row", number));
            }
            continue;
        }
        records.push(Known {
            id: row[0].to_owned(),
            digest: Some(row[4].to_owned()),
            failed: !row[3].is_empty(),
            bytes: begin..end,
        });
    }
    Ok((records, end))
}

fn ends_a_line(file: &File, length: u64, path: &Path) -> Result<bool> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = file;
    let mut last = [0];
    file.seek(SeekFrom::Start(length.saturating_sub(1)))
        .and_then(|_| file.read_exact(&mut last))
        .map_err(|error| unreadable(path, &error))?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(form: Form, text: &str) -> Result<(Vec<Known>, u64)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        std::fs::write(&path, text).unwrap();
        form.records(&File::open(&path).unwrap(), &path)
    }

    #[test]
    fn forms_by_name_and_ending() {
        for (name, path, form) in [
            (None, None, Form::Jsonl),
            (None, Some("a.csv"), Form::Csv),
            (None, Some("a.CSV"), Form::Csv),
            (None, Some("a.jsonl"), Form::Jsonl),
            (Some("csv"), Some("a.txt"), Form::Csv),
        ] {
            assert_eq!(Form::of(name, path.map(Path::new)).unwrap(), form);
        }
        assert!(Form::of(Some("xml"), None).unwrap_err().to_string().contains("--format xml"));
    }

    #[test]
    fn a_row_is_read_as_it_was_written() {
        let error = Error::usage("a, \"b\"");
        let outcome = Outcome::failure(0, "x,\n\"y\"".into(), false, "d".into(), &error);
        let row = String::from_utf8(Form::Csv.record(&outcome).unwrap()).unwrap();
        let text = format!("{}{row}{row}", Form::Csv.head());
        let (records, end) = read(Form::Csv, &text).unwrap();
        assert_eq!((records.len(), end), (2, text.len() as u64));
        assert_eq!((records[1].id.as_str(), records[1].failed), ("x,\n\"y\"", true));
        let bytes = records[1].bytes.start as usize..records[1].bytes.end as usize;
        assert_eq!(&text[bytes], row);
        // Wherever a run ends, its whole rows are there.
        let two = Form::Csv.head().len() + row.len();
        for cut in two..two + row.len() {
            let (records, end) = read(Form::Csv, &text[..cut]).unwrap();
            assert_eq!((records.len(), end), (1, two as u64), "{:?}", &text[..cut]);
        }
    }

    #[test]
    fn files_of_others() {
        for (form, text, part) in [
            (Form::Jsonl, "[]\n", "line 1"),
            (Form::Jsonl, "letters\n", "line 1"),
            (Form::Jsonl, "{\"id\": 1}\n{\"text\": \"\"}\n", "line 2"),
            (Form::Csv, "name,age\na,3\n", "row 1"),
            (Form::Csv, "a,b,c,d,e\n", "row 1"),
            (Form::Csv, "id,text,finish,error,digest\na,3\nb,,,,\n", "row 2"),
        ] {
            let error = read(form, text).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("no answer"), "{text}: {error}");
        }
    }
}
