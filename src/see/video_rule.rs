//! Rules of a family for videos: the frames to take, and their treatment. They are read from the projector
//! file (`illava.video.*`), with the numbers of the authors' code if it says nothing.

use crate::media::policy::VideoLimits;
use crate::media::video::Sampling;
use crate::native::Gguf;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct VideoRule {
    pub sampling: Sampling,
    pub treatment: Treatment,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Treatment {
    /// Frames as pictures of their own, their sides pooled by `stride` (LLaVA-OneVision).
    Frames { stride: u32 },
    /// Pairs of frames; pixels of a frame, least and most, and of the whole video (Qwen2-VL). With `clock` the positions
    /// in time follow the seconds (Qwen2.5-VL), else they count the pairs.
    Pairs { pixels: (u64, u64), total: u64, clock: bool },
    /// Pairs of frames, each behind the time it shows; pixels of the whole video, least and most (Qwen3-VL).
    Stamped { pixels: (u64, u64) },
}

/// Bounds if the file names none: Qwen2-VL's release, pixels of a frame and of the video.
const FRAME_PIXELS: (u64, u64) = (128 * 28 * 28, 768 * 28 * 28);
const VIDEO_PIXELS: u64 = 128_000 * 28 * 28 / 10 * 9;
/// Qwen3-VL's release, pixels of all frames of a video.
const STAMPED_PIXELS: (u64, u64) = (4096, 25_165_824);
/// Positions in time a second, in Qwen2.5-VL's release.
const CLOCK: f64 = 2.0;
/// LLaVA-OneVision's.
const POOL_STRIDE: u32 = 2;

/// The numbers of a file, by their names behind `illava.video.`.
trait Numbers {
    fn whole(&self, name: &str) -> Option<u32>;
    fn rate(&self, name: &str) -> Option<f32>;
    fn word(&self, name: &str) -> Option<String>;
}

impl Numbers for Gguf {
    fn whole(&self, name: &str) -> Option<u32> {
        self.u32(&format!("illava.video.{name}"))
    }

    fn rate(&self, name: &str) -> Option<f32> {
        self.f32(&format!("illava.video.{name}"))
    }

    fn word(&self, name: &str) -> Option<String> {
        self.string(&format!("illava.video.{name}"))
    }
}

impl VideoRule {
    /// The rule of a tower that takes frames in `pairs`, with `clock` at positions in time. A tower whose frames are `pooled`
    /// one by one has another, and one that does neither has none.
    ///
    /// # Errors
    /// The key and what it may hold.
    pub(super) fn read(file: &Gguf, pairs: bool, clock: bool, pooled: bool) -> Result<Option<Self>, String> {
        match (pairs, pooled) {
            (true, _) => Self::in_pairs(file, clock).map(Some),
            (false, true) => Self::pooled(file).map(Some),
            (false, false) => Ok(None),
        }
    }

    fn in_pairs(file: &impl Numbers, clock: bool) -> Result<Self, String> {
        let sampling = Self::rate(file, Sampling::QWEN2VL)?;
        let bound = |name: &str| file.whole(name).map(u64::from);
        let least = bound("min_pixels").unwrap_or(FRAME_PIXELS.0);
        let most = bound("max_pixels").unwrap_or(FRAME_PIXELS.1).max(least);
        let total = bound("total_pixels").unwrap_or(VIDEO_PIXELS);
        Ok(Self { sampling, treatment: Treatment::Pairs { pixels: (least, most), total, clock } })
    }

    /// Positions in time from a pair of frames to the next, of a video of `fps` frames a second if that is known.
    #[allow(clippy::cast_possible_truncation)]
    pub(super) fn ticks(&self, fps: Option<f64>) -> f32 {
        match (self.treatment, self.sampling) {
            (Treatment::Pairs { clock: true, .. }, Sampling::Rate { fps: usual, .. }) => {
                (CLOCK * 2.0 / fps.unwrap_or(usual)) as f32
            }
            _ => 1.0,
        }
    }

    /// That of a tower whose pairs of frames have a time each.
    ///
    /// # Errors
    /// As [`VideoRule::read`].
    pub(super) fn stamped(file: &Gguf) -> Result<Self, String> {
        let bound = |name: &str| file.whole(name).map(u64::from);
        let least = bound("min_pixels").unwrap_or(STAMPED_PIXELS.0);
        let most = bound("max_pixels").unwrap_or(STAMPED_PIXELS.1).max(least);
        let sampling = Self::rate(file, Sampling::QWEN3VL)?;
        Ok(Self { sampling, treatment: Treatment::Stamped { pixels: (least, most) } })
    }

    /// The file's rate of frames, or `usual`.
    fn rate(file: &impl Numbers, usual: Sampling) -> Result<Sampling, String> {
        let Sampling::Rate { fps, min, max, multiple } = usual else {
            return Err("the rule for pairs of frames is no rate".into());
        };
        let fps = match file.rate("fps") {
            None => fps,
            Some(rate) if rate > 0.0 && rate <= 1000.0 => f64::from(rate),
            Some(rate) => {
                return Err(format!("illava.video.fps is {rate}; it must be above 0 and up to 1000"));
            }
        };
        let (min, max) = (frames(file, "min_frames", min)?, frames(file, "max_frames", max)?);
        if min > max || max < multiple {
            return Err(format!(
                "illava.video.min_frames is {min} and max_frames {max}; they must be in order, and the second at least {multiple}"
            ));
        }
        Ok(Sampling::Rate { fps, min, max, multiple })
    }

    fn pooled(file: &impl Numbers) -> Result<Self, String> {
        let Sampling::Uniform { frames: usual, multiple } = Sampling::ONEVISION else {
            return Err("the rule for LLaVA-OneVision is no number".into());
        };
        let sampling = Sampling::Uniform { frames: frames(file, "frames", usual)?, multiple };
        let stride = file.whole("pool_stride").unwrap_or(POOL_STRIDE);
        if !(1..=64).contains(&stride) {
            return Err(format!("illava.video.pool_stride is {stride}; it must be 1 to 64"));
        }
        Ok(Self { sampling, treatment: Treatment::Frames { stride } })
    }

    /// Names in one clause a setting of a pooling family's file that is not known here.
    pub(super) fn unknown(file: &Gguf) -> Option<String> {
        unknown(file)
    }

    pub(super) fn describe(&self) -> String {
        let which = match self.sampling {
            Sampling::Uniform { frames, .. } | Sampling::Middles { frames } => {
                format!("{frames} frames at even distances")
            }
            Sampling::Rate { fps, min, max, .. } => format!("{fps} frames a second, {min} to {max}"),
        };
        let how = match self.treatment {
            Treatment::Frames { stride } => format!("each pooled {stride}x{stride}"),
            Treatment::Pairs { pixels, .. } => {
                format!("in pairs, {} to {} pixels a frame", pixels.0, pixels.1)
            }
            Treatment::Stamped { pixels } => {
                format!("in pairs with their times, {} to {} pixels in all", pixels.0, pixels.1)
            }
        };
        format!("{which}, {how}")
    }
}

fn unknown(file: &impl Numbers) -> Option<String> {
    [("pool_mode", "bilinear"), ("newline", "one_token")].into_iter().find_map(|(name, known)| {
        let word = file.word(name).filter(|word| word != known)?;
        Some(format!("illava.video.{name} is `{word}`, of which only {known} is known"))
    })
}

fn frames(file: &impl Numbers, name: &str, usual: u32) -> Result<u32, String> {
    let most = VideoLimits::default().max_frames;
    let given = file.whole(name).unwrap_or(usual);
    if (1..=most).contains(&given) {
        return Ok(given);
    }
    Err(format!("illava.video.{name} is {given}; it must be 1 to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names with whole numbers, rates, words.
    struct Given(&'static [(&'static str, u32)], Option<f32>, Option<(&'static str, &'static str)>);

    impl Numbers for Given {
        fn whole(&self, name: &str) -> Option<u32> {
            self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
        }

        fn rate(&self, _: &str) -> Option<f32> {
            self.1
        }

        fn word(&self, name: &str) -> Option<String> {
            self.2.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
        }
    }

    #[test]
    fn a_silent_file_is_as_its_authors() {
        let none = Given(&[], None, None);
        assert_eq!(
            VideoRule::pooled(&none),
            Ok(VideoRule { sampling: Sampling::ONEVISION, treatment: Treatment::Frames { stride: 2 } })
        );
        let video_rule = VideoRule::in_pairs(&none, false).unwrap();
        assert_eq!(video_rule.sampling, Sampling::QWEN2VL);
        assert_eq!(
            video_rule.describe(),
            "2 frames a second, 4 to 768, in pairs, 100352 to 602112 pixels a frame"
        );
    }

    #[test]
    #[allow(clippy::float_cmp)] // Quotients of small numbers.
    fn a_file_may_say_otherwise() {
        let video_rule =
            VideoRule::pooled(&Given(&[("frames", 16), ("pool_stride", 3)], None, None)).unwrap();
        assert_eq!(video_rule.describe(), "16 frames at even distances, each pooled 3x3");
        let video_rule =
            VideoRule::in_pairs(&Given(&[("min_frames", 2), ("max_frames", 60)], Some(0.5), None), true)
                .unwrap();
        assert_eq!(video_rule.sampling, Sampling::Rate { fps: 0.5, min: 2, max: 60, multiple: 2 });
        assert_eq!(
            (video_rule.ticks(None), video_rule.ticks(Some(2.0)), video_rule.ticks(Some(1.5))),
            (8.0, 2.0, 8.0 / 3.0)
        );
        assert_eq!(VideoRule::in_pairs(&Given(&[], None, None), false).unwrap().ticks(Some(1.0)), 1.0);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (given, part) in [
            (Given(&[("frames", 0)], None, None), "frames is 0; it must be 1 to 768"),
            (Given(&[("frames", 769)], None, None), "frames is 769"),
            (Given(&[("pool_stride", 0)], None, None), "pool_stride is 0"),
        ] {
            let error = VideoRule::pooled(&given).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        for (word, part) in
            [(("pool_mode", "max"), "pool_mode is `max`"), (("newline", "grid"), "only one_token")]
        {
            assert!(unknown(&Given(&[], None, Some(word))).unwrap().contains(part), "{part}");
        }
        assert_eq!(unknown(&Given(&[], None, Some(("newline", "one_token")))), None);
        for (given, part) in [
            (Given(&[], Some(0.0), None), "fps is 0"),
            (Given(&[], Some(f32::NAN), None), "fps is NaN"),
            (Given(&[("min_frames", 9), ("max_frames", 8)], None, None), "in order"),
            (Given(&[("min_frames", 1), ("max_frames", 1)], None, None), "at least 2"),
        ] {
            let error = VideoRule::in_pairs(&given, false).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
