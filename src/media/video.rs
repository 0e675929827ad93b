//! Videos: a file that ffmpeg reads, a folder of frames, or a list of them.
//!
//! A [`Video`] is opened before a model is loaded, so that a wrong path costs no time. It is read when the
//! model's way of sampling is known.

mod child;
mod extract;
mod probe;
mod sampling;
mod stills;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub use sampling::{FrameChoice, Sampling};

use super::policy::VideoLimits;
use super::{Moment, Pixels};
use crate::error::{Error, Kind, Result};

/// A video, looked at but not read.
#[derive(Debug, Clone)]
pub struct Source {
    name: String,
    form: Form,
    limits: VideoLimits,
    programs: Programs,
}

#[derive(Debug, Clone)]
enum Form {
    File { path: PathBuf, probe: probe::Probe },
    Stills(Vec<PathBuf>),
}

/// The programs that read video files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    pub ffmpeg: PathBuf,
    pub ffprobe: PathBuf,
}

impl Default for Programs {
    /// Those that PATH finds.
    fn default() -> Self {
        Self { ffmpeg: "ffmpeg".into(), ffprobe: "ffprobe".into() }
    }
}

/// The frames of a video that the model sees.
#[derive(Debug, Clone, PartialEq)]
pub struct Video {
    pub name: String,
    /// In time order, at least one, a multiple of the sampling's `multiple`. Upright; those of a file are of one
    /// size, a list of pictures may differ.
    pub frames: Vec<Frame>,
    /// Frames a second of `frames`, not of the file.
    pub fps: f64,
    /// Remark for a person: one line or none.
    pub remark: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    pub pixels: Pixels,
    /// Since the first frame of the file.
    pub seconds: f64,
}

impl Programs {
    /// Whether both can be started.
    #[must_use]
    pub fn are_here(&self) -> bool {
        [&self.ffmpeg, &self.ffprobe].into_iter().all(|program| {
            let asked = Command::new(program)
                .arg("-version")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            asked.is_ok_and(|status| status.success())
        })
    }
}

impl Source {
    /// Looks at `what`: a video file, a folder of pictures, or several picture files between commas.
    ///
    /// # Errors
    /// [`Kind::File`] if it cannot be read, [`Kind::Media`] if it is no video or over a limit.
    pub fn open(what: &OsStr, limits: VideoLimits) -> Result<Self> {
        Self::open_with(what, limits, Programs::default())
    }

    /// [`Self::open`] with other programs than those of PATH.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(what: &OsStr, limits: VideoLimits, programs: Programs) -> Result<Self> {
        let name = what.to_string_lossy().into_owned();
        let path = Path::new(what);
        let form = match path.metadata() {
            Ok(found) if found.is_dir() => Form::Stills(stills::folder(path, &limits)?),
            Ok(found) if found.is_file() => {
                return Self::open_file(path, name, limits, programs);
            }
            // A pipe or a device has no end that could be looked for.
            Ok(_) => return Err(Error::new(Kind::File, format!("{name}: not a file; save the video first"))),
            Err(_) if name.contains(',') => Form::Stills(stills::list(what, &limits)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::new(Kind::File, format!("{name}: no such file")));
            }
            Err(error) => return Err(Error::new(Kind::File, format!("{name}: {error}"))),
        };
        Ok(Self { name, form, limits, programs })
    }

    /// Looks at a video file that is called `name` wherever it is spoken of.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_file(path: &Path, name: String, limits: VideoLimits, programs: Programs) -> Result<Self> {
        let probe = probe::probe(path, &name, &limits, &programs)?;
        Ok(Self { name, form: Form::File { path: path.to_owned(), probe }, limits, programs })
    }

    /// The name that the video was opened by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes the frames that `sampling` names.
    ///
    /// # Errors
    /// [`Kind::Media`] if none can be decoded, or the limits of time or memory are passed.
    pub fn read(&self, sampling: &Sampling) -> Result<Video> {
        let (mut frames, fps, remark) = match &self.form {
            Form::File { path, probe } => {
                let total = probe.seconds.len();
                let wanted = sampling.of_file(total, probe.fps);
                let call =
                    extract::Call { path, name: &self.name, limits: &self.limits, programs: &self.programs };
                let (frames, remark) = extract::extract(&call, probe, &wanted)?;
                #[allow(clippy::cast_precision_loss)]
                let fps = wanted.len() as f64 / total.max(1) as f64 * probe.fps;
                (frames, fps, remark)
            }
            Form::Stills(paths) => {
                let wanted = sampling.of_stills(paths.len());
                let rate = sampling.stills_rate();
                (stills::read(paths, &wanted, rate, &self.limits)?, rate, None)
            }
        };
        for frame in &mut frames {
            frame.pixels.moment = Some(Moment { seconds: frame.seconds, fps });
        }
        // A model that pairs frames needs a whole number of pairs.
        while let Some(last) = frames.last().filter(|_| !frames.len().is_multiple_of(sampling.multiple())) {
            let again = Frame { pixels: last.pixels.clone(), seconds: last.seconds };
            frames.push(again);
        }
        Ok(Video { name: self.name.clone(), frames, fps, remark })
    }
}
