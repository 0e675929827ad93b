//! Picture and video files to pixels: what the encoder's own preprocessing then takes.

mod decode;
pub mod policy;
mod resize;
pub mod video;
pub mod views;

pub use decode::{Pixels, decode, open};
pub use resize::{Filter, resize};
