//! From a picture to the views an encoder of fixed size sees, and to the size one of dynamic size
//! takes: what the families' own processors do with pixels.

use super::Pixels;
use super::resize::{Filter, resize};
use crate::error::{Error, Kind, Result};

/// A picture cut for anyres: the whole of it, and its tiles row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Tiled {
    /// The whole picture squeezed into a square.
    pub base: Pixels,
    pub tiles: Vec<Pixels>,
    /// Tiles across and down.
    pub grid: (u32, u32),
    /// Part of the picture that each tile shows: left, top, right, bottom, in its pixels; parts
    /// outside are padding.
    pub areas: Vec<[f64; 4]>,
}

/// Cuts `picture` at the best of `pinpoints` into tiles of `side`: resized to fit with its shape
/// kept, in the middle of black padding.
///
/// # Errors
/// As [`resize`].
pub fn anyres(picture: &Pixels, side: u32, pinpoints: &[(u32, u32)], filter: Filter) -> Result<Tiled> {
    let size = (picture.width, picture.height);
    let best = best_resolution(size, pinpoints).unwrap_or((side, side));
    let fitted = fitted_size(size, best);
    let small = resize(picture, fitted.0, fitted.1, filter)?;
    let margin = ((best.0 - fitted.0) / 2, (best.1 - fitted.1) / 2);
    let canvas = placed(&small, best, margin, [0; 3]);
    let scale = (f64::from(size.0) / f64::from(fitted.0), f64::from(size.1) / f64::from(fitted.1));
    let grid = (best.0 / side, best.1 / side);
    let mut tiles = Vec::new();
    let mut areas = Vec::new();
    for row in 0..grid.1 {
        for column in 0..grid.0 {
            tiles.push(cropped(&canvas, (column * side, row * side), side));
            let edge = |at: u32, margin: u32, scale: f64| (f64::from(at) - f64::from(margin)) * scale;
            areas.push([
                edge(column * side, margin.0, scale.0),
                edge(row * side, margin.1, scale.1),
                edge((column + 1) * side, margin.0, scale.0),
                edge((row + 1) * side, margin.1, scale.1),
            ]);
        }
    }
    Ok(Tiled { base: resize(picture, side, side, filter)?, tiles, grid, areas })
}

/// Cuts `picture` into tiles of `side`, stretched over the grid of `least` to `most` tiles whose shape is nearest to
/// its own; the whole squeezed into one comes apart. With a grid of one tile there are none beside the whole.
///
/// # Errors
/// As [`resize`].
pub fn tiled(picture: &Pixels, side: u32, tiles: (u32, u32), filter: Filter) -> Result<Tiled> {
    let size = (picture.width, picture.height);
    let base = resize(picture, side, side, filter)?;
    let grid = nearest_grid(size, side, tiles);
    if grid == (1, 1) {
        return Ok(Tiled { base, tiles: Vec::new(), grid: (0, 0), areas: Vec::new() });
    }
    let canvas = resize(picture, grid.0 * side, grid.1 * side, filter)?;
    let scale = (f64::from(size.0) / f64::from(grid.0), f64::from(size.1) / f64::from(grid.1));
    let places = (0..grid.1).flat_map(|row| (0..grid.0).map(move |column| (column, row)));
    let (tiles, areas) = places
        .map(|(column, row)| {
            let edge = |at: u32, scale: f64| f64::from(at) * scale;
            let area = [
                edge(column, scale.0),
                edge(row, scale.1),
                edge(column + 1, scale.0),
                edge(row + 1, scale.1),
            ];
            (cropped(&canvas, (column * side, row * side), side), area)
        })
        .unzip();
    Ok(Tiled { base, tiles, grid, areas })
}

