//! Files that the library may open.

use std::fs::Metadata;
use std::path::Path;

use crate::error::{Error, Kind, Result};

/// Whether both names lead to one file, by links of either kind too.
#[must_use]
pub fn is_same(one: &Path, other: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let id = |path: &Path| path.metadata().map(|file| (file.dev(), file.ino()));
        matches!((id(one), id(other)), (Ok(one), Ok(other)) if one == other)
    }
    #[cfg(not(unix))]
    {
        matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
    }
}

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
