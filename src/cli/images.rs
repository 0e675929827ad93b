//! Pictures as flags and the chat name them: files, `data:` URIs and `file://` URLs.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Instant;

use super::place::{Place, place};
use crate::error::{Error, Kind, Result};
use crate::media::{self, Pixels, policy::Limits};
use crate::report::milliseconds;

/// Characters of a name that a message shows.
const SHOWN: usize = 120;

/// Splits `values` into names: each is a name or a comma list. A comma that is part of a file's name or of a
/// `data:` URI stays in it.
pub(super) fn listed(values: &[OsString]) -> Vec<OsString> {
    listed_with(values, |name| Path::new(name).exists())
}

fn listed_with(values: &[OsString], exists: impl Fn(&str) -> bool) -> Vec<OsString> {
    let mut names = Vec::new();
    for value in values {
        let Some(text) = value.to_str().filter(|text| text.contains(',') && !text.starts_with("data:"))
        else {
            names.push(value.clone());
            continue;
        };
        let parts: Vec<&str> = text.split(',').collect();
        let mut from = 0;
        while from < parts.len() {
            // The longest run of parts that names a file, else one part.
            let joined = |to: usize| parts[from..to].join(",");
            let to = (from + 2..=parts.len()).rev().find(|&to| exists(&joined(to))).unwrap_or(from + 1);
            names.push(joined(to).into());
            from = to;
        }
    }
    names
}

/// Reads a picture's pixels. Returns them with the milliseconds that it took.
///
/// # Errors
/// [`Kind::File`] and [`Kind::Media`] if there is no readable picture, [`Kind::Usage`] for a folder or a web
/// address.
pub(super) fn open(name: &OsStr) -> Result<(Pixels, f64)> {
    let start = Instant::now();
    let limits = Limits::default();
    let found = match name.to_str() {
        Some(text) => place(text, Path::new(""))?,
        None => Place::File(name.into()),
    };
    let pixels = match found {
        Place::File(path) if path.is_dir() => {
            let path = path.display();
            return Err(Error::new(
                Kind::Usage,
                format!("{path}: a folder; illava batch {path} asks about each picture in it"),
            ));
        }
        Place::File(path) => media::open(&path, &limits)?,
        Place::Inline(bytes) => media::decode(&bytes, "the picture of a data URI", &limits)?,
    };
    Ok((pixels, milliseconds(start)))
}

/// Returns the name for reports: that of the file, or the beginning of a `data:` URI.
pub(super) fn shown(name: &OsStr) -> String {
    let text = name.to_string_lossy();
    match text.char_indices().nth(SHOWN).filter(|_| text.starts_with("data:")) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_names_with_commas() {
        let exists = |name: &str| ["a,b.png", "c.png", "d,e,f.png"].contains(&name);
        for (values, expected) in [
            (vec!["c.png"], vec!["c.png"]),
            (vec!["a.png,c.png", "x"], vec!["a.png", "c.png", "x"]),
            (vec!["a,b.png"], vec!["a,b.png"]),
            (vec!["c.png,a,b.png,d,e,f.png"], vec!["c.png", "a,b.png", "d,e,f.png"]),
            (vec!["data:image/png;base64,AAAA"], vec!["data:image/png;base64,AAAA"]),
        ] {
            let values: Vec<OsString> = values.into_iter().map(OsString::from).collect();
            let expected: Vec<OsString> = expected.into_iter().map(OsString::from).collect();
            assert_eq!(listed_with(&values, exists), expected);
        }
    }

    #[test]
    fn what_is_no_picture() {
        let folder = tempfile::tempdir().unwrap();
        for (name, part) in [
            (folder.path().as_os_str().to_owned(), "illava batch"),
            ("https://example.com/a.png".into(), "download it and give its path"),
            (folder.path().join("none.png").into_os_string(), "none.png"),
            ("data:image/png;base64,AAAA".into(), "the picture of a data URI"),
        ] {
            let error = open(&name).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_data_uri_is_shown_in_short() {
        assert_eq!(shown("a.png".as_ref()), "a.png");
        assert_eq!(shown(format!("data:,{}", "x".repeat(500)).as_ref()).len(), 123);
    }
}
