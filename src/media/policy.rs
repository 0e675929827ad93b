//! Limits of a picture or a video. They stand in one place, so that every way in obeys them.

use std::time::Duration;

/// Bounds on one picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the encoded file.
    pub max_bytes: u64,
    /// Width or height, in pixels.
    pub max_side: u32,
    /// Width times height.
    pub max_pixels: u64,
    /// Bytes that decoding may hold at once, the file itself not counted.
    pub max_memory: u64,
}

impl Limits {
    /// Bounds that hold `max_pixels` of any usual kind: eight bytes for each pixel, and never less than 800 MB.
    #[must_use]
    pub fn of(max_bytes: u64, max_pixels: u64) -> Self {
        let max_memory = max_pixels.saturating_mul(8).max(800_000_000);
        Self { max_bytes, max_side: 32_768, max_pixels, max_memory }
    }
}

impl Default for Limits {
    /// 64 MiB of file, 32,768 pixels a side, 200 megapixels, which telephones write, and 1.6 GB of memory.
    fn default() -> Self {
        Self::of(64 << 20, 200_000_000)
    }
}

/// Bounds on one video.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VideoLimits {
    /// Limits of each frame; `max_bytes` counts for frames given as files of their own.
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
            frame: Limits::of(64 << 20, 100_000_000),
            max_frames: 768,
            max_file_frames: 24 * 3600 * 25,
            max_rgb_bytes: 2 << 30,
            time: Duration::from_secs(300),
        }
    }
}
