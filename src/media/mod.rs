//! Picture and video files to pixels: what the encoder's own preprocessing then takes.

mod decode;
pub mod policy;
pub mod video;

pub use decode::{Pixels, decode, open};
