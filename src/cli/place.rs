//! Place of a picture or video that a line, a flag or the chat names.

use std::path::{Path, PathBuf};

use data_url::DataUrl;
use url::Url;

use crate::error::{Error, Result};

#[derive(Debug, PartialEq)]
pub(super) enum Place {
    File(PathBuf),
    Inline(Vec<u8>),
}

/// Resolves `url`. A relative path starts from `folder`.
///
/// # Errors
/// [`crate::error::Kind::Usage`] for a web address and for a damaged `data:` URI.
pub(super) fn place(url: &str, folder: &Path) -> Result<Place> {
    let bad = |what: &str| Error::usage(format!("{}: {what}", url.chars().take(60).collect::<String>()));
    let scheme = url.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        Some("data") => {
            let data = DataUrl::process(url.trim()).map_err(|_| bad("the data URI has no comma"))?;
            let (bytes, _) = data.decode_to_vec().map_err(|_| bad("the data URI has bad base64"))?;
            Ok(Place::Inline(bytes))
        }
        Some("http" | "https") => Err(bad("nothing is fetched here; download it and give its path")),
        Some("file") => {
            let whole = Url::parse(url).ok().and_then(|url| url.to_file_path().ok());
            let rest = url.split_at(5).1;
            Ok(Place::File(whole.unwrap_or_else(|| folder.join(rest.trim_start_matches("//")))))
        }
        // `join` keeps a path that is absolute.
        _ => Ok(Place::File(folder.join(url))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let file = |path: &str| Ok(Place::File(path.into()));
        for (url, expected) in [
            ("a.png", file("/data/a.png")),
            ("/a.png", file("/a.png")),
            ("file:///a%20b.png", file("/a b.png")),
            ("file://a.png", file("/data/a.png")),
            ("data:image/png;base64,aGk=", Ok(Place::Inline(b"hi".to_vec()))),
            ("data:;base64,aGk=", Ok(Place::Inline(b"hi".to_vec()))),
        ] {
            assert_eq!(place(url, Path::new("/data")), expected, "{url}");
        }
        for (url, part) in
            [("https://x/a.png", "nothing is fetched"), ("data:x", "comma"), ("data:;base64,?", "base64")]
        {
            let error = place(url, Path::new("")).unwrap_err();
            assert!(error.to_string().contains(part), "{url}: {error}");
        }
    }
}