/// Tiles across and down of the grid with `least` to `most` tiles of `side` whose shape is nearest to that of `size`. Among
/// grids of one shape it is the largest whose area is below twice the picture's (InternVL's `dynamic_preprocess`).
#[must_use]
pub fn nearest_grid(size: (u32, u32), side: u32, (least, most): (u32, u32)) -> (u32, u32) {
    let shape = f64::from(size.0) / f64::from(size.1);
    let area = f64::from(size.0) * f64::from(size.1);
    let mut grids: Vec<(u32, u32)> = (1..=most)
        .flat_map(|across| (1..=most / across).map(move |down| (across, down)))
        .filter(|(across, down)| across * down >= least)
        .collect();
    grids.sort_by_key(|(across, down)| across * down);
    let (mut best, mut nearest) = ((1, 1), f64::INFINITY);
    for (across, down) in grids {
        let distance = (shape - f64::from(across) / f64::from(down)).abs();
        let tiles = f64::from(side).powi(2) * f64::from(across * down);
        #[allow(clippy::float_cmp)] // Grids of one shape have the same bits.
        if distance < nearest || (distance == nearest && area > 0.5 * tiles) {
            (best, nearest) = ((across, down), distance);
        }
    }
    best
}

/// The (width, height) in whole multiples of `unit` of a picture that is made smaller until no side is above `longest`
/// (Pixtral's `get_resize_output_image_size`).
#[must_use]
pub fn bounded_size(size: (u32, u32), unit: u32, longest: u32) -> (u32, u32) {
    let ratio = (f64::from(size.0) / f64::from(longest)).max(f64::from(size.1) / f64::from(longest));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let side = |length: u32| {
        let length = if ratio > 1.0 { (f64::from(length) / ratio).floor() as u32 } else { length };
        length.max(1).next_multiple_of(unit)
    };
    (side(size.0), side(size.1))
}

