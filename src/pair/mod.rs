//! A pair of files: its facts, read from both headers and checked before the library sees weights; and the one way to
//! load it.

mod crop_facts;
mod facts;
mod generation;
mod header;
mod inspection;
mod kv_shape;
mod load;
mod merging;
mod quantize;
mod text_side;

pub use crop_facts::{CropChoice, CropFacts};
#[cfg(test)]
pub(crate) use facts::tests::facts;
pub use facts::{Facts, Pair, TypeShare, usual_choice};
pub use inspection::{InspectOptions, Inspection, MergedFacts, PictureFacts, PresetFacts, ProjectorFacts};
pub use kv_shape::KvShape;
pub use load::{LoadSettings, Loaded, Loading, load};
pub use quantize::quantize;
pub use text_side::{TextSide, Vocabulary};

pub use crate::native::{FlashAttention, Kernels, KvType, LoadMode, Placement, Split, Weights, serve_rpc};
