//! Output of a batch: one whole line for each answer, in the order of the requests.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::outcome::Outcome;
use crate::error::{Error, Kind, Result};

/// Keeps answers that come early until those before them are written.
pub(super) struct Output {
    path: PathBuf,
    to: Box<dyn Write>,
    next: u64,
    early: BTreeMap<u64, Outcome>,
    /// Ids and digests of the lines of an earlier run, in order. Older versions wrote no digests.
    done: Vec<(Value, Option<String>)>,
    /// Number of these lines that are failures.
    failed: u64,
}

impl Output {
    /// # Errors
    /// [`Kind::File`] if the file cannot be written, or exists and was not to be continued.
    pub(super) fn open(path: &Path, resume: bool) -> Result<Self> {
        let failed = |error: std::io::Error| Error::new(Kind::File, format!("{}: {error}", path.display()));
        if path == Path::new("-") {
            if resume {
                return Err(Error::usage("--resume needs the file to go on with: give it with -o"));
            }
            return Ok(Self::new(path, Box::new(std::io::stdout()), Vec::new()));
        }
        let exists = path.metadata().is_ok_and(|metadata| metadata.len() > 0);
        if exists && !resume {
            return Err(Error::new(
                Kind::File,
                format!(
                    "{}: is there already; give --resume to go on with it, or another file",
                    path.display()
                ),
            ));
        }
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path).map_err(failed)?;
        let (done, failures, length) = whole_lines(&file, path)?;
        // The earlier run ended while it wrote this line.
        file.set_len(length).map_err(failed)?;
        file.flush().map_err(failed)?;
        Ok(Self { failed: failures, ..Self::new(path, Box::new(file), done) })
    }

    fn new(path: &Path, to: Box<dyn Write>, done: Vec<(Value, Option<String>)>) -> Self {
        Self { path: path.to_owned(), to, next: done.len() as u64, early: BTreeMap::new(), done, failed: 0 }
    }

    /// Returns the number of lines from an earlier run.
    pub(super) fn resumed(&self) -> u64 {
        self.done.len() as u64
    }

    /// Returns the number of failures among them.
    pub(super) fn failed(&self) -> u64 {
        self.failed
    }

    /// # Errors
    /// [`Kind::File`] if request `number` of the earlier run had another id or another digest.
    pub(super) fn check(&self, number: u64, id: &Value, digest: &str) -> Result<()> {
        let Some((known, asked)) = usize::try_from(number).ok().and_then(|number| self.done.get(number))
        else {
            return Ok(());
        };
        let (path, line) = (self.path.display(), number + 1);
        let reason = if known != id {
            format!("has the id {known}, the input has {id} there; --resume goes on with the same input only")
        } else if asked.as_ref().is_some_and(|asked| asked != digest) {
            "was asked with another prompt, pair, schedule or sampling; --resume goes on with the same ones only"
                .to_owned()
        } else {
            return Ok(());
        };
        Err(Error::new(Kind::File, format!("{path}: line {line} {reason}")))
    }

    /// Takes the outcome of request `number` and writes every line that is due.
    ///
    /// # Errors
    /// [`Kind::File`].
    pub(super) fn put(&mut self, number: u64, outcome: Outcome) -> Result<()> {
        self.early.insert(number, outcome);
        let failed =
            |reason: String, path: &Path| Error::new(Kind::File, format!("{}: {reason}", path.display()));
        while let Some(outcome) = self.early.remove(&self.next) {
            let mut line = serde_json::to_string(&outcome).map_err(|e| failed(e.to_string(), &self.path))?;
            line.push('\n');
            let written = self.to.write_all(line.as_bytes()).and_then(|()| self.to.flush());
            written.map_err(|error| failed(error.to_string(), &self.path))?;
            self.next += 1;
        }
        Ok(())
    }
}

/// Reads the whole lines of `file`: their ids and digests, the number of failures and their bytes.
#[allow(clippy::type_complexity)]
fn whole_lines(file: &File, path: &Path) -> Result<(Vec<(Value, Option<String>)>, u64, u64)> {
    let foreign = |number: usize| {
        Error::new(Kind::File, format!("{}: line {number} is no answer of illava batch", path.display()))
    };
    let mut reader = BufReader::new(file);
    let (mut ids, mut failures, mut length) = (Vec::new(), 0, 0);
    loop {
        let mut line = Vec::new();
        let read = reader.read_until(b'\n', &mut line);
        read.map_err(|error| Error::new(Kind::File, format!("{}: {error}", path.display())))?;
        if line.last() != Some(&b'\n') {
            return Ok((ids, failures, length));
        }
        let number = ids.len() + 1;
        let value: Value = serde_json::from_slice(&line).map_err(|_| foreign(number))?;
        failures += u64::from(value.get("error").is_some_and(|error| !error.is_null()));
        let id =
            value.get("custom_id").or_else(|| value.get("id")).cloned().ok_or_else(|| foreign(number))?;
        ids.push((id, value["digest"].as_str().map(str::to_owned)));
        length += line.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(id: &str) -> Outcome {
        Outcome::failure(0, id.into(), false, "d".into(), &Error::usage("no"))
    }

    fn ids(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
        text.lines().map(id).collect()
    }

    #[test]
    fn order_is_kept_and_a_run_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let mut output = Output::open(&path, false).unwrap();
        output.put(1, outcome("b")).unwrap();
        assert_eq!(ids(&path), [""; 0]);
        output.put(0, outcome("a")).unwrap();
        output.put(3, outcome("d")).unwrap();
        assert_eq!(ids(&path), ["a", "b"]);
        drop(output);
        assert!(Output::open(&path, false).err().unwrap().to_string().contains("--resume"));
        // A killed run leaves half a line.
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"id\": \"c\", \"te").unwrap();
        let mut output = Output::open(&path, true).unwrap();
        assert_eq!(output.resumed(), 2);
        output.check(1, &"b".into(), "d").unwrap();
        output.check(2, &"anything".into(), "e").unwrap();
        assert!(output.check(1, &"x".into(), "d").unwrap_err().to_string().contains("same input"));
        assert!(output.check(1, &"b".into(), "e").unwrap_err().to_string().contains("another prompt"));
        output.put(2, outcome("c")).unwrap();
        assert_eq!(ids(&path), ["a", "b", "c"]);
    }

    #[test]
    fn other_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        for text in ["[]\n", "letters\n", "{\"text\": \"\"}\n"] {
            std::fs::write(&path, text).unwrap();
            assert!(Output::open(&path, true).err().unwrap().to_string().contains("no answer"), "{text}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(Output::open(Path::new("-"), true).err().unwrap().kind(), Kind::Usage);
    }
}
