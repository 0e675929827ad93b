//! Decoded pictures and videos, and the key that caches know them by.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::media::video::{Sampling, Video};
use crate::media::{Moment, Pixels};

/// The form in which a model takes a video under a strategy.
#[derive(Debug, Clone, Copy)]
pub struct VideoPlan {
    /// One span; otherwise each frame is a picture.
    pub one_span: bool,
    pub frames: Sampling,
}

impl VideoPlan {
    /// A video that took `decode_ms` to read as the one span, or the pictures, that the model takes.
    ///
    /// # Errors
    /// As [`Picture::video`].
    pub fn pictures(&self, video: Video, decode_ms: f64) -> Result<Vec<Picture>> {
        let frames: Vec<Pixels> = video.frames.into_iter().map(|frame| frame.pixels).collect();
        if self.one_span {
            return Ok(vec![Picture::video(frames, decode_ms)?.remarked(video.remark)]);
        }
        #[allow(clippy::cast_precision_loss)]
        let share_ms = decode_ms / frames.len() as f64;
        let remarks = std::iter::once(video.remark).chain(std::iter::repeat(None));
        let frames = frames.into_iter().zip(remarks);
        Ok(frames.map(|(pixels, remark)| Picture::new(pixels, share_ms).remarked(remark)).collect())
    }
}

/// A decoded picture, or the frames of a video: what makes one span.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    /// BLAKE3 of the size and the pixels; see [`Picture::new`] and [`Picture::video`].
    pub key: [u8; 32],
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Frames of a video; `None` for a picture.
    pub frames: Option<u32>,
    /// \[frames\] the moment that each shows; empty if one of them is not known.
    #[serde(default)]
    pub moments: Vec<Moment>,
    /// Interleaved 8-bit RGB, [height, width, 3], of a video frame after frame.
    #[serde(with = "serde_bytes")]
    pub rgb: Vec<u8>,
    /// Milliseconds that decoding took, for the report.
    pub decode_ms: f64,
    /// Differences between the file and the pixels, for the report: one line or none.
    #[serde(default)]
    pub remark: Option<String>,
}

impl Picture {
    /// With the key that everything else is found by: BLAKE3 of width, height (little-endian
    /// u32) and pixels.
    #[must_use]
    pub fn new(pixels: Pixels, decode_ms: f64) -> Self {
        let mut hash = blake3::Hasher::new();
        hash.update(&pixels.width.to_le_bytes());
        hash.update(&pixels.height.to_le_bytes());
        hash.update(&pixels.rgb);
        Self {
            key: *hash.finalize().as_bytes(),
            width: pixels.width,
            height: pixels.height,
            frames: None,
            moments: Vec::new(),
            rgb: pixels.rgb,
            decode_ms,
            remark: pixels.remark,
        }
    }

    /// The same with a line about the whole video, if there is one.
    #[must_use]
    pub fn remarked(mut self, remark: Option<String>) -> Self {
        self.remark = remark.or(self.remark);
        self
    }

    /// The frames of a video as one span. The key is BLAKE3 of `video`, their number, width, height (little-endian
    /// u32), pixels and moments, so that one frame is not taken for a picture.
    ///
    /// # Errors
    /// [`Kind::Media`] for no frames, or frames of different sizes.
    pub fn video(frames: Vec<Pixels>, decode_ms: f64) -> Result<Self> {
        let bad = |what: &str| Error::new(Kind::Media, format!("a video {what}"));
        let (width, height) =
            frames.first().map(|first| (first.width, first.height)).ok_or_else(|| bad("without frames"))?;
        if frames.iter().any(|frame| (frame.width, frame.height) != (width, height)) {
            return Err(bad("whose frames differ in size; make them one size"));
        }
        let count = u32::try_from(frames.len()).map_err(|_| bad("of too many frames"))?;
        let remark = frames.iter().find_map(|frame| frame.remark.clone());
        let mut hash = blake3::Hasher::new();
        hash.update(b"video");
        for number in [count, width, height] {
            hash.update(&number.to_le_bytes());
        }
        let mut rgb = Vec::with_capacity(frames.iter().map(|frame| frame.rgb.len()).sum());
        let moments: Vec<Moment> = frames.iter().map_while(|frame| frame.moment).collect();
        let moments = if moments.len() == frames.len() { moments } else { Vec::new() };
        for frame in frames {
            hash.update(&frame.rgb);
            rgb.extend_from_slice(&frame.rgb);
        }
        for moment in &moments {
            hash.update(&moment.seconds.to_le_bytes());
            hash.update(&moment.fps.to_le_bytes());
        }
        Ok(Self {
            key: *hash.finalize().as_bytes(),
            width,
            height,
            frames: Some(count),
            moments,
            rgb,
            decode_ms,
            remark,
        })
    }

    /// Pixels in all, of a video over its frames.
    #[must_use]
    pub fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height) * u64::from(self.frames.unwrap_or(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::video::Frame;

    #[test]
    fn a_video_as_its_model_takes_it() {
        let frame = |first| Frame {
            pixels: Pixels { width: 1, height: 1, rgb: vec![first; 3], remark: None, moment: None },
            seconds: 0.0,
        };
        let video = || Video {
            name: "v".into(),
            frames: vec![frame(1), frame(2)],
            fps: 1.0,
            remark: Some("cut".into()),
        };
        let taken = |one_span| {
            let plan = VideoPlan { one_span, frames: Sampling::Uniform { frames: 2, multiple: 1 } };
            let pictures = plan.pictures(video(), 3.0).unwrap();
            pictures.into_iter().map(|p| (p.frames, p.decode_ms, p.remark)).collect::<Vec<_>>()
        };
        assert_eq!(taken(true), [(Some(2), 3.0, Some("cut".into()))]);
        assert_eq!(taken(false), [(None, 1.5, Some("cut".into())), (None, 1.5, None)]);
    }

    #[test]
    fn frames_of_a_video() {
        let frame = |width, first| Pixels {
            width,
            height: 1,
            rgb: vec![first; width as usize * 3],
            remark: None,
            moment: None,
        };
        let video = Picture::video(vec![frame(2, 1), frame(2, 9)], 0.5).unwrap();
        assert_eq!((video.frames, video.pixels(), video.rgb.len()), (Some(2), 4, 12));
        assert_eq!((video.rgb[0], video.rgb[6]), (1, 9));
        assert_eq!(Picture::video(Vec::new(), 0.0).unwrap_err().kind(), Kind::Media);
        assert_eq!(Picture::video(vec![frame(2, 1), frame(3, 1)], 0.0).unwrap_err().kind(), Kind::Media);
    }

    #[test]
    fn a_key_tells_pictures_apart() {
        let key = |width, height, first| {
            let pixels = Pixels { width, height, rgb: vec![first; 6], remark: None, moment: None };
            Picture::new(pixels, 0.0).key
        };
        let video = |frames: usize, first| {
            let frame = || Pixels { width: 2, height: 1, rgb: vec![first; 6], remark: None, moment: None };
            Picture::video((0..frames).map(|_| frame()).collect(), 0.0).unwrap().key
        };
        assert_eq!(video(2, 7), video(2, 7));
        let all = [video(1, 7), video(2, 7), video(2, 8), key(2, 1, 7)];
        for (i, one) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|other| other != one), "{i}");
        }
        assert_eq!(key(2, 1, 7), key(2, 1, 7));
        assert_ne!(key(2, 1, 7), key(1, 2, 7));
        assert_ne!(key(2, 1, 7), key(2, 1, 8));
    }
}
