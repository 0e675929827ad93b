//! Videos of `run` and of a chat: from what a person names to parts of the prompt.

use std::ffi::OsStr;
use std::time::Instant;

use super::progress::Progress;
use super::settings;
use crate::engine::{Real, Session};
use crate::error::{Error, Result};
use crate::media::Pixels;
use crate::media::policy::VideoLimits;
use crate::media::video::{Sampling, Source};
use crate::prompt::Part;

/// What a model gets that was not trained on videos: few frames, since each costs a picture.
const AS_PICTURES: Sampling = Sampling::Uniform { frames: 8, multiple: 1 };

/// Looks at the video, without a model.
pub(super) fn open(what: &OsStr) -> Result<Source> {
    Source::open(what, VideoLimits::default())
}

/// Reads the frames and has them encoded, each as a picture that is handed to `seen` first.
pub(super) fn add(
    session: &mut Session<Real>,
    source: &Source,
    settings: &settings::Run,
    seen: &mut dyn FnMut(&Pixels),
) -> Result<Vec<Part>> {
    let progress = Progress::new();
    progress.say(format!("reading {}", source.name()));
    let begin = Instant::now();
    let read = source.read(&settings.frames.over(AS_PICTURES));
    // Ctrl-C ends ffmpeg too, which then has only half a story to tell.
    if settings.load.stop.is_asked() {
        return Err(Error::interrupted());
    }
    let video = read?;
    let count = video.frames.len();
    #[allow(clippy::cast_precision_loss)]
    let decode_ms = begin.elapsed().as_secs_f64() * 1000.0 / count as f64;
    progress.clear();
    eprintln!("note: this model takes no videos; {count} frames of {} go in as pictures", video.name);
    if let Some(line) = &video.remark {
        eprintln!("note: {line}");
    }
    let mut parts = Vec::with_capacity(count);
    for (i, frame) in video.frames.into_iter().enumerate() {
        let progress = Progress::new();
        progress.say(format!("encoding frame {} of {count}", i + 1));
        seen(&frame.pixels);
        parts.push(Part::Image(session.add_image(frame.pixels, decode_ms)?));
    }
    Ok(parts)
}
