//! Account of what a sequence of the decoder's cache holds.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::MergeStep;
use crate::see::{EncodedImage, Key};

/// One item of a sequence.
#[derive(Clone, Serialize, Deserialize)]
pub(super) enum CachedEntry {
    Token(i32),
    #[serde(with = "shared")]
    Picture(Arc<CachedPicture>),
}

/// A shared picture as the picture: serde's own support for `Arc` is a feature that every crate would be built with.
mod shared {
    use super::{Arc, CachedPicture, Deserialize, Serialize};

    pub(super) fn serialize<S: serde::Serializer>(
        picture: &Arc<CachedPicture>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        picture.as_ref().serialize(to)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        from: D,
    ) -> Result<Arc<CachedPicture>, D::Error> {
        CachedPicture::deserialize(from).map(Arc::new)
    }
}

/// A picture in the decoder's cache.
#[derive(Serialize, Deserialize)]
pub(super) struct CachedPicture {
    pub key: Key,
    /// Without embeddings.
    pub image: EncodedImage,
    /// Merge steps of the decoder.
    pub steps: Vec<MergeStep>,
}

impl CachedEntry {
    fn positions(&self) -> i32 {
        match self {
            CachedEntry::Token(_) => 1,
            CachedEntry::Picture(picture) => picture.image.extent,
        }
    }

    fn tokens(&self) -> u32 {
        match self {
            CachedEntry::Token(_) => 1,
            CachedEntry::Picture(picture) => picture.image.plan.tokens,
        }
    }

    fn cells(&self, segment: usize) -> u32 {
        match self {
            CachedEntry::Token(_) => 1,
            CachedEntry::Picture(picture) => {
                picture.image.plan.segments.get(segment).map_or(0, |segment| segment.tokens)
            }
        }
    }
}

/// Text tokens and pictures, in order.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Sequence(Vec<CachedEntry>);

impl Sequence {
    pub(super) fn entries(&self) -> &[CachedEntry] {
        &self.0
    }

    pub(super) fn push(&mut self, entry: CachedEntry) {
        self.0.push(entry);
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// Its first `len` entries.
    pub(super) fn first(&self, len: usize) -> Self {
        Self(self.0[..len].to_vec())
    }

    /// The first position after it.
    pub(super) fn end_position(&self) -> i32 {
        self.0.iter().map(CachedEntry::positions).sum()
    }

    /// Text tokens and embeddings of the first `len` entries.
    pub(super) fn tokens(&self, len: usize) -> u32 {
        self.0[..len].iter().map(CachedEntry::tokens).sum()
    }

    /// Cells that it takes in `segment`.
    pub(super) fn cells(&self, segment: usize) -> u32 {
        self.0.iter().map(|entry| entry.cells(segment)).sum()
    }
}
