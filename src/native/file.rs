//! Files that the library may open.

use std::fs::Metadata;
use std::path::Path;

use crate::error::{Error, Kind, Result};

/// The metadata of a regular file, looked at before it is opened: opening a pipe waits for its other end.
///
/// # Errors
/// [`Kind::File`] for a file that is missing, cannot be looked at, or is a directory, a pipe or a device.
pub(super) fn regular(path: &Path) -> Result<Metadata> {
    let bad = |text: &str| Err(Error::new(Kind::File, format!("{}: {text}", path.display())));
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(metadata),
        Ok(metadata) if metadata.is_dir() => bad("is a directory; give a GGUF file"),
        Ok(_) => {
            bad("is no regular file, and a model cannot be read from a pipe or a device; give a GGUF file")
        }
        Err(error) => match error.kind() {
            std::io::ErrorKind::NotFound => bad("no such file"),
            std::io::ErrorKind::PermissionDenied => bad("permission denied"),
            _ => bad(&error.to_string()),
        },
    }
}
