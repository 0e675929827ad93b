//! What makes one visual span.

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
