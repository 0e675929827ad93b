//! The pictures of the fixtures, made as tools/family_inputs.py makes them.

/// Levels, [height, width, 3].
pub fn levels(width: u32, height: u32, seed: u32) -> Vec<u8> {
    let mut rgb = Vec::new();
    for y in 0..height {
        for x in 0..width {
            for c in 0..3 {
                let wave = (x * 5 + y * 3 + c * 37 + seed * 29) % 256;
                let wave = wave.min(255 - wave) * 2;
                let texture = ((x * x + 3 * y * y + x * y * (c + 1) + seed * 11) >> 4) & 63;
                rgb.push(u8::try_from((wave * 3 / 4 + texture).min(255)).expect("at most 255"));
            }
        }
    }
    rgb
}
