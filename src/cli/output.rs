//! Output to stdout and to files.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Kind, Result};
use crate::plot::Format;

/// Writes to stdout and flushes: a stream shows its text at once.
///
/// # Errors
/// [`Kind::Closed`] if nobody reads any more, [`Kind::File`] for other causes.
pub(super) fn say(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| closed(&error).unwrap_or_else(|| Error::new(Kind::File, format!("stdout: {error}"))))
}

/// The error of an output that nobody reads any more, if `error` is that.
pub(super) fn closed(error: &io::Error) -> Option<Error> {
    (error.kind() == io::ErrorKind::BrokenPipe).then(|| Error::new(Kind::Closed, "stdout is closed"))
}

/// Checks that a file can be written at `path` before the work whose result it takes; `-` is stdout. The
/// content stays.
///
/// # Errors
/// [`Kind::File`] naming the file.
pub(super) fn writable(path: &Path) -> Result<()> {
    // A pipe is written to once.
    let special = |data: std::fs::Metadata| !data.is_file() && !data.is_dir();
    if path == Path::new("-") || path.metadata().is_ok_and(special) {
        return Ok(());
    }
    let is_new = path.symlink_metadata().is_err();
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened
        .and_then(|_| if is_new { std::fs::remove_file(path) } else { Ok(()) })
        .map_err(|error| Error::new(Kind::File, format!("{}: cannot be written: {error}", path.display())))
}

/// The same for all files that are asked for.
///
/// # Errors
/// As [`writable`].
pub(super) fn all_writable<'a>(paths: impl IntoIterator<Item = &'a Option<PathBuf>>) -> Result<()> {
    paths.into_iter().flatten().try_for_each(|path| writable(path))
}

/// Makes the folder that files will go to, and checks that they can.
///
/// # Errors
/// [`Kind::File`] naming the folder.
pub(super) fn folder(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path)
        .map_err(|error| Error::new(Kind::File, format!("{}: {error}", path.display())))?;
    writable(&path.join(".illava"))
        .map_err(|_| Error::new(Kind::File, format!("{}: no files can be written there", path.display())))
}

/// Columns of the terminal that stdout is, if it is one.
pub(super) fn width() -> Option<u16> {
    terminal_size::terminal_size_of(io::stdout()).map(|(terminal_size::Width(width), _)| width)
}

/// Writes a JSON object to `path`; `-` is stdout.
///
/// # Errors
/// [`Kind::File`] naming the file.
pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let failed = |reason: String| Error::new(Kind::File, format!("{}: {reason}", path.display()));
    let mut text = serde_json::to_string(value).map_err(|error| failed(error.to_string()))?;
    text.push('\n');
    if path == Path::new("-") {
        return say(&text);
    }
    std::fs::write(path, text).map_err(|error| failed(error.to_string()))
}

/// Writes the content made for `path`, or says why it could not be made.
///
/// # Errors
/// [`Kind::File`] naming the file.
pub(super) fn write(path: &Path, made: std::result::Result<impl AsRef<[u8]>, String>) -> Result<()> {
    made.and_then(|bytes| std::fs::write(path, bytes).map_err(|error| error.to_string()))
        .map_err(|reason| Error::new(Kind::File, format!("{}: {reason}", path.display())))
}

/// Returns the format of a drawing at `path`.
///
/// # Errors
/// [`Kind::Usage`] naming the endings there are.
pub(super) fn plot_format(path: &Path) -> Result<Format> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("png") => Ok(Format::Png),
        Some("svg") => Ok(Format::Svg),
        _ => Err(Error::usage(format!("--plot {}: give a file that ends in .png or .svg", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_written_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let there = folder.path().join("there.json");
        std::fs::write(&there, "old").unwrap();
        let new = folder.path().join("new.json");
        all_writable([&Some(there.clone()), &None, &Some(new.clone()), &Some("-".into())]).unwrap();
        assert_eq!((std::fs::read_to_string(&there).unwrap().as_str(), new.exists()), ("old", false));
        for path in [folder.path().to_owned(), folder.path().join("none/a.json"), there.join("b.json")] {
            let error = writable(&path).unwrap_err().to_string();
            assert!(error.contains("cannot be written"), "{error}");
        }
        assert!(super::folder(&folder.path().join("a/b")).is_ok());
        assert!(super::folder(&there).is_err());
    }
}
