//! A picture of a projector that llama.cpp cuts and marks: what it is in the prompt.

use llama_cpp_sys_2 as sys;

use super::model::{TextModel, TextOutline};
use super::vision::{PreprocessedImage, Vision};
use crate::error::{Error, Kind, Result};

/// A stretch of a picture's rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PicturePart {
    /// Marks: tokens of the text model. Empty for the rows of the next tile.
    pub tokens: Vec<i32>,
    pub rows: u32,
    /// Positions it takes up.
    pub extent: i32,
    /// Its rows attend to each other both ways.
    pub two_ways: bool,
    /// \[rows\] positions from its first: time, height, width and the fourth, -1 if that is 0 wherever the part stands.
    pub positions: Vec<[i32; 4]>,
}

impl Vision {
    /// Has marks and positions follow `text`, if llama.cpp makes them.
    ///
    /// # Errors
    /// [`Kind::Native`] for a text model of another width, or whose rope takes no pictures.
    pub fn set_text(&mut self, text: &TextModel) -> Result<()> {
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
        // SAFETY: the handle is alive.
        let n = unsafe { sys::illava_image_n_parts(picture.ptr.as_ptr()) };
        (0..n).map(|i| self.part(picture, i)).collect()
    }

    fn part(&self, picture: &PreprocessedImage, i: usize) -> Result<PicturePart> {
        // SAFETY: plain numbers and a pointer into the picture, which is alive; the library checks i.
        let raw = unsafe {
            let mut raw: sys::illava_part = std::mem::zeroed();
            raw.size = super::size_of::<sys::illava_part>();
            super::check(sys::illava_image_part(self.ptr.as_ptr(), picture.ptr.as_ptr(), i, &raw mut raw))?;
            raw
        };
        let n = raw.n_rows as usize;
        let mut positions = vec![[0; 4]; n];
        // SAFETY: the library writes four numbers a row.
        super::check(unsafe {
            sys::illava_image_part_positions(picture.ptr.as_ptr(), i, positions.as_mut_ptr().cast())
        })?;
        let marks = !raw.tokens.is_null();
        // SAFETY: a part with tokens has n_rows of them, in the picture, which is alive.
        let tokens = if marks { unsafe { super::copied(raw.tokens, n) } } else { Vec::new() };
        if n == 0 {
            return Err(Error::new(Kind::Native, "llama.cpp cut a picture into nothing"));
        }
        Ok(PicturePart { tokens, rows: raw.n_rows, extent: raw.n_pos, two_ways: raw.two_ways, positions })
    }
}