/// The (width, height) of `pinpoints` that shows most of the picture's own pixels, and of those
/// the one with the least padding; the first wins a tie. For a picture so thin that none shows any
/// of it, the first one.
#[must_use]
pub fn best_resolution(size: (u32, u32), pinpoints: &[(u32, u32)]) -> Option<(u32, u32)> {
    let (width, height) = (f64::from(size.0), f64::from(size.1));
    let mut best = None;
    let (mut most, mut least_waste) = (0, u64::MAX);
    for &(across, down) in pinpoints {
        let scale = (f64::from(across) / width).min(f64::from(down) / height);
        let shown = (whole(width * scale) * whole(height * scale)).min(u64::from(size.0) * u64::from(size.1));
        let waste = u64::from(across) * u64::from(down) - shown;
        if shown > most || (shown == most && shown > 0 && waste < least_waste) {
            (most, least_waste, best) = (shown, waste, Some((across, down)));
        }
    }
    best.or_else(|| pinpoints.first().copied())
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(x: f64) -> u64 {
    x as u64
}

/// The largest size of the picture's shape within `room`, at least one pixel a side.
fn fitted_size(size: (u32, u32), room: (u32, u32)) -> (u32, u32) {
    let scale_x = f64::from(room.0) / f64::from(size.0);
    let scale_y = f64::from(room.1) / f64::from(size.1);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let up = |length: u32, scale: f64, most: u32| ((f64::from(length) * scale).ceil() as u32).clamp(1, most);
    if scale_x < scale_y {
        (room.0, up(size.1, scale_x, room.1))
    } else {
        (up(size.0, scale_y, room.0), room.1)
    }
}

/// `picture` in the middle of a square of its longer side filled with `colour`, then resized to
/// `side`. Returns the area of the picture that the square shows, too.
///
/// # Errors
/// As [`resize`].
pub fn padded_square(
    picture: &Pixels,
    side: u32,
    colour: [u8; 3],
    filter: Filter,
) -> Result<(Pixels, [f64; 4])> {
    let longest = picture.width.max(picture.height);
    let margin = ((longest - picture.width) / 2, (longest - picture.height) / 2);
    let square = placed(picture, (longest, longest), margin, colour);
    let (left, top) = (-f64::from(margin.0), -f64::from(margin.1));
    let area = [left, top, left + f64::from(longest), top + f64::from(longest)];
    Ok((resize(&square, side, side, filter)?, area))
}

fn placed(picture: &Pixels, size: (u32, u32), at: (u32, u32), colour: [u8; 3]) -> Pixels {
    let mut rgb = colour.repeat(size.0 as usize * size.1 as usize);
    let row = picture.width as usize * 3;
    for (y, line) in picture.rgb.chunks_exact(row).enumerate() {
        let start = ((at.1 as usize + y) * size.0 as usize + at.0 as usize) * 3;
        rgb[start..start + row].copy_from_slice(line);
    }
    Pixels { width: size.0, height: size.1, rgb, remark: None, moment: None }
}

fn cropped(picture: &Pixels, at: (u32, u32), side: u32) -> Pixels {
    let (width, side) = (picture.width as usize * 3, side as usize);
    let left = at.0 as usize * 3;
    let rgb = picture
        .rgb
        .chunks_exact(width)
        .skip(at.1 as usize)
        .take(side)
        .flat_map(|line| &line[left..left + side * 3])
        .copied()
        .collect();
    Pixels { width: side as u32, height: side as u32, rgb, remark: None, moment: None }
}

/// The (width, height) nearest to `size` whose sides are multiples of `factor` and whose area is
/// within `pixels` (least, most); Qwen2-VL's `smart_resize`.
///
/// # Errors
/// [`Kind::Media`] for a picture more than 200 times as long as wide, as Qwen2-VL's own code.
pub fn smart_size(size: (u32, u32), factor: u32, pixels: (u64, u64)) -> Result<(u32, u32)> {
    Ok(within(shaped(size)?, (1.0, 1.0), f64::from(factor), pixels))
}

/// The same for a video of `frames` frames, whose pixels in all are within `pixels`; Qwen3-VL's `smart_resize` of videos.
///
/// # Errors
/// As [`smart_size`].
pub fn smart_frame_size(
    size: (u32, u32),
    frames: u64,
    factor: u32,
    pixels: (u64, u64),
) -> Result<(u32, u32)> {
    let step = f64::from(factor);
    let (width, height) = shaped(size)?;
    // A frame that a token does not fit into is first made larger.
    let up = if width < step || height < step { (step / width).max(step / height) } else { 1.0 };
    #[allow(clippy::cast_precision_loss)]
    let frames = frames.max(2) as f64;
    let paired = (frames / 2.0).round_ties_even() * 2.0;
    Ok(within(((width * up).floor(), (height * up).floor()), (frames, paired), step, pixels))
}

/// Width and height of a picture that is not too long for Qwen-VL.
fn shaped(size: (u32, u32)) -> Result<(f64, f64)> {
    let (width, height) = (f64::from(size.0), f64::from(size.1));
    if width.max(height) / width.min(height) > 200.0 {
        return Err(Error::new(
            Kind::Media,
            format!("{}x{} pixels: one side is more than 200 times the other; crop it", size.0, size.1),
        ));
    }
    Ok((width, height))
}

/// The multiples of `step` nearest to `width` and `height` whose area, times the frames, is within `pixels` (least, most).
/// Sizes are rescaled by `frames`, and compared by the number that is `paired`.
fn within(
    (width, height): (f64, f64),
    (frames, paired): (f64, f64),
    step: f64,
    pixels: (u64, u64),
) -> (u32, u32) {
    #[allow(clippy::cast_precision_loss)]
    let (least, most) = (pixels.0 as f64, pixels.1 as f64);
    let nearest = |length: f64| (length / step).round_ties_even() * step;
    let mut out = (nearest(width), nearest(height));
    if paired * out.0 * out.1 > most {
        let beta = (frames * width * height / most).sqrt();
        let down = |length: f64| ((length / beta / step).floor() * step).max(step);
        out = (down(width), down(height));
    } else if paired * out.0 * out.1 < least {
        let beta = (least / (frames * width * height)).sqrt();
        let up = |length: f64| (length * beta / step).ceil() * step;
        out = (up(width), up(height));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (out.0.max(step) as u32, out.1.max(step) as u32)
}

/// (x / 255 - mean) / std of every sample, [height, width, 3].
#[must_use]
pub fn normalised(picture: &Pixels, mean: [f32; 3], std: [f32; 3]) -> Vec<f32> {
    let sample = |(i, &value): (usize, &u8)| (f32::from(value) / 255.0 - mean[i % 3]) / std[i % 3];
    picture.rgb.iter().enumerate().map(sample).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEXT: [(u32, u32); 5] = [(672, 336), (336, 672), (672, 672), (336, 1008), (1008, 336)];

    fn picture(width: u32, height: u32) -> Pixels {
        let rgb = (0..width * height * 3).map(|i| (i % 251) as u8).collect();
        Pixels { width, height, rgb, remark: None, moment: None }
    }

    #[test]
    fn best_resolutions() {
        // (size, best); from transformers' select_best_resolution, sides swapped.
        for (size, best) in [
            ((640, 480), (672, 672)),
            ((1000, 300), (1008, 336)),
            ((300, 1200), (336, 1008)),
            ((20, 20), (672, 336)),
            ((2000, 2000), (672, 672)),
            ((30_000, 1), (672, 336)),
        ] {
            assert_eq!(best_resolution(size, &NEXT), Some(best), "{size:?}");
        }
        assert_eq!(best_resolution((5, 5), &[]), None);
    }

    #[test]
    fn fitting() {
        for (size, room, fitted) in [
            ((640, 480), (672, 672), (672, 504)),
            ((480, 640), (672, 672), (504, 672)),
            ((1000, 300), (1008, 336), (1008, 303)),
            ((30_000, 1), (672, 336), (672, 1)),
            ((20, 20), (672, 336), (336, 336)),
        ] {
            assert_eq!(fitted_size(size, room), fitted, "{size:?} in {room:?}");
        }
    }

    #[test]
    fn tiles_cover_the_canvas() {
        let tiled = anyres(&picture(100, 40), 16, &[(32, 32), (64, 32)], Filter::Bicubic).unwrap();
        assert_eq!(tiled.grid, (4, 2));
        assert_eq!(tiled.tiles.len(), 8);
        // 64 x 26 in 64 x 32: three black rows above, and the first tile's area begins above the picture.
        assert!(tiled.tiles[0].rgb[..3 * 16 * 3].iter().all(|&v| v == 0));
        assert!(tiled.tiles[0].rgb[3 * 16 * 3..].iter().any(|&v| v != 0));
        assert!(tiled.areas[0][1] < 0.0 && tiled.areas[7][3] > 40.0);
        assert!((tiled.areas[7][2] - 100.0).abs() < 1e-9);
        assert_eq!((tiled.base.width, tiled.base.height), (16, 16));
    }

    #[test]
    fn squares() {
        let (square, area) = padded_square(&picture(4, 2), 4, [9, 8, 7], Filter::Bicubic).unwrap();
        assert_eq!(square.rgb[..12], [9, 8, 7].repeat(4));
        assert_eq!(square.rgb[12..36], picture(4, 2).rgb);
        assert_eq!(area, [0.0, -1.0, 4.0, 3.0]);
    }

    #[test]
    fn smart_sizes() {
        // (size, bounds, result); from transformers' smart_resize with factor 28.
        let image = (3136, 1_003_520);
        for (size, bounds, expected) in [
            ((640, 480), image, (644, 476)),
            ((20, 20), image, (56, 56)),
            ((4000, 3000), image, (1148, 840)),
            ((1000, 30), image, (1008, 28)),
            ((42, 70), image, (56, 56)),
        ] {
            assert_eq!(smart_size(size, 28, bounds).unwrap(), expected, "{size:?}");
        }
        assert!(smart_size((2010, 10), 28, image).unwrap_err().to_string().contains("200 times"));
    }

    #[test]
    fn normalisation() {
        let flat = Pixels { width: 1, height: 1, rgb: vec![255, 0, 127], remark: None, moment: None };
        let values = normalised(&flat, [0.5; 3], [0.5, 0.25, 1.0]);
        assert_eq!(values[..2], [1.0, -2.0]);
        assert!((values[2] - (127.0 / 255.0 - 0.5)).abs() < 1e-7);
    }
}
