use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use crate::tree::relative;
use crate::{Error, Layout, Series};

/// SHA-256, in hex, over the patches in their order and the overlay's files in that of their
/// paths, names included: two builds with equal digests and one upstream version run the same C++.
///
/// # Errors
/// A patch or an overlay file cannot be read.
pub fn digest(layout: &Layout) -> Result<String, Error> {
    let mut hash = Sha256::new();
    let mut add = |name: &str, content: &[u8]| {
        // Lengths first, so that no two lists of files run together to the same bytes.
        for part in [name.as_bytes(), content] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    };
    for patch in Series::read(&layout.patches)?.patches() {
        add(patch.name(), &read(patch.path())?);
    }
    let overlay = layout.overlay();
    let walk = WalkDir::new(&overlay).sort_by_file_name().into_iter();
    for entry in walk.filter_map(Result::ok).filter(|e| !e.file_type().is_dir()) {
        add(&relative(&overlay, entry.path()), &read(entry.path())?);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(Error::io(path))
}
