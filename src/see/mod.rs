//! How a pair sees: pixels to the encoder's inputs, through the encoder, to the rows of one span.
//!
//! [`EncodedImage`] is the result. [`EncoderThread`] makes one after another beside the decoder; [`PictureCache`] keeps
//! them in memory and [`Store`] on disk.

mod cache;
mod compute_lock;
mod content;
pub mod crop;
mod cutting;
mod downsample;
mod encode;
mod encoded;
mod encoder_thread;
mod film;
mod hired;
mod identity;
mod layout;
mod library;
mod library_size;
mod marked;
mod outline;
mod processor;
mod sizes;
mod store;
mod strategy;
mod tower;
mod video_rule;
mod visual;

pub use cache::{Key, PictureCache, PictureCacheView, decoded_key, encoded_key, scoped_key};
pub use compute_lock::ComputeLock;
#[cfg(test)]
pub(crate) use encoded::tests::picture;
pub use encoded::{EncodedImage, ShownFrame};
pub use encoder_thread::{EncodeJob, Encoded, EncoderThread};
pub use identity::pair_identity;
pub use layout::Layout;
pub(crate) use library_size::{LibraryCut, cells};
pub(crate) use marked::Marked;
pub(crate) use outline::rows as expected_rows;
pub use outline::{Expected, Outline};
pub(crate) use processor::{Prepared, Processor};
pub use store::Store;
pub(crate) use strategy::{in_decoder, score, thinning};
pub use tower::{Input, Tower, TowerEncoder};
pub use visual::{Visual, VisualInput};

use std::sync::atomic::AtomicBool;

use crate::error::Result;
use crate::schedule::Schedule;

/// An image encoder.
pub trait Encoder {
    /// Encodes what makes one span, merging on the way.
    ///
    /// # Errors
    /// A schedule that the picture cannot take, a video for a model without videos, or the library's own.
    fn encode_span(&mut self, visual: &Visual<'_>, schedule: &Schedule) -> Result<EncodedImage> {
        self.encode_until(visual, schedule, &AtomicBool::new(false))
    }

    /// The same, ended soon after `cancelled` becomes true.
    ///
    /// # Errors
    /// As [`Encoder::encode_span`], and [`crate::error::Kind::Interrupted`].
    fn encode_until(
        &mut self,
        visual: &Visual<'_>,
        schedule: &Schedule,
        cancelled: &AtomicBool,
    ) -> Result<EncodedImage>;

    /// Bytes of the encoder's compute buffers as they stand.
    fn encoder_bytes(&self) -> u64;

    /// Frees the compute buffers until the next picture.
    ///
    /// # Errors
    /// The library's own, without memory.
    fn free_buffers(&mut self) -> Result<()>;
}
