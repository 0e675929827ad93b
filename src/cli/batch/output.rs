//! Output of a batch: one whole record for each answer, in the order of the requests.
//!
//! A run that continues another asks failures again. The earlier file then stands beside the new one with the
//! ending `.before` until its good records are copied. A run may therefore end at any point without a loss.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::form::{Form, Known};
use super::outcome::Outcome;
use super::record::shown;
use crate::cli::output::closed;
use crate::error::{Error, Kind, Result};

/// Keeps answers that come early until those before them are written.
pub(super) struct Output {
    path: PathBuf,
    form: Form,
    to: Box<dyn Write>,
    next: u64,
    early: BTreeMap<u64, Outcome>,
    /// The records of an earlier run, in order.
    done: Vec<Known>,
    /// The earlier file, if some of its records are asked again.
    before: Option<File>,
}

impl Output {
    /// No output: the answers go elsewhere.
    pub(super) fn none() -> Self {
        Self::new(Path::new(""), Form::Jsonl, Box::new(std::io::sink()))
    }

    /// # Errors
    /// [`Kind::File`] for a file that cannot be written, or that is there already and is not to be gone on with.
    pub(super) fn open(path: &Path, form: Form, resume: bool) -> Result<Self> {
        let failed = |error: std::io::Error| failed(path, &error);
        if path == Path::new("-") {
            if resume {
                return Err(Error::usage("--resume needs the file to go on with: give it with -o"));
            }
            let mut output = Self::new(path, form, Box::new(std::io::stdout()));
            output.write(form.head().as_bytes())?;
            return Ok(output);
        }
        let earlier = before(path);
        let exists = path.metadata().is_ok_and(|metadata| metadata.len() > 0) || earlier.exists();
        if exists && !resume {
            return Err(Error::new(
                Kind::File,
                format!(
                    "{}: is there already; give --resume to go on with it, or another file",
                    path.display()
                ),
            ));
        }
        let open = || OpenOptions::new().create(true).read(true).append(true).open(path);
        let mut file = open().map_err(failed)?;
        let (mut done, length) = form.records(&file, path)?;
        // The earlier run ended while it wrote this record.
        file.set_len(length).map_err(failed)?;
        if length == 0 {
            file.write_all(form.head().as_bytes()).map_err(failed)?;
        }
        if let Ok(mut old) = File::open(&earlier) {
            let (records, _) = form.records(&old, &earlier)?;
            for record in records.iter().skip(done.len()) {
                copy(&mut old, record, &mut file).map_err(failed)?;
            }
            std::fs::remove_file(&earlier).map_err(failed)?;
            (done, _) = form.records(&file_again(path).map_err(failed)?, path)?;
        }
        let mut output = Self::new(path, form, Box::new(file));
        output.next = done.len() as u64;
        if done.iter().any(|record| record.failed) {
            std::fs::rename(path, &earlier).map_err(failed)?;
            let mut file = open().map_err(failed)?;
            file.write_all(form.head().as_bytes()).map_err(failed)?;
            output.to = Box::new(file);
            output.before = Some(File::open(&earlier).map_err(failed)?);
            output.next = 0;
        }
        output.done = done;
        output.advance()?;
        Ok(output)
    }

    fn new(path: &Path, form: Form, to: Box<dyn Write>) -> Self {
        let (early, done) = (BTreeMap::new(), Vec::new());
        Self { path: path.to_owned(), form, to, next: 0, early, done, before: None }
    }

    /// Returns the number of good records from an earlier run.
    pub(super) fn resumed(&self) -> u64 {
        self.done.iter().filter(|record| !record.failed).count() as u64
    }

    /// Returns the number of failures among its records, each of which is asked again.
    pub(super) fn asked_again(&self) -> u64 {
        self.done.len() as u64 - self.resumed()
    }

    /// Whether request `number` still needs an answer.
    ///
    /// # Errors
    /// [`Kind::File`] if the earlier run answered another request there.
    pub(super) fn wants(&self, number: u64, id: &Value, digest: &str) -> Result<bool> {
        let known = usize::try_from(number).ok().and_then(|number| self.done.get(number));
        let Some(known) = known.filter(|known| !known.failed) else { return Ok(true) };
        let (path, line) = (self.path.display(), number + 1);
        let reason = if known.id != shown(id) {
            let known = &known.id;
            format!("has the id {known}, the input has {id} there; --resume goes on with the same input only")
        } else if known.digest.as_ref().is_some_and(|asked| asked != digest) {
            "was asked with another prompt, pair, schedule or sampling; --resume goes on with the same ones only"
                .to_owned()
        } else {
            return Ok(false);
        };
        Err(Error::new(Kind::File, format!("{path}: answer {line} {reason}")))
    }

    /// Takes the outcome of request `number` and writes every line that is due.
    ///
    /// # Errors
    /// [`Kind::File`].
    pub(super) fn put(&mut self, number: u64, outcome: Outcome) -> Result<()> {
        self.early.insert(number, outcome);
        self.advance()
    }

    /// Writes what an earlier run has behind the last answer of this one.
    ///
    /// # Errors
    /// [`Kind::File`].
    pub(super) fn finish(&mut self) -> Result<()> {
        while self.before.is_some() && self.next < self.done.len() as u64 {
            self.keep()?;
        }
        self.drop_before()
    }

