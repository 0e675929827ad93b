//! Frames that are picture files: a folder, or a list between commas. No other program is needed.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::Frame;
use crate::error::{Error, Kind, Result};
use crate::media::policy::VideoLimits;

const PICTURES: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];

/// The pictures of a folder in the order of their names, numbers in names counted as numbers.
///
/// # Errors
/// [`Kind::File`] if the folder cannot be read, [`Kind::Media`] if it has no pictures or too many files.
pub(super) fn folder(path: &Path, limits: &VideoLimits) -> Result<Vec<PathBuf>> {
    let unreadable = |error: std::io::Error| Error::new(Kind::File, format!("{}: {error}", path.display()));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        let is_picture = file
            .extension()
            .and_then(OsStr::to_str)
            .is_some_and(|end| PICTURES.iter().any(|picture| end.eq_ignore_ascii_case(picture)));
        let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if is_picture && !hidden && file.is_file() {
            found.push(file);
        }
        few(found.len(), path.as_os_str(), limits)?;
    }
    if found.is_empty() {
        let line = format!("{}: no pictures in the folder ({})", path.display(), PICTURES.join(", "));
        return Err(Error::new(Kind::Media, line));
    }
    alphanumeric_sort::sort_path_slice(&mut found);
    Ok(found)
}

/// The files of a list, in its order.
///
/// # Errors
/// [`Kind::File`] naming the first that is not there.
pub(super) fn list(what: &OsStr, limits: &VideoLimits) -> Result<Vec<PathBuf>> {
    let Some(text) = what.to_str() else {
        return Err(Error::new(Kind::File, format!("{}: no such file", what.display())));
    };
    let found: Vec<PathBuf> = text.split(',').filter(|part| !part.is_empty()).map(PathBuf::from).collect();
    few(found.len(), what, limits)?;
    match found.iter().find(|file| !file.is_file()) {
        Some(file) => Err(Error::new(Kind::File, format!("{}: no such file", file.display()))),
        None => Ok(found),
    }
}

fn few(count: usize, name: &OsStr, limits: &VideoLimits) -> Result<()> {
    if count <= limits.max_file_frames {
        return Ok(());
    }
    Err(Error::new(Kind::Media, format!("{}: more than {} frames", name.display(), limits.max_file_frames)))
}

/// Decodes those at the positions `wanted`; `fps` gives them their times.
///
/// # Errors
/// As [`crate::media::open`] for the first that cannot be decoded; [`Kind::Media`] over a limit.
pub(super) fn read(
    paths: &[PathBuf],
    wanted: &[usize],
    fps: f64,
    limits: &VideoLimits,
) -> Result<Vec<Frame>> {
    if wanted.len() > limits.max_frames as usize {
        let line = format!(
            "{} frames are asked for, the limit is {}; ask for fewer",
            wanted.len(),
            limits.max_frames
        );
        return Err(Error::new(Kind::Media, line));
    }
    let mut bytes = 0;
    let mut frames = Vec::with_capacity(wanted.len());
    for &n in wanted {
        let pixels = crate::media::open(&paths[n], &limits.frame)?;
        bytes += pixels.rgb.len() as u64;
        if bytes > limits.max_rgb_bytes {
            let line = format!(
                "{}: with this one the frames pass {} bytes; make them smaller, or take fewer of them",
                paths[n].display(),
                limits.max_rgb_bytes
            );
            return Err(Error::new(Kind::Media, line));
        }
        #[allow(clippy::cast_precision_loss)]
        frames.push(Frame { pixels, seconds: n as f64 / fps });
    }
    Ok(frames)
}
