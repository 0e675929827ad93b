//! Any pixel format to 8-bit RGB, transparent parts on white.

use image::{DynamicImage, RgbImage};

/// Says that something was behind transparent parts, or would be.
pub(super) const ON_WHITE: &str = "transparent parts are shown on white";
/// Says that samples were shortened.
pub(super) const SHORTENED: &str = "only the upper 8 bits of each sample are used";

/// `sample` under the opacity `alpha` over white, rounded as Pillow's `alpha_composite` does.
pub(super) fn over_white(sample: u8, alpha: u8) -> u8 {
    let (sample, alpha) = (u32::from(sample), u32::from(alpha));
    u8::try_from((sample * alpha + 255 * (255 - alpha) + 127) / 255).unwrap_or(u8::MAX)
}

/// The picture as RGB, and what is to be said of the way there.
///
/// Transparent parts are composited on white, as the current processors of all families do; 16-bit samples keep their
/// high byte, grey is repeated.
pub(super) fn flatten(picture: DynamicImage) -> (RgbImage, Vec<&'static str>) {
    let (width, height) = (picture.width(), picture.height());
    let mut notes = Vec::new();
    let colour = picture.color();
    if colour.bytes_per_pixel() > colour.channel_count() {
        notes.push(SHORTENED);
    }
    let high = |sample: u16| sample.to_be_bytes()[0];
    let mut seen_through = false;
    let mut over = |[r, g, b, alpha]: [u8; 4]| {
        seen_through |= alpha != u8::MAX;
        [r, g, b].map(|sample| over_white(sample, alpha))
    };
    let rgb: Vec<u8> = match picture {
        DynamicImage::ImageRgb8(p) => return (p, notes),
        DynamicImage::ImageLuma8(p) => p.as_raw().iter().flat_map(|&s| [s; 3]).collect(),
        DynamicImage::ImageLuma16(p) => p.as_raw().iter().flat_map(|&s| [high(s); 3]).collect(),
        DynamicImage::ImageRgb16(p) => p.as_raw().iter().map(|&s| high(s)).collect(),
        DynamicImage::ImageLumaA8(p) => {
            p.pixels().flat_map(|p| over([p.0[0], p.0[0], p.0[0], p.0[1]])).collect()
        }
        DynamicImage::ImageRgba8(p) => p.pixels().flat_map(|p| over(p.0)).collect(),
        DynamicImage::ImageLumaA16(p) => {
            p.pixels().flat_map(|p| over([p.0[0], p.0[0], p.0[0], p.0[1]].map(high))).collect()
        }
        DynamicImage::ImageRgba16(p) => p.pixels().flat_map(|p| over(p.0.map(high))).collect(),
        other => other.to_rgb8().into_raw(),
    };
    if seen_through {
        notes.insert(0, ON_WHITE);
    }
    (RgbImage::from_raw(width, height, rgb).unwrap_or_default(), notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pillow's `AlphaComposite.c` for one channel over opaque white.
    fn pillow(sample: u32, alpha: u32) -> u32 {
        let first = alpha * 128;
        let sum = sample * first + 255 * (255 * 128 - first) + (0x80 << 7);
        ((sum + (sum >> 8)) >> 8) >> 7
    }

    #[test]
    fn every_opacity_is_rounded_as_pillow_does() {
        for sample in 0..=255u8 {
            for alpha in 0..=255u8 {
                let expected = pillow(sample.into(), alpha.into());
                assert_eq!(u32::from(over_white(sample, alpha)), expected, "{sample} {alpha}");
            }
        }
    }
}
