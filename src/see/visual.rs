//! The pixels that one visual span is made of.

use std::sync::Arc;

use super::cache::Key;
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
    /// Picture `at` of those that a strategy compares with each other; `all` is the same for the same pictures only.
    Among { pictures: Vec<&'a Pixels>, at: usize, all: Key },
}

impl<'a> Visual<'a> {
    /// The picture; `None` for a video.
    #[must_use]
    pub fn picture(&self) -> Option<&'a Pixels> {
        match self {
            Visual::Image(picture) | Visual::OneOfSeveral(picture) => Some(picture),
            Visual::Among { pictures, at, .. } => pictures.get(*at).copied(),
            Visual::Video(_) => None,
        }
    }

    /// Frames that each of `tiles` inputs shows; 0 for a picture.
    #[must_use]
    pub fn frames_per_tile(&self, tiles: usize) -> usize {
        match self {
            Visual::Video(frames) => frames.len().div_ceil(tiles.max(1)),
            _ => 0,
        }
    }

    /// Pixels across and down; those of the first frame.
    #[must_use]
    pub fn size(&self) -> (u32, u32) {
        let shown = match self {
            Visual::Video(frames) => frames.first().copied(),
            _ => self.picture(),
        };
        shown.map_or((0, 0), |shown| (shown.width, shown.height))
    }
}

/// The pixels that a span is made of.
#[derive(Debug, Clone, PartialEq)]
pub enum VisualInput {
    Image(Pixels),
    Video(Vec<Pixels>),
    /// As [`Visual::Among`].
    Among {
        pictures: Arc<Vec<Pixels>>,
        at: usize,
        all: Key,
    },
}

impl VisualInput {
    /// Returns the encoder's input; `several` says whether the conversation shows more than one picture.
    #[must_use]
    pub fn visual(&self, several: bool) -> Visual<'_> {
        match self {
            VisualInput::Image(pixels) if several => Visual::OneOfSeveral(pixels),
            VisualInput::Image(pixels) => Visual::Image(pixels),
            VisualInput::Video(frames) => Visual::Video(frames.iter().collect()),
            VisualInput::Among { pictures, at, all } => {
                Visual::Among { pictures: pictures.iter().collect(), at: *at, all: *all }
            }
        }
    }

    #[must_use]
    pub fn is_image(&self) -> bool {
        !matches!(self, VisualInput::Video(_))
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
