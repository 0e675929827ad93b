//! Rules that choose the frames of a video.

use serde::{Deserialize, Serialize};

/// A rule, by the custom of a model's authors.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Sampling {
    /// At even distances from the first frame to the last, positions cut to whole ones: LLaVA-OneVision's. A video
    /// with fewer frames gives each of them once.
    Uniform { frames: u32, multiple: u32 },
    /// In the middle of as many equal parts of the video, as SlowFast-LLaVA and Free Video-LLM have it. A video with fewer
    /// frames gives each of them once.
    Middles { frames: u32 },
    /// This many a second, but between `min` and `max`, a multiple of `multiple`; at even distances, positions
    /// rounded half to even: `smart_nframes` of Qwen2-VL's `qwen_vl_utils`.
    Rate { fps: f64, min: u32, max: u32, multiple: u32 },
}

/// A person's choice of frames; a field that is `None` is as the model's authors have it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct FrameChoice {
    /// Frames a second.
    pub fps: Option<f64>,
    /// Frames in all; with `fps`, at the most.
    pub frames: Option<u32>,
}

impl FrameChoice {
    /// The rule by which a model gets frames whose authors' rule is `custom`, if it takes videos at all.
    #[must_use]
    pub fn over(self, custom: Option<Sampling>) -> Sampling {
        custom.unwrap_or(Sampling::AS_PICTURES).with(self.fps, self.frames)
    }

    /// Whether a video is one span, and the rule for its frames: `chooses` says that the strategy chooses frames of its
    /// own, for any model.
    #[must_use]
    pub fn form(self, custom: Option<Sampling>, chooses: bool) -> (bool, Sampling) {
        match chooses {
            true => (true, self.over(Some(Sampling::FREE_VIDEO))),
            false => (custom.is_some(), self.over(custom)),
        }
    }
}

impl Sampling {
    /// Frames for a model that was not trained on videos: few, since each costs a picture.
    pub const AS_PICTURES: Self = Self::Uniform { frames: 8, multiple: 1 };
    pub const FREE_VIDEO: Self = Self::Middles { frames: 50 };
    pub const ONEVISION: Self = Self::Uniform { frames: 32, multiple: 1 };
    pub const QWEN2VL: Self = Self::Rate { fps: 2.0, min: 4, max: 768, multiple: 2 };
    /// An odd last frame is shown twice.
    pub const QWEN3VL: Self = Self::Rate { fps: 2.0, min: 4, max: 768, multiple: 1 };

    /// The rule with what a person asks for: `fps` frames a second, `frames` in all (with `fps`: at the most).
    #[must_use]
    pub fn with(self, fps: Option<f64>, frames: Option<u32>) -> Self {
        let (min, max, multiple) = match self {
            Self::Uniform { frames, multiple } => (multiple, frames, multiple),
            Self::Middles { frames } => (1, frames, 1),
            Self::Rate { min, max, multiple, .. } => (min, max, multiple),
        };
        match (fps, frames) {
            (Some(fps), Some(frames)) => Self::Rate { fps, min: min.min(frames), max: frames, multiple },
            (Some(fps), None) => Self::Rate { fps, min, max, multiple },
            (None, Some(frames)) if matches!(self, Self::Middles { .. }) => Self::Middles { frames },
            (None, Some(frames)) => Self::Uniform { frames, multiple },
            (None, None) => self,
        }
    }

    /// The rule with no more than `most` frames.
    #[must_use]
    pub fn at_most(self, most: u32) -> Self {
        match self {
            Self::Uniform { frames, multiple } => Self::Uniform { frames: frames.min(most), multiple },
            Self::Middles { frames } => Self::Middles { frames: frames.min(most) },
            Self::Rate { fps, min, max, multiple } => {
                Self::Rate { fps, min: min.min(most), max: max.min(most), multiple }
            }
        }
    }

