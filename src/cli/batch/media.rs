//! References of a line to pixels: files and data URIs.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use data_url::DataUrl;
use url::Url;

use crate::error::{Error, Kind, Result};
use crate::media;
use crate::media::policy::{Limits, VideoLimits};
use crate::media::video::{Programs, Source};
use crate::report::milliseconds;
use crate::request::{Picture, Reference, VideoPlan};

/// The picture or video, or the pictures that stand for a video. Relative paths start from `folder`.
///
/// # Errors
/// [`Kind::File`] and [`Kind::Media`] for what cannot be read, [`Kind::Usage`] for what is no file and no data URI.
pub(super) fn read(reference: &Reference, folder: &Path, plan: VideoPlan) -> Result<Vec<Picture>> {
    let start = Instant::now();
    match reference {
        Reference::Image(url) => {
            let limits = Limits::default();
            let pixels = match place(url, folder)? {
                Place::File(path) => media::open(&path, &limits)?,
                Place::Inline(bytes) => media::decode(&bytes, "the picture of a data URI", &limits)?,
            };
            Ok(vec![Picture::new(pixels, milliseconds(start))])
        }
        Reference::Video(url) => {
            let limits = VideoLimits::default();
            // The temporary file lives as long as the source is read.
            let mut kept = tempfile::NamedTempFile::new();
            let source = match place(url, folder)? {
                Place::File(path) => Source::open(path.as_os_str(), limits)?,
                Place::Inline(bytes) => {
                    let failed = |error| Error::new(Kind::File, format!("the temporary folder: {error}"));
                    let file = kept
                        .as_mut()
                        .map_err(|error| failed(std::io::Error::new(error.kind(), error.to_string())))?;
                    file.write_all(&bytes).and_then(|()| file.flush()).map_err(failed)?;
                    let name = "the video of a data URI".to_owned();
                    Source::open_file(file.path(), name, limits, Programs::default())?
                }
            };
            let video = source.read(&plan.frames.at_most(limits.max_frames))?;
            plan.pictures(video, milliseconds(start))
        }
    }
}

#[derive(Debug, PartialEq)]
enum Place {
    File(PathBuf),
    Inline(Vec<u8>),
}

fn place(url: &str, folder: &Path) -> Result<Place> {
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
