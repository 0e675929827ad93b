//! Drawings written as PNG or SVG, with a font inside the program.

use std::sync::Once;

use image::RgbImage;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;

/// Okabe and Ito's palette: told apart by every kind of colour vision.
pub const OKABE_ITO: [RGBColor; 7] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x66, 0x66, 0x66),
];

/// File format of a drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Png,
    Svg,
}

/// Drawing that works on any kind of canvas.
pub trait Drawing {
    /// Width and height in pixels.
    fn size(&self) -> (u32, u32);

    /// # Errors
    /// The drawing library's own words.
    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), String>;
}

/// Writes the picture's file, on white ground.
///
/// # Errors
/// The drawing library's own words.
pub fn render(drawing: &impl Drawing, format: Format) -> Result<Vec<u8>, String> {
    register_fonts();
    let (width, height) = drawing.size();
    match format {
        Format::Svg => {
            let mut svg = String::new();
            on_white(drawing, &SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area())?;
            Ok(svg.into_bytes())
        }
        Format::Png => {
            let mut pixels = vec![0; (width * height * 3) as usize];
            let backend = BitMapBackend::with_buffer(&mut pixels, (width, height));
            on_white(drawing, &backend.into_drawing_area())?;
            let image = RgbImage::from_raw(width, height, pixels).ok_or("a picture of another size")?;
            let mut png = std::io::Cursor::new(Vec::new());
            image.write_to(&mut png, image::ImageFormat::Png).map_err(|error| error.to_string())?;
            Ok(png.into_inner())
        }
    }
}

fn on_white<B: DrawingBackend>(drawing: &impl Drawing, area: &DrawingArea<B, Shift>) -> Result<(), String> {
    area.fill(&WHITE).map_err(|error| error.to_string())?;
    drawing.draw(area)
}

/// Loads the font of charts: a picture must not depend on the fonts of a machine.
fn register_fonts() {
    static FONT: Once = Once::new();
    FONT.call_once(|| {
        // Loading fails for bytes that are no font, and these are one.
        let _ = register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    });
}
