//! A picture of a projector that llama.cpp cuts and marks: what it is in the prompt.

use std::sync::Arc;

use llama_cpp_sys_2 as sys;

use super::model::{TextModel, TextOutline};
use super::picture::{PicturePart, PreprocessedImage};
use super::vision::Vision;
use crate::error::{Error, Kind, Result};

impl Vision {
    /// Has marks and positions follow `text`, if llama.cpp makes them.
    ///
    /// # Errors
    /// [`Kind::Native`] for a text model of another width, or whose rope takes no pictures; if a [`super::Cutter`] of
    /// this encoder is alive, which reads the text model that was set.
    pub fn set_text(&mut self, text: &TextModel) -> Result<()> {
        if Arc::strong_count(&self.owner) > 1 {
            return Err(Error::new(
                Kind::Native,
                "the text model of an encoder that cuts pictures cannot change",
            ));
        }
        // SAFETY: both handles are alive; the vision keeps a clone of the model as long as it lives.
        super::check(unsafe { sys::illava_vision_set_text(self.ptr.as_ptr(), text.as_ptr()) })?;
        self.text = Some(text.clone());
        Ok(())
    }

    /// The same with a model that was read but for its weights: pictures can be cut, not answered.
    ///
    /// # Errors
    /// As [`Vision::set_text`].
    pub fn set_outline(&mut self, text: &TextOutline) -> Result<()> {
        self.set_text(&text.0)
    }

    /// The text model that was set.
    #[must_use]
    pub fn text(&self) -> Option<&TextModel> {
        self.text.as_ref()
    }

    /// Marks and tiles of a picture, in order; none if it is cut here.
    ///
    /// # Errors
    /// The library's own.
    pub fn parts(&self, picture: &PreprocessedImage) -> Result<Vec<PicturePart>> {
        super::picture::parts(&self.owner, picture)
    }
}
