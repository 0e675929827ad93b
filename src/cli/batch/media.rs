//! References in a line to pixels: files and data URIs.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use crate::cli::place::{Place, place};
use crate::error::{Error, Kind, Result};
use crate::media;
use crate::media::policy::{Limits, VideoLimits};
use crate::media::video::{Programs, Source};
use crate::report::milliseconds;
use crate::request::{Picture, Reference, VideoPlan};

/// Reads a picture or video, or the pictures that stand for a video. Relative paths start from `folder`.
///
/// # Errors
/// [`Kind::File`] and [`Kind::Media`] if the reference cannot be read, [`Kind::Usage`] if it is neither a
/// file nor a data URI.
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
