//! Captions: the answer about `photo.jpg` goes into `photo.txt` beside it, where trainers and galleries look for it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::pictures::Found;
use crate::error::{Error, Kind, Result};

/// Treatment of a picture that has its caption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    /// Nothing is begun: somebody wrote that text.
    Refused,
    /// The picture is left out.
    Kept,
    /// The picture is asked about, and the new caption replaces the old one.
    Replaced,
}

impl Existing {
    pub(super) fn of(skip_done: bool, overwrite: bool) -> Self {
        match (skip_done, overwrite) {
            (true, _) => Self::Kept,
            (false, true) => Self::Replaced,
            (false, false) => Self::Refused,
        }
    }
}

/// The caption's file: the picture's name with the ending `.txt`.
fn beside(picture: &Path) -> PathBuf {
    picture.with_extension("txt")
}

/// Leaves in `found` the pictures that still need a caption, and says how many have one.
///
/// # Errors
/// [`Kind::File`] if two pictures share a caption's name, if a picture's own name is that name, and, with
/// [`Existing::Refused`], if a caption is there.
pub(super) fn due(existing: Existing, found: &mut Found) -> Result<usize> {
    let refused = |what: String| Err(Error::new(Kind::File, what));
    let folder = found.folder.clone();
    let mut owners = HashMap::new();
    for file in &found.files {
        let caption = beside(file);
        if caption == *file {
            return refused(format!("{}: a picture that ends in .txt; rename it", file.display()));
        }
        if let Some(other) = owners.insert(caption.clone(), file.clone()) {
            let (one, two, name) = (other.display(), file.display(), caption.display());
            return refused(format!("{one} and {two} share the caption {name}; rename one of them"));
        }
    }
    let has_caption = |file: &Path| {
        // An empty file is what a full disk leaves.
        folder.join(beside(file)).metadata().is_ok_and(|metadata| metadata.len() > 0)
    };
    let before = found.files.len();
    match existing {
        Existing::Replaced => {}
        Existing::Kept => found.files.retain(|file| !has_caption(file)),
        Existing::Refused => {
            let done: Vec<&PathBuf> = found.files.iter().filter(|file| has_caption(file)).collect();
            if let Some(first) = done.first() {
                let (n, name) = (done.len(), beside(first));
                return refused(format!(
                    "{}: is there already, as {n} of {before} captions are; give --skip-done to leave those pictures out, or --overwrite to write them anew",
                    folder.join(name).display()
                ));
            }
        }
    }
    // Captions lie among the pictures; they are no files that somebody would miss.
    found.skipped.retain(|file| !owners.contains_key(file));
    Ok(before - found.files.len())
}

/// Writes the caption of `picture`, whole or not at all.
///
/// # Errors
/// [`Kind::File`] naming the file.
pub(super) fn write(picture: &Path, text: &str) -> Result<()> {
    let path = beside(picture);
    let part = picture.with_extension("txt.part");
    std::fs::write(&part, format!("{text}\n"))
        .and_then(|()| std::fs::rename(&part, &path))
        .map_err(|error| Error::new(Kind::File, format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::super::pictures::find;
    use super::*;

    #[test]
    fn pictures_with_captions() {
        let folder = tempfile::tempdir().unwrap();
        let here = |name: &str| folder.path().join(name);
        let png = b"\x89PNG\r\n\x1a\n";
        for name in ["a.png", "b.png", "c.png"] {
            std::fs::write(here(name), png).unwrap();
        }
        let found = || find(&[folder.path().to_owned()], false).unwrap();
        write(&here("b.png"), "a boat").unwrap();
        std::fs::write(here("c.txt"), "").unwrap();
        assert_eq!(std::fs::read_to_string(here("b.txt")).unwrap(), "a boat\n");

        let error = due(Existing::Refused, &mut found()).unwrap_err().to_string();
        assert!(
            error.contains("b.txt") && error.contains("1 of 3") && error.contains("--skip-done"),
            "{error}"
        );
        let mut rest = found();
        assert_eq!(due(Existing::Kept, &mut rest).unwrap(), 1);
        assert_eq!(rest.files, ["a.png", "c.png"].map(PathBuf::from));
        assert!(rest.skipped.is_empty(), "{:?}", rest.skipped);
        let mut all = found();
        assert_eq!((due(Existing::Replaced, &mut all).unwrap(), all.files.len()), (0, 3));

        std::fs::write(here("a.jpg"), png).unwrap();
        let error = due(Existing::Kept, &mut found()).unwrap_err().to_string();
        assert!(error.contains("a.jpg and a.png share"), "{error}");
        std::fs::remove_file(here("a.jpg")).unwrap();
        std::fs::write(here("d.txt"), png).unwrap();
        let error = due(Existing::Kept, &mut found()).unwrap_err().to_string();
        assert!(error.contains("d.txt: a picture that ends in .txt"), "{error}");
    }
}
