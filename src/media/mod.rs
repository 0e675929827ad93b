//! Picture and video files to pixels: what the encoder's own preprocessing then takes.

mod decode;
pub mod policy;
mod resize;
pub mod video;
pub mod views;

use std::path::Path;

pub use decode::{Pixels, decode, is_picture, open};
pub use resize::{Filter, resize};

use crate::error::Result;

impl Pixels {
    /// Reads and decodes the picture at `path` within the command line's limits.
    ///
    /// # Errors
    /// [`crate::error::Kind::File`] if it cannot be read, [`crate::error::Kind::Media`] if it is no picture or over a
    /// limit.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        open(path.as_ref(), &policy::Limits::default())
    }

    /// Decodes a picture file's bytes within the same limits; errors call it `name`.
    ///
    /// # Errors
    /// [`crate::error::Kind::Media`] if it is no picture or over a limit.
    pub fn decode(bytes: &[u8], name: &str) -> Result<Self> {
        decode(bytes, name, &policy::Limits::default())
    }
}
