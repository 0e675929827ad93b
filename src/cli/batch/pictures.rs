//! Pictures given as files and folders. Each becomes a request.

use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::media;

/// Names of skipped files that one note shows at most.
const SHOWN: usize = 3;

#[derive(Debug, PartialEq)]
pub(super) struct Found {
    /// Folder that the paths of `files` start from.
    pub folder: PathBuf,
    /// Pictures sorted by name, folder after folder.
    pub files: Vec<PathBuf>,
    /// Files that are no pictures, neither by content nor by name.
    pub skipped: Vec<PathBuf>,
}

/// Finds the pictures among `paths`. A folder gives all but hidden files, and its folders too if `recursive`.
/// A file with a picture's name and other content stays: its answer is the reason.
///
/// # Errors
/// [`Kind::File`] if a path cannot be read, or if there are no pictures.
pub(super) fn find(paths: &[PathBuf], recursive: bool) -> Result<Found> {
    let mut found = Found { folder: PathBuf::new(), files: Vec::new(), skipped: Vec::new() };
    for path in paths {
        if path.is_dir() {
            walk(path, recursive, &mut found)?;
        } else if path.symlink_metadata().is_err() || !media::is_picture(path) {
            let reason = match path.metadata() {
                Err(error) => return Err(unreadable(path, &error)),
                Ok(_) => "no picture; a file of requests is given alone",
            };
            return Err(Error::new(Kind::File, format!("{}: {reason}", path.display())));
        } else {
            found.files.push(path.clone());
        }
    }
    if found.files.is_empty() {
        let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        let deeper = if recursive { "" } else { ", or take those of its folders with --recursive" };
        return Err(Error::new(
            Kind::File,
            format!("{}: holds no pictures; give a folder that does{deeper}", names.join(", ")),
        ));
    }
    // Names from a single folder are shown without it.
    if let [folder] = paths
        && folder.is_dir()
    {
        for file in found.files.iter_mut().chain(&mut found.skipped) {
            *file = file.strip_prefix(folder).map(Path::to_owned).unwrap_or_default();
        }
        found.folder.clone_from(folder);
    }
    Ok(found)
}

fn walk(folder: &Path, recursive: bool, found: &mut Found) -> Result<()> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(|error| unreadable(folder, &error))?;
    entries.sort();
    for path in entries {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        // A link to a folder could lead back here.
        let is_folder = path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
        if hidden || path.is_dir() && (!is_folder || !recursive) {
            continue;
        }
        if is_folder {
            walk(&path, recursive, found)?;
        } else if media::is_picture(&path) {
            found.files.push(path);
        } else {
            found.skipped.push(path);
        }
    }
    Ok(())
}

/// Returns one line about the files that were left out.
pub(super) fn told(skipped: &[PathBuf]) -> Option<String> {
    let names: Vec<String> = skipped.iter().take(SHOWN).map(|path| path.display().to_string()).collect();
    let more = if skipped.len() > SHOWN { ", ..." } else { "" };
    match skipped.len() {
        0 => None,
        1 => Some(format!("skipped 1 file that is no picture ({})", names.join(", "))),
        count => Some(format!("skipped {count} files that are no pictures ({}{more})", names.join(", "))),
    }
}

pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Error {
    let reason = match error.kind() {
        std::io::ErrorKind::NotFound if path.symlink_metadata().is_ok() => "a link that leads nowhere".into(),
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        _ => error.to_string(),
    };
    Error::new(Kind::File, format!("{}: {reason}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

    fn names(files: &[PathBuf]) -> Vec<String> {
        files.iter().map(|file| file.display().to_string()).collect()
    }

    #[test]
    fn pictures_by_content_or_name() {
        let folder = tempfile::tempdir().unwrap();
        let here = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(here("deep/.hidden")).unwrap();
        for (name, bytes) in [
            ("b.png", PNG),
            ("no-ending", PNG),
            ("phone.HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
            ("empty.jpg", b""),
            ("Thumbs.db", b"\xd0\xcf\x11\xe0"),
            ("notes.txt", b"no picture"),
            ("clip.MOV", b"\0\0\0\x14ftypqt  \0\0\0\0qt  "),
            ("more.txt", b""),
            (".hidden.png", PNG),
            ("deep/c.png", PNG),
            ("deep/.hidden/d.png", PNG),
        ] {
            std::fs::write(here(name), bytes).unwrap();
        }
        #[cfg(unix)]
        for (target, name) in [("nowhere", "gone.jpg"), (".", "back"), ("nowhere", "gone")] {
            std::os::unix::fs::symlink(target, here(name)).unwrap();
        }
        let found = find(&[folder.path().to_owned()], false).unwrap();
        let gone: &[&str] = if cfg!(unix) { &["gone.jpg"] } else { &[] };
        let expected = [&["b.png", "empty.jpg"], gone, &["no-ending", "phone.HEIC"]].concat();
        assert_eq!(names(&found.files), expected);
        assert_eq!(found.folder, folder.path());
        let line = told(&found.skipped).unwrap();
        let count = if cfg!(unix) { 5 } else { 4 };
        assert!(line.contains(&format!("{count} files")) && line.contains("Thumbs.db"), "{line}");
        let found = find(&[folder.path().to_owned()], true).unwrap();
        assert!(names(&found.files).contains(&"deep/c.png".to_owned()));
        assert!(!names(&found.files).iter().any(|name| name.contains("hidden")));
        let several = find(&[here("b.png"), here("deep")], false).unwrap();
        assert_eq!(several.files, [here("b.png"), here("deep/c.png")]);
        for (paths, part) in [
            (vec![here("deep/.hidden/none")], "no such file"),
            (vec![here("b.png"), here("notes.txt")], "given alone"),
            (vec![here("b.png"), here("gone")], "leads nowhere"),
        ] {
            if part.contains("nowhere") && !cfg!(unix) {
                continue;
            }
            let error = find(&paths, false).unwrap_err().to_string();
            assert!(error.contains(part), "{part}: {error}");
        }
        let empty = tempfile::tempdir().unwrap();
        let error = find(&[empty.path().to_owned()], false).unwrap_err().to_string();
        assert!(error.contains("holds no pictures") && error.contains("--recursive"), "{error}");
    }
}
