//! Videos of `run` and of a chat: from what a person names to parts of the prompt.

use std::ffi::OsStr;
use std::time::Instant;

use super::progress::Progress;
use super::settings;
use crate::engine::{Engine, Real, Session, usual_choice, usual_frames};
use crate::error::{Error, Result};
use crate::media::Pixels;
use crate::media::policy::VideoLimits;
use crate::media::video::Source;
use crate::prompt::Part;
use crate::report::milliseconds;
use crate::schedule::Choice;

/// Looks at the video, without a model.
pub(super) fn open(what: &OsStr) -> Result<Source> {
    Source::open(what, VideoLimits::default())
}

/// What is chosen where nobody asks for a schedule.
pub(super) fn choice(settings: &settings::Run, engine: &Real) -> Choice {
    if settings.videos.is_empty() || !engine.takes_videos() {
        return settings.choice.clone();
    }
    usual_choice(&settings.choice, engine.facts())
}

/// Reads the frames that the model's authors take and has them encoded as one video; for a model without videos each
/// as a picture, which is handed to `seen` first.
pub(super) fn add(
    session: &mut Session<Real>,
    source: &Source,
    settings: &settings::Run,
    seen: &mut dyn FnMut(&Pixels),
) -> Result<Vec<Part>> {
    let progress = Progress::new();
    progress.say(format!("reading {}", source.name()));
    let begin = Instant::now();
    let engine = session.engine();
    let takes_videos = engine.takes_videos();
    let read = source.read(&settings.frames.over(usual_frames(engine.facts(), takes_videos)));
    // Ctrl-C ends ffmpeg too, which then has only half a story to tell.
    if settings.load.stop.is_asked() {
        return Err(Error::interrupted());
    }
    let video = read?;
    let decode_ms = milliseconds(begin);
    progress.clear();
    if let Some(line) = &video.remark {
        eprintln!("note: {line}");
    }
    let count = video.frames.len();
    if takes_videos {
        let progress = Progress::new();
        progress.say(format!("encoding {count} frames"));
        let frames = video.frames.into_iter().map(|frame| frame.pixels).collect();
        return Ok(vec![Part::Image(session.add_video(frames, decode_ms)?)]);
    }
    eprintln!("note: this model takes no videos; {count} frames of {} go in as pictures", video.name);
    #[allow(clippy::cast_precision_loss)]
    let share_ms = decode_ms / count as f64;
    let mut parts = Vec::with_capacity(count);
    for (i, frame) in video.frames.into_iter().enumerate() {
        let progress = Progress::new();
        progress.say(format!("encoding frame {} of {count}", i + 1));
        seen(&frame.pixels);
        parts.push(Part::Image(session.add_image(frame.pixels, share_ms)?));
    }
    Ok(parts)
}
