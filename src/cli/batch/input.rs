//! Sources of requests: a file of lines, or pictures.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::captions::{self, Existing};
use super::pictures::{self, Found, unreadable};
use super::record::{Line, parse, record};
use crate::error::{Error, Kind, Result};
use crate::file;
use crate::media;
use crate::request::Defaults;

/// Largest line in bytes, the same as a body's over HTTP: pictures may stand in it.
const MAX_LINE: u64 = 64 << 20;

/// Requests in their order, with their number if it is known.
pub(super) struct Input {
    pub items: Box<dyn Iterator<Item = Line>>,
    pub count: Option<u64>,
    /// Folder that relative paths start from.
    pub folder: PathBuf,
}

/// Which pictures are taken.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Taken {
    /// Those of a folder's folders too.
    pub recursive: bool,
    /// With captions beside them: what becomes of those that have one.
    pub captions: Option<Existing>,
}

/// Opens requests from one file of lines, or makes one for each picture of files and folders.
///
/// # Errors
/// [`Kind::File`] for an input that cannot be read or holds nothing; [`Kind::Usage`] for pictures without -p.
pub(super) fn open(paths: &[PathBuf], taken: Taken, defaults: Defaults) -> Result<Input> {
    let [path] = paths else { return pictures(paths, taken, defaults) };
    if taken.captions.is_some() && !path.is_dir() && !media::is_picture(path) {
        return Err(Error::usage(
            "--captions: a caption lies beside its picture; give pictures or folders of them",
        ));
    }
    if path == Path::new("-") {
        let items = lines(BufReader::new(std::io::stdin()), defaults);
        return Ok(Input { items: Box::new(items), count: None, folder: PathBuf::new() });
    }
    if path.is_dir() || media::is_picture(path) {
        return pictures(paths, taken, defaults);
    }
    let open = || file::open(path).map_err(|error| unreadable(path, &error));
    let count = || -> Result<u64> {
        let lines = BufReader::new(open()?).split(b'\n');
        Ok(lines.filter(|line| line.as_ref().is_ok_and(|line| !blank(line))).count() as u64)
    };
    // A pipe can be read only once.
    let count = path.is_file().then(count).transpose()?;
    let folder = path.parent().map(Path::to_owned).unwrap_or_default();
    let items = lines(BufReader::new(open()?), defaults);
    Ok(Input { items: Box::new(items), count, folder })
}

fn pictures(paths: &[PathBuf], taken: Taken, defaults: Defaults) -> Result<Input> {
    if defaults.prompt.is_none() {
        return Err(Error::usage("pictures need a question: give one with -p"));
    }
    let mut found = pictures::find(paths, taken.recursive)?;
    if let Some(existing) = taken.captions {
        let done = captions::due(existing, &mut found)?;
        if done > 0 {
            eprintln!("note: {done} pictures have their caption, {} are asked about", found.files.len());
        }
    }
    let Found { folder, files, skipped } = found;
    if let Some(line) = pictures::told(&skipped) {
        eprintln!("note: {line}");
    }
    let count = Some(files.len() as u64);
    let items = files.into_iter().map(move |file| {
        let id = Value::from(file.to_string_lossy());
        let body = [("image".to_owned(), id.clone())].into_iter().collect();
        Line { id, openai: false, record: record(body, &defaults) }
    });
    Ok(Input { items: Box::new(items), count, folder })
}

fn blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

fn lines(mut reader: impl BufRead + 'static, defaults: Defaults) -> impl Iterator<Item = Line> {
    let mut number = 0;
    std::iter::from_fn(move || {
        loop {
            let mut line = Vec::new();
            number += 1;
            let failed = |what: String| {
                let record = Err(Error::new(Kind::File, what));
                Some(Line { id: Value::from(number), openai: false, record })
            };
            match reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
                Ok(0) => return None,
                Err(error) => return failed(format!("line {number}: {error}")),
                Ok(_) if line.len() as u64 == MAX_LINE && line.last() != Some(&b'\n') => {
                    // The rest of a line that is too long is no line either.
                    while reader.fill_buf().is_ok_and(|rest| !rest.is_empty()) {
                        let mut rest = Vec::new();
                        let _ = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut rest);
                        if rest.last() == Some(&b'\n') {
                            break;
                        }
                    }
                    return failed(format!(
                        "line {number}: longer than {MAX_LINE} bytes; give its pictures as files"
                    ));
                }
                Ok(_) if blank(&line) => {}
                Ok(_) => return Some(parse(&line, number, &defaults)),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Reference;

    fn defaults(prompt: Option<&str>) -> Defaults {
        Defaults { prompt: prompt.map(str::to_owned), ..Defaults::default() }
    }

    #[test]
    fn files_of_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("in.jsonl");
        std::fs::write(
            &path,
            "{\"prompt\": \"a\"}\n\n  \n{\"id\": \"x\", \"prompt\": \"b\", \"image\": \"p.png\"}\nno\n\u{fe}",
        )
        .unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend([b'\n', 0xff, b'\n']);
        std::fs::write(&path, bytes).unwrap();
        let input = open(&[path], Taken::default(), defaults(None)).unwrap();
        assert_eq!(input.count, Some(5));
        let items: Vec<Line> = input.items.collect();
        assert_eq!(items[0].id, Value::from(1));
        assert_eq!(items[1].record.as_ref().unwrap().request.media, [Reference::Image("p.png".into())]);
        assert_eq!((&items[2].id, items[2].record.is_err()), (&Value::from(5), true));
        assert!(items[4].record.as_ref().unwrap_err().to_string().contains("line 7: not JSON"));
    }

    #[test]
    fn folders() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.png", "a.png", ".hidden"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let here = [folder.path().to_owned()];
        let input = open(&here, Taken::default(), defaults(Some("what?"))).unwrap();
        assert_eq!(input.count, Some(2));
        let ids: Vec<Value> = input.items.map(|line| line.id).collect();
        assert_eq!(ids, ["a.png", "b.png"]);
        assert!(open(&here, Taken::default(), defaults(None)).err().unwrap().to_string().contains("-p"));
        let none = [folder.path().join("none")];
        assert_eq!(open(&none, Taken::default(), defaults(None)).err().unwrap().kind(), Kind::File);
    }
}