    /// The number of frames is a multiple of this, if the video has that many.
    #[must_use]
    pub fn multiple(&self) -> usize {
        match self {
            Self::Middles { .. } => 1,
            Self::Uniform { multiple, .. } | Self::Rate { multiple, .. } => (*multiple).max(1) as usize,
        }
    }

    /// Positions among the `total` frames of a file that plays `file_fps` of them a second, ascending.
    #[must_use]
    pub fn of_file(&self, total: usize, file_fps: f64) -> Vec<usize> {
        let multiple = self.multiple();
        let down = |n: usize| n / multiple * multiple;
        match *self {
            Self::Uniform { frames, .. } => {
                let n = down((frames as usize).max(multiple)).min(total);
                spread(total, n, f64::floor)
            }
            Self::Middles { frames } => middles(total, (frames as usize).max(1)),
            Self::Rate { fps, min, max, .. } => {
                let min = (min as usize).next_multiple_of(multiple);
                let max = down((max as usize).min(total));
                #[allow(
                    clippy::cast_precision_loss,
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss
                )]
                let n = (total as f64 / file_fps * fps).max(min as f64).min(max as f64) as usize;
                spread(total, down(n).max(1), f64::round_ties_even)
            }
        }
    }

    /// Positions among `count` pictures, which are already a sample of frames: all, up to the most there may
    /// be.
    #[must_use]
    pub fn of_stills(&self, count: usize) -> Vec<usize> {
        let (Self::Uniform { frames: most, .. }
        | Self::Middles { frames: most }
        | Self::Rate { max: most, .. }) = *self;
        spread(count, count.min((most as usize).max(1)), f64::floor)
    }

    /// Frames of a video of `seconds` whose own frames are more than the rule wants.
    #[must_use]
    pub fn frames_of(&self, seconds: f64) -> usize {
        self.of_file(1 << 20, f64::from(1 << 20) / seconds).len()
    }

    /// Frames a second that pictures without times are taken to have.
    #[must_use]
    pub fn stills_rate(&self) -> f64 {
        match *self {
            Self::Uniform { .. } | Self::Middles { .. } => 1.0,
            Self::Rate { fps, .. } => fps,
        }
    }
}

/// The middles of `n` equal parts of 0 to `total - 1`, ends of parts rounded half to even: `get_seq_frames` of the authors.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn middles(total: usize, n: usize) -> Vec<usize> {
    // A video that has no more would give one twice.
    if n >= total {
        return (0..total).collect();
    }
    let part = (total - 1) as f64 / n as f64;
    let end = |i: usize| (part * i as f64).round_ties_even() as usize;
    (0..n).map(|i| usize::midpoint(end(i), end(i + 1))).collect()
}

