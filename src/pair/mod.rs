//! What a pair of files is: its facts, read from both headers and checked before the library sees weights.

mod facts;
mod header;
mod inspection;
mod kv_shape;
mod load;
mod quantize;

pub(crate) use facts::family;
pub use facts::{Facts, Pair, TypeShare};
pub use inspection::{Asked, Inspection, MergedFacts, PictureFacts, PresetFacts, ProjectorFacts};
pub use kv_shape::KvShape;
pub use load::{LoadSettings, Loading};
pub(crate) use load::{check_cache_types, template};
pub use quantize::quantize;

pub use crate::native::{FlashAttention, KvType, LoadMode, Weights};
