//! A picture of a projector that llama.cpp cuts and marks: what it is in the prompt.

use std::ptr::NonNull;
use std::sync::Arc;

use llama_cpp_sys_2 as sys;

use super::model::{TextModel, TextOutline};
use super::picture::{PicturePart, PreprocessedImage};
use super::vision::Vision;
use crate::error::{Error, Kind, Result};

/// A view of a picture: interleaved 8-bit RGB, [height, width, 3].
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    pub rgb: &'a [u8],
    pub width: u32,
    pub height: u32,
}

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

    /// A picture of a projector that llama.cpp marks, cut already: with `grid` its tiles row by row and then the whole;
    /// with none (0, 0) one view, or the two frames of a temporal patch.
    ///
    /// # Errors
    /// The library's own, for views of other sizes than this encoder takes, and for projectors that are not cut here.
    pub fn picture_from_views(&mut self, views: &[View<'_>], grid: (u32, u32)) -> Result<PreprocessedImage> {
        let given: Vec<sys::illava_view> = views
            .iter()
            .map(|view| {
                if view.rgb.len() as u64 != u64::from(view.width) * u64::from(view.height) * 3 {
                    return Err(Error::new(
                        Kind::Native,
                        format!("{} bytes are no {}x{} view", view.rgb.len(), view.width, view.height),
                    ));
                }
                Ok(sys::illava_view { rgb: view.rgb.as_ptr(), nx: view.width, ny: view.height })
            })
            .collect::<Result<_>>()?;
        let mut ptr = std::ptr::null_mut();
        // SAFETY: each length was checked against its size; the library copies the pixels.
        super::check(unsafe {
            sys::illava_image_from_views(
                self.ptr.as_ptr(),
                given.as_ptr(),
                given.len(),
                grid.0,
                grid.1,
                &raw mut ptr,
            )
        })?;
        let ptr = NonNull::new(ptr).ok_or_else(|| Error::new(Kind::Native, "the library made no picture"))?;
        Ok(PreprocessedImage { ptr })
    }

    /// Marks and tiles of a picture, in order; none if it is cut here.
    ///
    /// # Errors
    /// The library's own.
    pub fn parts(&self, picture: &PreprocessedImage) -> Result<Vec<PicturePart>> {
        super::picture::parts(&self.owner, picture)
    }
}
