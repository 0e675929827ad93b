//! What a picture may cost before it is refused. One place, so that every way in obeys it.

/// Bounds on one picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the encoded file.
    pub max_bytes: u64,
    /// Width or height, in pixels.
    pub max_side: u32,
    /// Width times height: what decoding allocates grows with this.
    pub max_pixels: u64,
}

impl Default for Limits {
    /// 64 MiB of file, 32,768 pixels a side, 100 megapixels: above what cameras write, and
    /// 800 MB at the most that the widest pixel format decodes to.
    fn default() -> Self {
        Self { max_bytes: 64 << 20, max_side: 32_768, max_pixels: 100_000_000 }
    }
}
