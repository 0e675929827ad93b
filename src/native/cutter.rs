//! Cutting pictures by their sizes alone, beside an encoder at work.

use std::ptr::NonNull;
use std::sync::Arc;

use llama_cpp_sys_2 as sys;

use super::model::TextModel;
use super::picture::{Owner, PicturePart, PreprocessedImage, Tile, parts, tiles};
use crate::error::{Error, Kind, Result};

/// A view of a loaded encoder that cuts pictures without their pixels. Threads may share it.
pub struct Cutter {
    owner: Arc<Owner>,
    /// The text model whose vocabulary has the marks lives as long.
    _text: Option<TextModel>,
}

impl std::fmt::Debug for Cutter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cutter").finish_non_exhaustive()
    }
}

impl Cutter {
    pub(super) fn new(owner: Arc<Owner>, text: Option<TextModel>) -> Self {
        Self { owner, _text: text }
    }

    /// Returns the marks and tiles that a picture of this size has in the prompt, and the tiles' sizes; no parts for a
    /// picture of the families that are laid out here.
    ///
    /// # Errors
    /// The library's own, for sizes this model cannot take.
    pub fn cut(&self, width: u32, height: u32) -> Result<(Vec<PicturePart>, Vec<Tile>)> {
        let mut ptr = std::ptr::null_mut();
        // SAFETY: the handle is alive, and the library lets any thread cut a picture by its size.
        super::check(unsafe {
            sys::illava_image_from_size(self.owner.0.as_ptr(), width, height, &raw mut ptr)
        })?;
        let ptr = NonNull::new(ptr).ok_or_else(|| Error::new(Kind::Native, "the library made no picture"))?;
        let picture = PreprocessedImage { ptr };
        Ok((parts(&self.owner, &picture)?, tiles(&self.owner, &picture)?))
    }
}
