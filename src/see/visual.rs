//! The pixels that one visual span is made of.

use crate::media::Pixels;

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

/// The pixels that a span is made of.
#[derive(Debug, Clone, PartialEq)]
pub enum VisualInput {
    Image(Pixels),
    Video(Vec<Pixels>),
}

impl VisualInput {
    /// Returns the encoder's input; `several` says whether the conversation shows more than one picture.
    #[must_use]
    pub fn visual(&self, several: bool) -> Visual<'_> {
        match self {
            VisualInput::Image(pixels) if several => Visual::OneOfSeveral(pixels),
            VisualInput::Image(pixels) => Visual::Image(pixels),
            VisualInput::Video(frames) => Visual::Video(frames.iter().collect()),
        }
    }

    #[must_use]
    pub fn is_image(&self) -> bool {
        matches!(self, VisualInput::Image(_))
    }

    /// Returns the frames as the model takes them: as one video, or each as a picture if it takes none.
    #[must_use]
    pub fn frames(frames: Vec<Pixels>, takes_videos: bool) -> Vec<Self> {
        match takes_videos {
            true => vec![VisualInput::Video(frames)],
            false => frames.into_iter().map(VisualInput::Image).collect(),
        }
    }
}
