//! What a picture or a video may cost before it is refused. One place, so that every way in obeys it.

use std::time::Duration;

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

/// Bounds on one video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoLimits {
    /// Of each frame; `max_bytes` counts for frames given as files of their own.
    pub frame: Limits,
    /// Frames taken from one video.
    pub max_frames: u32,
    /// Frames that a file may hold, taken or not.
    pub max_file_frames: usize,
    /// Bytes of RGB of all frames taken: above it the frames of a file are made smaller, and
    /// frames given as pictures are refused.
    pub max_rgb_bytes: u64,
    /// Time for looking at a file, and again for reading its frames.
    pub time: Duration,
}

impl Default for VideoLimits {
    /// 768 frames, the most that Qwen2-VL takes, and 2 GiB of them; a day at 25 frames a second; five minutes.
    fn default() -> Self {
        Self {
            frame: Limits::default(),
            max_frames: 768,
            max_file_frames: 24 * 3600 * 25,
            max_rgb_bytes: 2 << 30,
            time: Duration::from_secs(300),
        }
    }
}
