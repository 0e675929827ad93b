//! Panels side by side, from the whole picture to the cells that the last step left.

use embedded_graphics::Drawable;
use embedded_graphics::Pixel;
use embedded_graphics::geometry::{OriginDimensions, Point, Size};
use embedded_graphics::mono_font::{MonoTextStyle, ascii::FONT_8X13};
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::prelude::DrawTarget;
use embedded_graphics::text::{Alignment, Text};
use image::{Rgb, RgbImage, imageops};

use super::name;
use super::panel::{PanelColours, panel};
use crate::report::{Fate, TileFate};

const MARGIN: u32 = 8;
const LABEL: u32 = 20;

/// Draws one row of panels, each `width` pixels wide, with its name and the number of cells left below. A
/// picture of several tiles has a second row: its base view, which shows the whole once more. The heat map of
/// a stage shows the scores of its ranking. The start therefore has none.
#[must_use]
pub fn strip(fate: &Fate, picture: Option<&RgbImage>, shown: PanelColours, width: u32) -> RgbImage {
    let first = usize::from(shown == PanelColours::Heat && fate.stages.len() > 1);
    let stages: Vec<usize> = (first..fate.stages.len()).collect();
    let rows: Vec<Vec<RgbImage>> = views(fate)
        .iter()
        .map(|tiles| stages.iter().map(|&stage| panel(fate, tiles, picture, stage, shown, width)).collect())
        .collect();
    let panel_height = rows.first().and_then(|row| row.first()).map_or(1, RgbImage::height);
    let across = u32::try_from(stages.len()).unwrap_or(1);
    let down = u32::try_from(rows.len()).unwrap_or(1);
    let mut sheet = RgbImage::from_pixel(
        across * (width + MARGIN) + MARGIN,
        down * (panel_height + MARGIN) + MARGIN + LABEL,
        Rgb([255; 3]),
    );
    for (j, row) in (0..).zip(&rows) {
        for (i, panel) in (0..).zip(row) {
            imageops::replace(
                &mut sheet,
                panel,
                i64::from(MARGIN + i * (width + MARGIN)),
                i64::from(MARGIN + j * (panel_height + MARGIN)),
            );
        }
    }
    let baseline = down * (panel_height + MARGIN) + MARGIN + 11;
    for (i, &stage) in (0..).zip(&stages) {
        let text = format!("{}: {}", name(&fate.stages[stage]), fate.stages[stage].left);
        write(&mut sheet, &text, MARGIN + i * (width + MARGIN) + width / 2, baseline);
    }
    sheet
}

/// Tiles that are drawn over one copy of the picture: the fine ones together, then the base view alone. Tiles
/// whose place is not known are each drawn alone, and the frames of a video all together, side by side.
fn views(fate: &Fate) -> Vec<Vec<&TileFate>> {
    match fate.tiles.as_slice() {
        frames @ [first, ..] if first.frame.is_some() => vec![frames.iter().collect()],
        [base, fine @ ..] if !fine.is_empty() && fine.iter().all(|tile| tile.pixels.is_some()) => {
            vec![fine.iter().collect(), vec![base]]
        }
        tiles => tiles.iter().map(|tile| vec![tile]).collect(),
    }
}

fn write(sheet: &mut RgbImage, text: &str, centre: u32, baseline: u32) {
    let at = Point::new(i32::try_from(centre).unwrap_or(0), i32::try_from(baseline).unwrap_or(0));
    let style = MonoTextStyle::new(&FONT_8X13, Rgb888::BLACK);
    // Drawing on pixels in memory cannot fail.
    let Ok(_) = Text::with_alignment(text, at, style, Alignment::Center).draw(&mut Canvas(sheet));
}

struct Canvas<'a>(&'a mut RgbImage);

impl OriginDimensions for Canvas<'_> {
    fn size(&self) -> Size {
        Size::new(self.0.width(), self.0.height())
    }
}

