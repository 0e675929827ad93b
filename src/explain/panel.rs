//! One picture at one stage, drawn cell by cell.

use image::RgbImage;
use image::imageops::{self, FilterType};

use super::palette;
use crate::report::{Fate, TileFate};

/// Meaning of a panel's colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PanelColours {
    /// Stripes lie over merged cells.
    Kept,
    /// Colours show the attention that cells received.
    Heat,
}

/// Opacity of a cell's colour over the picture, 0 to 1.
const HEAT: f32 = 0.75;
const HEAT_MERGED: f32 = 0.25;
const STRIPES: f32 = 0.9;
const REST: f32 = 0.7;

/// Draws `tiles` of `fate` after `stage` on the picture, `width` pixels wide. Without a picture the cells stand on
/// black.
pub fn panel(
    fate: &Fate,
    tiles: &[&TileFate],
    picture: Option<&RgbImage>,
    stage: usize,
    shown: PanelColours,
    width: u32,
) -> RgbImage {
    let height = (f64::from(width) * f64::from(fate.height) / f64::from(fate.width.max(1))).round().max(1.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let height = height as u32;
    let mut canvas = match picture {
        Some(picture) => imageops::resize(picture, width, height, FilterType::Triangle),
        None => RgbImage::new(width, height),
    };
    for tile in tiles {
        let scores: Vec<Option<f32>> = tile.cells.iter().map(|cell| cell.score(stage)).collect();
        let known = || scores.iter().flatten().copied();
        let (low, high) = (known().fold(f32::INFINITY, f32::min), known().fold(f32::NEG_INFINITY, f32::max));
        let scale = f64::from(width) / f64::from(fate.width.max(1));
        let places = Places::new(fate, tile, scale);
        for (x, y, pixel) in canvas.enumerate_pixels_mut() {
            let Some(number) = places.cell_at(f64::from(x) + 0.5, f64::from(y) + 0.5) else { continue };
            let cell = &tile.cells[number];
            let left = cell.is_left(stage);
            match (shown, scores[number]) {
                (PanelColours::Heat, Some(score)) => {
                    let share = if high > low { (score - low) / (high - low) } else { 0.5 };
                    *pixel =
                        palette::mix(*pixel, palette::heat(share), if left { HEAT } else { HEAT_MERGED });
                }
                (PanelColours::Kept, _) if !left => {
                    let line = (x + y) % 6 < 2;
                    let stripe = if line { palette::STRIPE_LINE } else { palette::STRIPE_GROUND };
                    *pixel = palette::mix(*pixel, stripe, STRIPES);
                }
                _ => {}
            }
        }
    }
    let scale = f64::from(width) / f64::from(fate.width.max(1));
    if fate.region.is_some() {
        mark(&mut canvas, [0.0, 0.0, f64::from(width), f64::from(height)], fate.region, scale);
    }
    for tile in tiles.iter().filter(|tile| tile.score.is_some()) {
        let whole = [0.0, 0.0, f64::from(fate.width), f64::from(fate.height)];
        mark(&mut canvas, tile.pixels.unwrap_or(whole).map(|side| side * scale), tile.region, scale);
    }
    canvas
}

/// Draws a line around the region that is shown of a picture within `bounds`, and makes the rest pale: all of it without a
/// region.
fn mark(canvas: &mut RgbImage, bounds: [f64; 4], region: Option<[u32; 4]>, scale: f64) {
    // Nothing lies inside a region without pixels.
    let [left, top, right, bottom] = region.unwrap_or_default().map(|side| f64::from(side) * scale);
    let [x0, y0, x1, y1] = bounds;
    for (x, y, pixel) in canvas.enumerate_pixels_mut() {
        let (x, y) = (f64::from(x) + 0.5, f64::from(y) + 0.5);
        if x < x0 || x >= x1 || y < y0 || y >= y1 {
            continue;
        }
        let inside = (x - left).min(right - x).min(y - top).min(bottom - y);
        *pixel = match inside {
            depth if depth < 0.0 => palette::mix(*pixel, palette::REST, REST),
            depth if depth < 1.0 => palette::REGION_EDGE,
            depth if depth < 2.0 => palette::REGION_LINE,
            _ => continue,
        };
    }
}

/// Returns the rectangles of a tile's cells on a canvas.
struct Places {
    left: f64,
    top: f64,
    cell_width: f64,
    cell_height: f64,
    columns: u32,
    rows: u32,
}

impl Places {
    fn new(fate: &Fate, tile: &TileFate, scale: f64) -> Self {
        let whole = [0.0, 0.0, f64::from(fate.width), f64::from(fate.height)];
        let [x0, y0, x1, y1] = tile.pixels.unwrap_or(whole).map(|v| v * scale);
        Self {
            left: x0,
            top: y0,
            cell_width: (x1 - x0) / f64::from(tile.columns.max(1)),
            cell_height: (y1 - y0) / f64::from(tile.rows.max(1)),
            columns: tile.columns,
            rows: tile.rows,
        }
    }

    fn cell_at(&self, x: f64, y: f64) -> Option<usize> {
        let (column, row) = ((x - self.left) / self.cell_width, (y - self.top) / self.cell_height);
        if column < 0.0 || row < 0.0 || column >= f64::from(self.columns) || row >= f64::from(self.rows) {
            return None;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Some(row as usize * self.columns as usize + column as usize)
    }
}
