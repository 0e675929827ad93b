//! A picture in front of the encoder: its tiles, and what it is in the prompt of a projector that llama.cpp cuts for.

use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

/// The handle of an encoder.
pub(super) struct Owner(pub(super) NonNull<sys::illava_vision>);

/// One picture, preprocessed into tiles.
pub struct PreprocessedImage {
    pub(super) ptr: NonNull<sys::illava_image>,
}

/// The size of one tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tile {
    /// Pixels, across and down.
    pub size: (u32, u32),
    /// Patches, across and down.
    pub grid: (u32, u32),
}

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

/// # Errors
/// The library's own.
pub(super) fn tiles(vision: &Owner, picture: &PreprocessedImage) -> Result<Vec<Tile>> {
    // SAFETY: the handle is alive.
    let n = unsafe { sys::illava_image_n_tiles(picture.ptr.as_ptr()) };
    let tile = |i| {
        // SAFETY: plain numbers and a pointer that is not read; i is below the count.
        let raw = unsafe {
            let mut raw: sys::illava_tile = std::mem::zeroed();
            raw.size = super::size_of::<sys::illava_tile>();
            super::check(sys::illava_image_tile(vision.0.as_ptr(), picture.ptr.as_ptr(), i, &raw mut raw))?;
            raw
        };
        Ok(Tile { size: (raw.nx, raw.ny), grid: (raw.grid_x, raw.grid_y) })
    };
    (0..n).map(tile).collect()
}

/// # Errors
/// The library's own.
pub(super) fn parts(vision: &Owner, picture: &PreprocessedImage) -> Result<Vec<PicturePart>> {
    // SAFETY: the handle is alive.
    let n = unsafe { sys::illava_image_n_parts(picture.ptr.as_ptr()) };
    (0..n).map(|i| part(vision, picture, i)).collect()
}

fn part(vision: &Owner, picture: &PreprocessedImage, i: usize) -> Result<PicturePart> {
    // SAFETY: plain numbers and a pointer into the picture, which is alive; the library checks i.
    let raw = unsafe {
        let mut raw: sys::illava_part = std::mem::zeroed();
        raw.size = super::size_of::<sys::illava_part>();
        super::check(sys::illava_image_part(vision.0.as_ptr(), picture.ptr.as_ptr(), i, &raw mut raw))?;
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

impl Drop for PreprocessedImage {
    fn drop(&mut self) {
        // SAFETY: this is the one owner.
        unsafe { sys::illava_image_free(self.ptr.as_ptr()) };
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // SAFETY: this is the last owner.
        unsafe { sys::illava_vision_free(self.0.as_ptr()) };
    }
}

// SAFETY: freed once, by the last owner, on whichever thread.
unsafe impl Send for Owner {}
// SAFETY: a shared owner gives access to nothing but what `Cutter` calls.
unsafe impl Sync for Owner {}
// SAFETY: has no thread-local state, and is only read after it is made.
unsafe impl Send for PreprocessedImage {}
