//! What makes one visual span, and what is usual for it.

use super::pair::Facts;
use crate::media::Pixels;
use crate::media::video::Sampling;
use crate::schedule::{Choice, MergeFlag, Preset};

/// Something to look at.
#[derive(Debug, Clone)]
pub enum Visual<'a> {
    /// The conversation's only picture.
    Image(&'a Pixels),
    /// A picture in a conversation with several; some models show fewer details of each then.
    OneOfSeveral(&'a Pixels),
    /// The frames of a video, in order.
    Video(Vec<&'a Pixels>),
}

impl Visual<'_> {
    /// Pixels across and down; those of the first frame.
    #[must_use]
    pub fn size(&self) -> (u32, u32) {
        match self {
            Visual::Image(picture) | Visual::OneOfSeveral(picture) => (picture.width, picture.height),
            Visual::Video(frames) => frames.first().map_or((0, 0), |frame| (frame.width, frame.height)),
        }
    }
}

/// What a span is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Image(Pixels),
    /// The frames of a video, in order.
    Video(Vec<Pixels>),
}

impl Source {
    /// As it is shown in a conversation with one picture or `several`.
    #[must_use]
    pub fn visual(&self, several: bool) -> Visual<'_> {
        match self {
            Source::Image(pixels) if several => Visual::OneOfSeveral(pixels),
            Source::Image(pixels) => Visual::Image(pixels),
            Source::Video(frames) => Visual::Video(frames.iter().collect()),
        }
    }
}

/// What a model gets that was not trained on videos: few frames, since each costs a picture.
const AS_PICTURES: Sampling = Sampling::Uniform { frames: 8, multiple: 1 };

/// The frames that the model's authors take of a video; with `takes_videos` as [`super::Engine::takes_videos`].
#[must_use]
pub fn usual_frames(facts: &Facts, takes_videos: bool) -> Sampling {
    match takes_videos {
        true if facts.n_pos > 1 => Sampling::QWEN2VL,
        true => Sampling::ONEVISION,
        false => AS_PICTURES,
    }
}

/// What is chosen for a conversation that shows a video as one span, where nobody asked for a schedule: the video's,
/// unless the model has its own.
#[must_use]
pub fn usual_choice(asked: &Choice, facts: &Facts) -> Choice {
    let open = asked.merge.is_none() && asked.vit.is_none() && asked.llm.is_none();
    let own = facts.pair.recommended.is_some() || facts.n_pos > 1;
    let merge = if open && !own { Some(MergeFlag::Preset(Preset::Video)) } else { asked.merge };
    Choice { merge, ..asked.clone() }
}
