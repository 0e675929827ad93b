//! Output to stdout and to files.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use crate::error::{Error, Kind, Result};
use crate::plot::Format;

/// Writes to stdout and flushes: a stream shows its text at once.
///
/// # Errors
/// [`Kind::File`] if nobody reads any more.
pub(super) fn say(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Error::new(Kind::File, format!("stdout: {error}")))
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