    fn advance(&mut self) -> Result<()> {
        loop {
            let known = usize::try_from(self.next).ok().and_then(|next| self.done.get(next));
            if known.is_some_and(|known| !known.failed) {
                self.keep()?;
            } else if let Some(outcome) = self.early.remove(&self.next) {
                let record = self.form.record(&outcome);
                let record = record.map_err(|reason| failed(&self.path, &reason))?;
                self.write(&record)?;
                self.next += 1;
            } else {
                break;
            }
        }
        if self.next >= self.done.len() as u64 { self.drop_before() } else { Ok(()) }
    }

    /// Copies the next record of the earlier run.
    fn keep(&mut self) -> Result<()> {
        let known = usize::try_from(self.next).ok().and_then(|next| self.done.get(next));
        if let (Some(before), Some(known)) = (&mut self.before, known) {
            copy(before, known, &mut self.to).map_err(|error| failed(&self.path, &error))?;
        }
        self.next += 1;
        Ok(())
    }

    fn drop_before(&mut self) -> Result<()> {
        match self.before.take() {
            Some(_) => std::fs::remove_file(before(&self.path)).map_err(|error| failed(&self.path, &error)),
            None => Ok(()),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.to.write_all(bytes).and_then(|()| self.to.flush());
        written.map_err(|error| closed(&error).unwrap_or_else(|| failed(&self.path, &error)))
    }
}

fn failed(path: &Path, error: &impl std::fmt::Display) -> Error {
    Error::new(Kind::File, format!("{}: {error}", path.display()))
}

/// Returns the earlier file's place while its failures are asked again.
fn before(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".before");
    name.into()
}

fn file_again(path: &Path) -> std::io::Result<File> {
    File::open(path)
}

fn copy(from: &mut File, record: &Known, to: &mut impl Write) -> std::io::Result<()> {
    from.seek(SeekFrom::Start(record.bytes.start))?;
    std::io::copy(&mut from.take(record.bytes.end - record.bytes.start), to)?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(id: &str) -> Outcome {
        Outcome::failure(0, id.into(), false, "d".into(), &Error::usage("no"))
    }

    fn answer(id: &str) -> Outcome {
        Outcome::stub(id, "d")
    }

    fn ids(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
        text.lines().map(id).collect()
    }

    fn open(path: &Path, resume: bool) -> Result<Output> {
        Output::open(path, Form::Jsonl, resume)
    }

    #[test]
    fn order_is_kept_and_a_run_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        let mut output = open(&path, false).unwrap();
        output.put(1, answer("b")).unwrap();
        assert_eq!(ids(&path), [""; 0]);
        output.put(0, answer("a")).unwrap();
        output.put(3, answer("d")).unwrap();
        assert_eq!(ids(&path), ["a", "b"]);
        drop(output);
        assert!(open(&path, false).err().unwrap().to_string().contains("--resume"));
        // A killed run leaves half a line.
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"id\": \"c\", \"te").unwrap();
        let mut output = open(&path, true).unwrap();
        assert_eq!((output.resumed(), output.asked_again()), (2, 0));
        assert!(!output.wants(1, &"b".into(), "d").unwrap());
        assert!(output.wants(2, &"anything".into(), "e").unwrap());
        assert!(output.wants(1, &"x".into(), "d").unwrap_err().to_string().contains("same input"));
        assert!(output.wants(1, &"b".into(), "e").unwrap_err().to_string().contains("another prompt"));
        output.put(2, answer("c")).unwrap();
        assert_eq!(ids(&path), ["a", "b", "c"]);
    }

    #[test]
    fn failures_are_asked_again_in_their_place() {
        let folder = tempfile::tempdir().unwrap();
        for form in [Form::Jsonl, Form::Csv] {
            let path = folder.path().join(format!("{form:?}"));
            let known = || form.records(&File::open(&path).unwrap(), &path).unwrap().0;
            let state =
                || known().iter().map(|known| format!("{}{}", known.id, known.failed)).collect::<Vec<_>>();
            let mut output = Output::open(&path, form, false).unwrap();
            for (number, outcome) in
                [answer("a"), failure("b"), answer("c"), failure("d"), answer("e")].into_iter().enumerate()
            {
                output.put(number as u64, outcome).unwrap();
            }
            output.finish().unwrap();
            // Killed before anything came, killed behind the first, stopped in order: nothing is lost.
            for asked in [0, 1] {
                let mut output = Output::open(&path, form, true).unwrap();
                assert_eq!((output.resumed(), output.asked_again()), (3 + asked, 2 - asked));
                assert!(!output.wants(0, &"a".into(), "d").unwrap());
                if asked == 0 {
                    assert!(output.wants(1, &"mended".into(), "another").unwrap());
                    output.put(1, answer("b")).unwrap();
                }
            }
            assert!(before(&path).exists());
            assert!(Output::open(&path, form, false).is_err());
            let mut output = Output::open(&path, form, true).unwrap();
            output.put(5, answer("f")).unwrap();
            output.finish().unwrap();
            assert_eq!(state(), ["afalse", "bfalse", "cfalse", "dtrue", "efalse"]);
            let mut output = Output::open(&path, form, true).unwrap();
            output.put(5, answer("f")).unwrap();
            output.put(3, failure("d")).unwrap();
            assert!(!before(&path).exists());
            assert_eq!(state(), ["afalse", "bfalse", "cfalse", "dtrue", "efalse", "ffalse"]);
        }
    }

    #[test]
    fn other_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        for text in ["[]\n", "letters\n", "{\"text\": \"\"}\n"] {
            std::fs::write(&path, text).unwrap();
            assert!(open(&path, true).err().unwrap().to_string().contains("no answer"), "{text}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(open(Path::new("-"), true).err().unwrap().kind(), Kind::Usage);
    }
}
