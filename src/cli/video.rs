//! Videos: from the name that a person gives to the frames that a model gets.

use std::ffi::OsStr;
use std::time::Instant;

use super::progress::Progress;
use super::settings;
use crate::answer::{Engine, LlamaEngine, Session};
use crate::error::{Error, Result};
use crate::media::Pixels;
use crate::media::policy::VideoLimits;
use crate::media::video::{FrameChoice, Source};
use crate::pair::usual_choice;
use crate::prompt::Part;
use crate::report::milliseconds;
use crate::schedule::{Choice, Strategy};
use crate::see::VisualInput;
use crate::stop::Stop;

/// Looks at the video, without a model.
pub(super) fn open(what: &OsStr) -> Result<Source> {
    Source::open(what, VideoLimits::default())
}

/// Returns the default schedule, with `videos` as in [`usual_choice`].
pub(super) fn choice(asked: &Choice, videos: bool, engine: &LlamaEngine) -> Choice {
    match videos && engine.facts().takes_videos() {
        true => usual_choice(asked, engine.facts()),
        false => asked.clone(),
    }
}

/// Reads the frames that the model's authors or the strategy's take, or that `choice` names. They form one span, or a
/// picture each for a model without videos. Returns the milliseconds too.
pub(super) fn read(
    source: &Source,
    choice: FrameChoice,
    (engine, strategy): (&LlamaEngine, Strategy),
    stop: Stop,
) -> Result<(Vec<VisualInput>, f64)> {
    let progress = Progress::new();
    progress.say(format!("reading {}", source.name()));
    let begin = Instant::now();
    let facts = engine.facts();
    let (one_span, sampling) = choice.form(facts.video_sampling, strategy.chooses_frames());
    let read = source.read(&sampling);
    // Ctrl-C ends ffmpeg too, and its message is then cut short.
    if stop.is_asked() {
        return Err(Error::interrupted());
    }
    let video = read?;
    let decode_ms = milliseconds(begin);
    progress.clear();
    if let Some(line) = &video.remark {
        eprintln!("note: {line}");
    }
    if !one_span {
        let (count, name) = (video.frames.len(), &video.name);
        eprintln!("note: this model takes no videos; {count} frames of {name} go in as pictures");
    }
    let frames: Vec<Pixels> = video.frames.into_iter().map(|frame| frame.pixels).collect();
    Ok((VisualInput::frames(frames, one_span), decode_ms))
}

/// Reads a video and encodes it. Each span goes to `seen` first.
pub(super) fn add(
    session: &mut Session<LlamaEngine>,
    source: &Source,
    settings: &settings::Run,
    seen: &mut dyn FnMut(&VisualInput),
) -> Result<Vec<Part>> {
    let strategy = session.schedule().strategy;
    let (spans, decode_ms) = read(source, settings.frames, (session.engine(), strategy), settings.load.stop)?;
    let count = spans.len();
    #[allow(clippy::cast_precision_loss)]
    let share_ms = decode_ms / count as f64;
    let mut parts = Vec::with_capacity(count);
    for (i, input) in spans.into_iter().enumerate() {
        let progress = Progress::new();
        progress.say(match &input {
            VisualInput::Video(frames) => format!("encoding {} frames", frames.len()),
            _ => format!("encoding frame {} of {count}", i + 1),
        });
        seen(&input);
        parts.push(Part::Image(session.add_input(input, share_ms)?));
    }
    Ok(parts)
}
