//! Picture and video files to pixels: what the encoder's own preprocessing then takes.

mod decode;
pub mod policy;
mod resize;
pub mod video;
pub mod views;

use std::path::Path;

pub use decode::{Moment, Pixels, decode, is_picture, open};
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

    /// The part of the picture from left and top up to right and bottom, as far as the picture reaches.
    #[must_use]
    pub fn part(&self, [left, top, right, bottom]: [u32; 4]) -> Self {
        let (right, bottom) = (right.min(self.width), bottom.min(self.height));
        let (width, height) = (right.saturating_sub(left), bottom.saturating_sub(top));
        let at = |x: u32, y: u32| 3 * (y as usize * self.width as usize + x as usize);
        let rows = (0..height).map(|y| &self.rgb[at(left, top + y)..at(left, top + y) + 3 * width as usize]);
        let rgb = if width == 0 { Vec::new() } else { rows.flatten().copied().collect() };
        Self { width, height, rgb, remark: None, moment: self.moment }
    }
}
