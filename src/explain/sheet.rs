//! The frames of a video side by side, as one picture whose parts the tiles show.

use image::RgbImage;
use image::imageops::{self, FilterType};

use crate::report::{Fate, TileFate};

/// Pixels across a frame at most: a page has many of them.
const FRAME: u32 = 320;

/// Whether `fate` is that of a video.
#[must_use]
pub fn is_video(fate: &Fate) -> bool {
    fate.tiles.first().is_some_and(|tile| tile.frame.is_some())
}

/// Lays `fate`, which is a video's, on a sheet with its frames row by row in an even grid. Returns the sheet
/// too if the frames are at hand. A tile that takes several frames shows the first of them.
#[must_use]
pub fn sheet(fate: &Fate, frames: &[RgbImage]) -> (Fate, Option<RgbImage>) {
    let count = u32::try_from(fate.tiles.len()).unwrap_or(u32::MAX);
    let columns = f64::from(count).sqrt().ceil().max(1.0) as u32;
    let rows = count.div_ceil(columns);
    let scale = (f64::from(FRAME) / f64::from(fate.width.max(1))).min(1.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let scaled = |length: u32| (f64::from(length) * scale).round().max(1.0) as u32;
    let (width, height) = (scaled(fate.width), scaled(fate.height));
    let corner = |i: u32| (i % columns * width, i / columns * height);
    let tiles: Vec<TileFate> = (0..)
        .zip(&fate.tiles)
        .map(|(i, tile)| {
            let (x, y) = corner(i);
            let place = [x, y, x + width, y + height].map(f64::from);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let on_sheet = |length: u32, most: u32| ((f64::from(length) * scale).round() as u32).min(most);
            let region = tile.region.map(|[left, top, right, bottom]| {
                let (x_at, y_at) = (|at| x + on_sheet(at, width), |at| y + on_sheet(at, height));
                [x_at(left), y_at(top), x_at(right), y_at(bottom)]
            });
            TileFate { pixels: Some(place), region, ..tile.clone() }
        })
        .collect();
    let picture = (!frames.is_empty()).then(|| {
        let mut sheet = RgbImage::new(columns * width, rows * height);
        for (i, tile) in (0..).zip(&fate.tiles) {
            let Some(frame) = tile.frame.and_then(|number| frames.get(number)) else { continue };
            let (x, y) = corner(i);
            let small = imageops::resize(frame, width, height, FilterType::Triangle);
            imageops::replace(&mut sheet, &small, i64::from(x), i64::from(y));
        }
        sheet
    });
    (Fate { width: columns * width, height: rows * height, tiles, ..fate.clone() }, picture)
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;
    use crate::report::{Cell, Stage};

    #[test]
    fn frames_lie_row_by_row() {
        let cell = Cell { gone: 0, returns: Vec::new(), into: None, scores: Vec::new() };
        // Tile i takes frames 2i and 2i + 1.
        let tile = |tile: usize| TileFate {
            tile,
            columns: 2,
            rows: 1,
            pixels: Some([0.0, 0.0, 30.0, 20.0]),
            frame: Some(2 * tile),
            region: (tile == 1).then_some([15, 0, 30, 20]),
            score: None,
            cells: vec![cell.clone(); 2],
        };
        let fate = Fate {
            index: 0,
            width: 30,
            height: 20,
            strategy: "merge".into(),
            stages: vec![Stage { half: None, layer: 0, left: 6 }],
            tiles: (0..3).map(tile).collect(),
            region: None,
        };
        assert!(is_video(&fate));
        let frames: Vec<RgbImage> =
            (0..6).map(|i| RgbImage::from_pixel(30, 20, Rgb([40 * i, 0, 0]))).collect();
        let (on_sheet, picture) = sheet(&fate, &frames);
        let picture = picture.unwrap();
        assert_eq!((on_sheet.width, on_sheet.height), (60, 40));
        assert_eq!(picture.dimensions(), (60, 40));
        assert_eq!(on_sheet.tiles[2].pixels, Some([0.0, 20.0, 30.0, 40.0]));
        for (x, y, red) in [(15, 10, 0), (45, 10, 80), (15, 30, 160), (45, 30, 0)] {
            assert_eq!(picture.get_pixel(x, y).0, [red, 0, 0], "{x} {y}");
        }
        assert_eq!(on_sheet.tiles[1].cells, fate.tiles[1].cells);
        assert_eq!([0, 1, 2].map(|i| on_sheet.tiles[i].region), [None, Some([45, 0, 60, 20]), None]);
        let large = Fate { width: 1920, height: 1080, ..fate };
        assert_eq!(sheet(&large, &[]).0.width, 2 * 320);
        assert!(sheet(&large, &[]).1.is_none());
    }
}