/// `n` positions from 0 to `total - 1` at even distances.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn spread(total: usize, n: usize, whole: fn(f64) -> f64) -> Vec<usize> {
    let Some(last) = total.checked_sub(1) else { return Vec::new() };
    if n <= 1 {
        return vec![0];
    }
    // As numpy's linspace: the step first, and the end exactly.
    let step = last as f64 / (n - 1) as f64;
    (0..n).map(|i| if i + 1 == n { last } else { whole(i as f64 * step) as usize }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of `np.linspace(0, total - 1, n, dtype=int)` and of `smart_nframes` with
    /// `torch.linspace(0, total - 1, n).round().long()`.
    #[test]
    fn as_the_authors() {
        let uniform = |frames| Sampling::Uniform { frames, multiple: 1 };
        let cases: [(Sampling, usize, f64, &[usize]); 9] = [
            (uniform(8), 100, 25.0, &[0, 14, 28, 42, 56, 70, 84, 99]),
            (uniform(4), 10, 25.0, &[0, 3, 6, 9]),
            (uniform(4), 3, 25.0, &[0, 1, 2]),
            (uniform(4), 1, 25.0, &[0]),
            (uniform(1), 9, 25.0, &[0]),
            // 50 / 25 * 2 = 4 frames.
            (Sampling::QWEN2VL, 50, 25.0, &[0, 16, 33, 49]),
            // 3 seconds at 30: 6 frames of 90; 89/5 = 17.8.
            (Sampling::QWEN2VL, 90, 30.0, &[0, 18, 36, 53, 71, 89]),
            // Never more than there are, and an even number.
            (Sampling::QWEN2VL, 3, 30.0, &[0, 2]),
            (Sampling::QWEN2VL, 1, 30.0, &[0]),
        ];
        for (sampling, total, fps, expected) in cases {
            assert_eq!(sampling.of_file(total, fps), expected, "{sampling:?} {total}");
        }
        for (total, frames, expected) in [
            (100, 8, &[6, 18, 31, 43, 56, 68, 80, 93][..]),
            (10, 4, &[1, 3, 5, 8]),
            (7, 5, &[0, 1, 3, 4, 5]),
            (3, 3, &[0, 1, 2]),
            (0, 3, &[]),
        ] {
            assert_eq!(Sampling::Middles { frames }.of_file(total, 25.0), expected, "{frames} of {total}");
        }
        assert_eq!(Sampling::ONEVISION.of_file(1000, 25.0).len(), 32);
        assert_eq!(Sampling::QWEN2VL.of_file(100_000, 25.0).len(), 768);
        assert!(Sampling::QWEN2VL.of_file(0, 25.0).is_empty());
    }

    #[test]
    fn strange_rates_stay_within_bounds() {
        for fps in [0.0, 1e-9, 1e9, f64::INFINITY, f64::NAN] {
            let n = Sampling::QWEN2VL.of_file(1000, fps).len();
            assert!((1..=768).contains(&n), "{fps}: {n}");
        }
    }

    #[test]
    fn choices() {
        let rate = |fps, min, max, multiple| Sampling::Rate { fps, min, max, multiple };
        for (base, fps, frames, expected) in [
            (Sampling::QWEN2VL, None, None, Sampling::QWEN2VL),
            (Sampling::QWEN2VL, Some(1.0), None, rate(1.0, 4, 768, 2)),
            (Sampling::QWEN2VL, Some(1.0), Some(16), rate(1.0, 4, 16, 2)),
            (Sampling::QWEN2VL, None, Some(9), Sampling::Uniform { frames: 9, multiple: 2 }),
            (Sampling::ONEVISION, Some(1.0), None, rate(1.0, 1, 32, 1)),
            (Sampling::FREE_VIDEO, Some(1.0), None, rate(1.0, 1, 50, 1)),
            (Sampling::FREE_VIDEO, None, Some(9), Sampling::Middles { frames: 9 }),
            (Sampling::ONEVISION, None, Some(8), Sampling::Uniform { frames: 8, multiple: 1 }),
        ] {
            assert_eq!(base.with(fps, frames), expected);
        }
        assert_eq!(Sampling::QWEN2VL.with(None, Some(9)).of_file(100, 25.0).len(), 8);
        assert_eq!(
            FrameChoice { fps: None, frames: Some(3) }.over(None),
            Sampling::Uniform { frames: 3, multiple: 1 }
        );
        assert_eq!(FrameChoice::default().over(Some(Sampling::QWEN2VL)), Sampling::QWEN2VL);
        assert_eq!((Sampling::QWEN2VL.frames_of(8.0), Sampling::ONEVISION.frames_of(8.0)), (16, 32));
    }

    #[test]
    fn a_limit() {
        let frames = |sampling: Sampling, most| sampling.at_most(most).of_file(1000, 10.0).len();
        for (most, expected) in [(768, (32, 200)), (20, (20, 20)), (3, (3, 2)), (1, (1, 1))] {
            assert_eq!(
                (frames(Sampling::ONEVISION, most), frames(Sampling::QWEN2VL, most)),
                expected,
                "{most}"
            );
        }
    }

    #[test]
    fn pictures_are_taken_as_they_are() {
        assert_eq!(Sampling::QWEN2VL.of_stills(3), [0, 1, 2]);
        assert_eq!(Sampling::Uniform { frames: 3, multiple: 1 }.of_stills(9), [0, 4, 8]);
    }
}
