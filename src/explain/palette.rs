//! Colours that every kind of colour vision tells apart.

use image::Rgb;

/// Cividis in ten stops: even in lightness from dark blue to yellow (Nuñez, Anderton and Renslow, 2018).
const CIVIDIS: [[u8; 3]; 10] = [
    [0x00, 0x22, 0x4e],
    [0x12, 0x35, 0x70],
    [0x3b, 0x49, 0x6c],
    [0x57, 0x5d, 0x6d],
    [0x70, 0x71, 0x73],
    [0x8a, 0x86, 0x78],
    [0xa5, 0x9c, 0x74],
    [0xc3, 0xb3, 0x69],
    [0xe1, 0xcc, 0x55],
    [0xfe, 0xe8, 0x38],
];

/// Stripes over a merged cell: light ground, darker lines. No picture looks like them, dark or light.
pub const STRIPE_GROUND: Rgb<u8> = Rgb([0xb9, 0xbf, 0xc5]);
pub const STRIPE_LINE: Rgb<u8> = Rgb([0x7d, 0x85, 0x8d]);

/// Line around a chosen region, and what lies over the rest of the picture.
pub const REGION_LINE: Rgb<u8> = Rgb([0xff, 0xff, 0xff]);
pub const REGION_EDGE: Rgb<u8> = Rgb([0, 0, 0]);
pub const REST: Rgb<u8> = Rgb([0xb9, 0xbf, 0xc5]);

/// Returns the colour of a share from 0 to 1. Other values are clamped.
pub fn heat(share: f32) -> Rgb<u8> {
    let last = CIVIDIS.len() - 1;
    let at = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) } * last as f32;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let below = (at.floor() as usize).min(last - 1);
    mix(Rgb(CIVIDIS[below]), Rgb(CIVIDIS[below + 1]), at - below as f32)
}

/// Mixes `a` and `b`: `a` if `share` is 0, `b` if it is 1.
pub fn mix(a: Rgb<u8>, b: Rgb<u8>, share: f32) -> Rgb<u8> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let between = |i: usize| (f32::from(a[i]) + (f32::from(b[i]) - f32::from(a[i])) * share).round() as u8;
    Rgb([between(0), between(1), between(2)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heat_grows_lighter() {
        let light = |share: f32| heat(share).0.iter().map(|&c| u32::from(c)).sum::<u32>();
        let lightness: Vec<u32> = (0..=10).map(|i| light(i as f32 / 10.0)).collect();
        assert!(lightness.windows(2).all(|pair| pair[0] < pair[1]), "{lightness:?}");
        assert_eq!(heat(-1.0), heat(0.0));
        assert_eq!(heat(f32::NAN), heat(0.0));
        assert_eq!(heat(2.0), Rgb(CIVIDIS[9]));
    }
}
