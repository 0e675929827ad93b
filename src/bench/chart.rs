//! Time by parts as stacked bars, one bar for each schedule.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::{Measured, PARTS};
use crate::plot::{self, Drawing, Format};

const WIDTH: u32 = 900;
const BAR: u32 = 56;

/// Okabe and Ito's palette: told apart by every kind of colour vision.
const COLOURS: [RGBColor; 5] = [
    RGBColor(0x99, 0x99, 0x99),
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
];

/// The medians of each part, in milliseconds.
///
/// # Errors
/// The drawing library's own words.
pub fn chart(measured: &Measured, format: Format) -> Result<Vec<u8>, String> {
    plot::render(&Bars(measured), format)
}

struct Bars<'a>(&'a Measured);

impl Drawing for Bars<'_> {
    fn size(&self) -> (u32, u32) {
        (WIDTH, 110 + BAR * u32::try_from(self.0.outcomes.len().max(1)).unwrap_or(1))
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), String> {
        draw(area, self.0)
    }
}

fn draw<B: DrawingBackend>(area: &DrawingArea<B, Shift>, measured: &Measured) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let n = i32::try_from(measured.outcomes.len()).unwrap_or(i32::MAX);
    let longest = measured
        .outcomes
        .iter()
        .map(|outcome| PARTS.iter().map(|part| outcome.spread(part.1).median).sum::<f64>())
        .fold(1.0, f64::max);
    let name = |number: &i32| {
        usize::try_from(n - 1 - *number)
            .ok()
            .and_then(|i| measured.outcomes.get(i))
            .map_or_else(String::new, |outcome| outcome.name.clone())
    };
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(110)
        .margin_top(34)
        .build_cartesian_2d(0.0..longest * 1.02, (0..n - 1).into_segmented())
        .map_err(|error| failed(&error))?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .x_desc("milliseconds")
        .y_labels(measured.outcomes.len())
        .y_label_formatter(&|value| match value {
            SegmentValue::CenterOf(number) => name(number),
            _ => String::new(),
        })
        .label_style(("sans-serif", 16))
        .draw()
        .map_err(|error| failed(&error))?;
    for (part, colour) in PARTS.iter().zip(COLOURS) {
        let before = PARTS.iter().take_while(|other| other.0 != part.0);
        let bars = (0..).zip(measured.outcomes.iter().rev()).map(|(row, outcome)| {
            let start: f64 = before.clone().map(|other| outcome.spread(other.1).median).sum();
            let end = start + outcome.spread(part.1).median;
            let mut bar = Rectangle::new(
                [(start, SegmentValue::Exact(row)), (end, SegmentValue::Exact(row + 1))],
                colour.filled(),
            );
            bar.set_margin(6, 6, 0, 0);
            bar
        });
        chart.draw_series(bars).map_err(|error| failed(&error))?;
    }
    legend(area).map_err(|error| failed(&error))
}

/// A row of names above the bars, where no bar can cover it.
fn legend<B: DrawingBackend>(area: &DrawingArea<B, Shift>) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    for (i, (part, colour)) in (0..).zip(PARTS.iter().zip(COLOURS)) {
        let x = 122 + i * 140;
        area.draw(&Rectangle::new([(x, 12), (x + 16, 28)], colour.filled()))?;
        area.draw(&Text::new(part.0, (x + 22, 12), ("sans-serif", 16)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::measured;
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_parts() {
        let png = chart(&measured(), Format::Png).unwrap();
        let picture = image::load_from_memory(&png).unwrap().to_rgb8();
        let blue = [COLOURS[1].0, COLOURS[1].1, COLOURS[1].2];
        // Rows below the legend: how many pixels of each have the encoder's colour.
        let widths: Vec<usize> = (36..picture.height())
            .map(|y| (0..picture.width()).filter(|&x| picture.get_pixel(x, y).0 == blue).count())
            .filter(|&width| width > 0)
            .collect();
        let (longest, shortest) = (widths.iter().max().unwrap(), widths.iter().min().unwrap());
        assert!((*longest as f64 / *shortest as f64 - 2.0).abs() < 0.05, "{longest} {shortest}");
        assert_eq!(widths.iter().position(|width| width == longest), Some(0), "the first is on top");
    }

    #[test]
    fn svg_names_schedules_and_parts() {
        let svg = String::from_utf8(chart(&measured(), Format::Svg).unwrap()).unwrap();
        for name in ["off", "paper", "encoder", "prefill", "milliseconds"] {
            assert!(svg.contains(name), "{name}");
        }
    }
}
