//! Resizing as the models' own preprocessing does it, to the last bit of Pillow's 8-bit result: a
//! pixel one level off shows in a model's logits, and faster libraries are one level off.

use super::Pixels;
use crate::error::{Error, Kind, Result};

/// The filter of a model's preprocessing, by Pillow's name. All of them widen with the reduction
/// (antialias).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Filter {
    /// Cubic convolution with a = -0.5 over four pixels.
    #[default]
    Bicubic,
    Bilinear,
}

impl Filter {
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "bicubic" => Some(Filter::Bicubic),
            "bilinear" => Some(Filter::Bilinear),
            _ => None,
        }
    }

    /// Pixels to each side of the centre.
    fn support(self) -> f64 {
        match self {
            Filter::Bicubic => 2.0,
            Filter::Bilinear => 1.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let x = x.abs();
        match self {
            Filter::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Filter::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5,
            Filter::Bilinear if x < 1.0 => 1.0 - x,
            _ => 0.0,
        }
    }
}

/// Fractional bits of a weight.
const PRECISION: u32 = 22;

/// The source pixels of one target pixel: the first of them, and their weights in fixed point.
struct Window {
    first: usize,
    weights: Vec<i32>,
}

/// The windows of `to` pixels over `from`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn windows(from: u32, to: u32, filter: Filter) -> Vec<Window> {
    let scale = f64::from(from) / f64::from(to);
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    (0..to)
        .map(|i| {
            let centre = (f64::from(i) + 0.5) * scale;
            let first = (centre - support + 0.5).max(0.0) as u32;
            let end = ((centre + support + 0.5) as u32).min(from);
            let weights: Vec<f64> =
                (first..end).map(|x| filter.weight((f64::from(x) - centre + 0.5) / stretch)).collect();
            let total: f64 = weights.iter().sum();
            let fixed = |weight: &f64| {
                let scaled = weight / total * f64::from(1u32 << PRECISION);
                (scaled + 0.5f64.copysign(scaled)) as i32
            };
            Window { first: first as usize, weights: weights.iter().map(fixed).collect() }
        })
        .collect()
}

/// The weighted sum of samples that stand `stride` apart, rounded to 8 bits.
fn sample(samples: &[u8], stride: usize, weights: &[i32]) -> u8 {
    let half = 1i64 << (PRECISION - 1);
    let sum: i64 = samples
        .iter()
        .step_by(stride)
        .zip(weights)
        .map(|(&value, &weight)| i64::from(value) * i64::from(weight))
        .sum();
    u8::try_from(((sum + half) >> PRECISION).clamp(0, 255)).unwrap_or(u8::MAX)
}

/// `picture` at exactly `width` x `height`; its shape is not kept. Rows first, then columns, as
/// torchvision and Pillow up to 12; Pillow 13 chooses the order by the sizes.
///
/// # Errors
/// [`Kind::Media`] for a picture or a target without pixels.
pub fn resize(picture: &Pixels, width: u32, height: u32, filter: Filter) -> Result<Pixels> {
    if picture.rgb.is_empty() || width == 0 || height == 0 {
        return Err(Error::new(
            Kind::Media,
            format!("cannot resize {}x{} pixels to {width}x{height}", picture.width, picture.height),
        ));
    }
    let across = if picture.width == width {
        picture.rgb.clone()
    } else {
        let columns = windows(picture.width, width, filter);
        let line = |line: &[u8]| -> Vec<u8> {
            let pixel = |window: &Window| {
                [0, 1, 2].map(|c| sample(&line[window.first * 3 + c..], 3, &window.weights))
            };
            columns.iter().flat_map(pixel).collect()
        };
        picture.rgb.chunks_exact(picture.width as usize * 3).flat_map(line).collect()
    };
    let rgb = if picture.height == height {
        across
    } else {
        let stride = width as usize * 3;
        let line = |window: Window| -> Vec<u8> {
            let top = &across[window.first * stride..];
            (0..stride).map(|x| sample(&top[x..], stride, &window.weights)).collect()
        };
        windows(picture.height, height, filter).into_iter().flat_map(line).collect()
    };
    Ok(Pixels { width, height, rgb, remark: None, moment: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(width: u32, height: u32, values: &[u8]) -> Pixels {
        Pixels {
            width,
            height,
            rgb: values.iter().flat_map(|&v| [v; 3]).collect(),
            remark: None,
            moment: None,
        }
    }

    #[test]
    fn an_edge_as_pillow_resizes_it() {
        // PIL.Image.fromarray([[0, 0, 255, 255]]).resize((n, 1), filter), Pillow 13.
        let edge = grey(4, 1, &[0, 0, 255, 255]);
        for (n, filter, expected) in [
            (8, Filter::Bicubic, vec![0, 0, 0, 52, 203, 255, 255, 255]),
            (2, Filter::Bicubic, vec![21, 234]),
            (8, Filter::Bilinear, vec![0, 0, 0, 64, 191, 255, 255, 255]),
            (3, Filter::Bilinear, vec![0, 128, 255]),
        ] {
            let out = resize(&edge, n, 1, filter).unwrap();
            let row: Vec<u8> = out.rgb.chunks(3).map(|p| p[0]).collect();
            assert_eq!(row, expected, "{n} {filter:?}");
        }
    }

    #[test]
    fn sizes() {
        let picture = grey(5, 3, &[7; 15]);
        for (width, height) in [(5, 3), (1, 1), (40, 2), (3, 9)] {
            let out = resize(&picture, width, height, Filter::Bicubic).unwrap();
            assert_eq!((out.width, out.height), (width, height));
            assert!(out.rgb.iter().all(|&v| v == 7), "a flat picture stays flat");
        }
        assert!(resize(&picture, 0, 4, Filter::Bicubic).is_err());
    }
}
