//! How a pair sees: pixels to the encoder's inputs, through the encoder, to the rows of one span.
//!
//! [`EncodedImage`] is the result. [`EncoderThread`] makes one after another beside the decoder; [`PictureCache`] keeps
//! them in memory and [`Store`] on disk.

mod cache;
mod compute_lock;
mod downsample;
mod encode;
mod encoded;
mod encoder_thread;
mod identity;
mod processor;
mod sizes;
mod store;
mod strategy;
mod video_rule;
mod visual;

pub use cache::{Key, PictureCache, PictureCacheView, decoded_key, encoded_key, scoped_key};
pub use compute_lock::ComputeLock;
pub(crate) use encode::SpanEncoder;
pub use encoded::EncodedImage;
#[cfg(test)]
pub(crate) use encoded::tests::picture;
pub use encoder_thread::{EncodeJob, Encoded, EncoderThread};
pub use identity::encoder as encoder_identity;
pub(crate) use processor::{Prepared, Processor};
pub use store::Store;
pub(crate) use strategy::in_decoder;
pub use visual::{Visual, VisualInput, usual_choice};

use crate::error::{Error, Kind, Result};
use crate::media::{Pixels, video};
use crate::schedule::Schedule;

/// The image encoder of a pair.
pub trait Encoder {
    /// Pixels to embeddings, merging on the way.
    ///
    /// # Errors
    /// A schedule the picture cannot take, or the library's own.
    fn encode(&mut self, pixels: &Pixels, schedule: &Schedule) -> Result<EncodedImage>;

    /// The same for anything that makes one span: a picture among others, a video.
    ///
    /// # Errors
    /// As [`Encoder::encode`]; a video where the model takes none.
    fn encode_span(&mut self, visual: &Visual<'_>, schedule: &Schedule) -> Result<EncodedImage> {
        match visual {
            Visual::Image(pixels) | Visual::OneOfSeveral(pixels) => self.encode(pixels, schedule),
            Visual::Video(_) => Err(Error::new(Kind::Model, "this model takes no videos")),
        }
    }

    /// Whether [`Visual::OneOfSeveral`] is encoded otherwise than [`Visual::Image`].
    fn counts_pictures(&self) -> bool {
        false
    }

    /// Which frames the model's authors take of a video; `None` where [`Visual::Video`] cannot be encoded.
    fn video_sampling(&self) -> Option<video::Sampling> {
        None
    }

    /// Whether [`Visual::Video`] can be encoded.
    fn takes_videos(&self) -> bool {
        self.video_sampling().is_some()
    }

    /// Bytes of the encoder's compute buffers as they stand.
    fn encoder_bytes(&self) -> u64;
}
