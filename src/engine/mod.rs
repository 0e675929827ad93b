//! The stages of an answer: request -> pixels -> plan -> encoded image -> prefilled sequence ->
//! tokens -> report.
//!
//! [`Engine`] is what a loaded pair can do, one call per stage; [`Session`] is the conversation
//! on top of any engine: what is cached, what has to be computed, when to stop, what to report.

mod downsample;
mod encode;
mod encoded;
mod film;
mod header;
mod inspection;
mod kv_shape;
mod load;
mod pair;
mod processor;
mod real;
mod rows;
mod session;
mod sizing;
pub mod slots;
mod stop;
mod strategy;
mod stream;
mod tally;
mod turns;
mod visual;

pub use encoded::EncodedImage;
pub use inspection::{Asked, Inspection, MergedFacts, PictureFacts, PresetFacts};
pub use kv_shape::KvShape;
pub use load::{LoadSettings, Loading};
pub use pair::{Facts, Pair, TypeShare};
pub use real::{Input, Real};
pub use rows::{Entry, Rows, end_position};
pub use session::{Answer, Finish, Limits, Session};
pub use sizing::{CacheLayout, Demand, Sizing};
pub use stop::Stop;
pub use turns::Turns;
pub use visual::{Shown, Visual, usual_choice};

pub use crate::native::{
    FlashAttention, Grammar, KvType, LoadMode, MAX_SEQUENCES, MergeStep, Penalties, Sampling, SegmentInfo,
    Weights,
};

use crate::error::{Error, Kind, Result};
use crate::media::{Pixels, video};
use crate::prompt::{Chunk, Message};
use crate::schedule::Schedule;

/// A loaded pair of text model and image encoder.
pub trait Engine {
    /// What was loaded.
    fn facts(&self) -> &Facts;

    /// Pixels to embeddings, merging on the way.
    ///
    /// # Errors
    /// A schedule the picture cannot take, or the library's own.
    fn encode(&mut self, pixels: &Pixels, schedule: &Schedule) -> Result<EncodedImage>;

    /// The same for anything that makes one span: a picture among others, a video.
    ///
    /// # Errors
    /// As [`Engine::encode`]; a video where the model takes none.
    fn encode_span(&mut self, visual: &Visual<'_>, schedule: &Schedule) -> Result<EncodedImage> {
        match visual {
            Visual::Image(pixels) | Visual::OneOfSeveral(pixels) => self.encode(pixels, schedule),
            Visual::Video(_) => Err(Error::new(Kind::Model, "this engine takes no videos")),
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

    /// Messages to token ids and picture places.
    ///
    /// # Errors
    /// [`crate::error::Kind::Prompt`].
    fn tokenize(&self, messages: &[Message]) -> Result<Vec<Chunk>>;

    /// Makes an empty context, replacing the one there was.
    ///
    /// # Errors
    /// Sizes or merge layers the model cannot take, or no memory.
    fn open(&mut self, layout: &CacheLayout) -> Result<()>;

    /// Segments of the open context; empty without one.
    fn segments(&self) -> Vec<SegmentInfo>;

    /// Takes rows through the decoder and leaves the logits of the last one. Steps come span by
    /// span, `span` counting the spans of this call.
    ///
    /// # Errors
    /// No room, interrupted, or the library's own; nothing of the call then stays cached.
    fn prefill(&mut self, rows: &Rows, last_token_score: bool) -> Result<Vec<MergeStep>>;

    /// Takes one generated token through the decoder and leaves its logits.
    ///
    /// # Errors
    /// As [`Engine::prefill`].
    fn decode(&mut self, token: i32, position: i32) -> Result<()>;

    /// Forgets everything at and after `position`; false if it cannot.
    fn forget_from(&mut self, position: i32) -> bool;

    /// Begins an answer: a fresh sampler and grammar.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] for a grammar that cannot be understood.
    fn start_sampling(&mut self, sampling: &Sampling, grammar: Option<&Grammar>) -> Result<()>;

    /// Draws a token from the logits there are; `None` where the grammar allows none.
    ///
    /// # Errors
    /// The library's own.
    fn sample(&mut self) -> Result<Option<i32>>;

    fn ends_generation(&self, token: i32) -> bool;

    /// The token's bytes in an answer; they may be part of a letter.
    fn piece(&self, token: i32) -> Vec<u8>;

    /// Bytes of the encoder's and the decoder's compute buffers as they stand.
    fn compute_bytes(&self) -> u64;
}