impl DrawTarget for Canvas<'_> {
    type Color = Rgb888;
    type Error = std::convert::Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Self::Error> {
        for Pixel(at, colour) in pixels {
            if let (Ok(x), Ok(y)) = (u32::try_from(at.x), u32::try_from(at.y))
                && let Some(pixel) = self.0.get_pixel_mut_checked(x, y)
            {
                *pixel = Rgb([colour.r(), colour.g(), colour.b()]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Cell, Half, Stage};

    /// A 3 x 2 grid on a 30 x 20 picture. Cell 4 goes at the first stage into cell 1, whose score is the
    /// highest.
    fn fate() -> Fate {
        let cell = |gone: usize, score: f32| Cell {
            gone,
            returns: Vec::new(),
            into: (gone > 0).then_some((0, 1)),
            scores: vec![Some(score)],
        };
        Fate {
            index: 0,
            width: 30,
            height: 20,
            strategy: "merge".into(),
            stages: vec![
                Stage { half: None, layer: 0, left: 6 },
                Stage { half: Some(Half::Encoder), layer: 3, left: 5 },
            ],
            tiles: vec![TileFate {
                tile: 0,
                columns: 3,
                rows: 2,
                pixels: Some([0.0, 0.0, 30.0, 20.0]),
                frame: None,
                region: None,
                score: None,
                cells: vec![
                    cell(0, 0.2),
                    cell(0, 0.9),
                    cell(0, 0.2),
                    cell(0, 0.3),
                    cell(1, 0.1),
                    cell(0, 0.5),
                ],
            }],
            region: None,
        }
    }

    #[test]
    fn merged_cells_are_covered_and_no_other() {
        let picture = RgbImage::from_pixel(30, 20, Rgb([200, 0, 0]));
        let sheet = strip(&fate(), Some(&picture), PanelColours::Kept, 30);
        assert_eq!(sheet.dimensions(), (2 * 38 + 8, 28 + 8 + LABEL));
        for stage in 0..2 {
            for y in 0..20 {
                for x in 0..30 {
                    let merged = stage == 1 && (10..20).contains(&x) && y >= 10;
                    let pixel = sheet.get_pixel(MARGIN + stage * 38 + x, MARGIN + y);
                    assert_eq!(pixel.0 != [200, 0, 0], merged, "stage {stage}, pixel {x} {y}");
                }
            }
        }
    }

    #[test]
    fn the_hottest_cell_is_the_lightest() {
        let sheet = strip(&fate(), None, PanelColours::Heat, 30);
        let light =
            |x: u32, y: u32| sheet.get_pixel(MARGIN + x, MARGIN + y).0.map(u32::from).iter().sum::<u32>();
        let cells: Vec<u32> = (0..6).map(|i| light(10 * (i % 3) + 5, 10 * (i / 3) + 5)).collect();
        assert_eq!(cells.iter().max(), Some(&cells[1]), "{cells:?}");
        assert_eq!(cells.iter().min(), Some(&cells[4]), "{cells:?}");
    }

    #[test]
    fn padding_belongs_to_no_visible_cell() {
        // A square tile around a wide picture: rows 0 and 3 of its cells lie outside.
        let mut fate = fate();
        let cell = |gone: usize| Cell { gone, returns: Vec::new(), into: None, scores: vec![None] };
        fate.tiles[0] = TileFate {
            tile: 0,
            columns: 1,
            rows: 4,
            pixels: Some([0.0, -10.0, 30.0, 30.0]),
            frame: None,
            region: None,
            score: None,
            cells: vec![cell(1), cell(0), cell(1), cell(1)],
        };
        let picture = RgbImage::from_pixel(30, 20, Rgb([0, 0, 200]));
        let sheet = strip(&fate, Some(&picture), PanelColours::Kept, 30);
        let stage = |x: u32, y: u32| sheet.get_pixel(MARGIN + 38 + x, MARGIN + y).0;
        assert!((0..10).all(|y| stage(15, y) == [0, 0, 200]), "the second row is kept");
        assert!((10..20).all(|y| stage(15, y) != [0, 0, 200]), "the third is merged");
    }

    #[test]
    fn a_region_is_marked_and_the_rest_is_pale() {
        let fate = Fate { region: Some([10, 0, 20, 20]), ..fate() };
        let picture = RgbImage::from_pixel(30, 20, Rgb([0, 0, 200]));
        let sheet = strip(&fate, Some(&picture), PanelColours::Kept, 30);
        let at = |x: u32| sheet.get_pixel(MARGIN + x, MARGIN + 5).0;
        assert_eq!(at(15), [0, 0, 200], "inside");
        assert!(at(2) != at(15) && at(27) != at(15), "outside");
        assert!(at(10) != at(15) && at(10) != at(2), "the line around it");
    }

    #[test]
    fn a_base_view_has_its_own_row() {
        let mut fate = fate();
        let fine = TileFate { tile: 1, ..fate.tiles[0].clone() };
        fate.tiles.push(fine);
        assert_eq!(strip(&fate, None, PanelColours::Kept, 30).height(), 2 * 28 + 8 + LABEL);
    }
}
