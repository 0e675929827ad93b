//! Accuracy against throughput, one point for each schedule.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::Summary;
use crate::plot::{self, Drawing, Format};

const SIZE: (u32, u32) = (900, 560);
const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xb2);
const ORANGE: RGBColor = RGBColor(0xd5, 0x5e, 0x00);

/// Questions a second (from the median total) across, accuracy with its interval up; the first schedule stands out.
///
/// # Errors
/// The drawing library's own words.
pub fn curve(summary: &Summary, format: Format) -> Result<Vec<u8>, String> {
    plot::render(&Curve(summary), format)
}

struct Curve<'a>(&'a Summary);

impl Drawing for Curve<'_> {
    fn size(&self) -> (u32, u32) {
        SIZE
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), String> {
        draw(area, self.0)
    }
}

fn draw<B: DrawingBackend>(area: &DrawingArea<B, Shift>, summary: &Summary) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let points: Vec<(f64, f64, f64, f64, &str)> = summary
        .rows
        .iter()
        .filter(|row| row.category.is_empty() && row.total_ms > 0.0)
        .map(|row| {
            let of = |share: f64| 100.0 * share;
            let accuracy = row.accuracy;
            (
                1000.0 / row.total_ms,
                of(accuracy.mean),
                of(accuracy.low),
                of(accuracy.high),
                row.schedule.as_str(),
            )
        })
        .collect();
    let fastest = points.iter().map(|point| point.0).fold(1e-9, f64::max);
    let low = points.iter().map(|point| point.2).fold(100.0, f64::min);
    let high = points.iter().map(|point| point.3).fold(0.0, f64::max);
    let room = ((high - low) * 0.1).max(1.0);
    let mut chart = ChartBuilder::on(area)
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..fastest * 1.2, (low - room).max(0.0)..(high + room).min(100.5))
        .map_err(|error| failed(&error))?;
    chart
        .configure_mesh()
        .x_desc("questions a second")
        .y_desc("accuracy, %")
        .label_style(("sans-serif", 15))
        .light_line_style(WHITE)
        .draw()
        .map_err(|error| failed(&error))?;
    let mut ordered = points.clone();
    ordered.sort_by(|a, b| a.0.total_cmp(&b.0));
    chart
        .draw_series(LineSeries::new(ordered.iter().map(|point| (point.0, point.1)), BLUE.mix(0.4)))
        .map_err(|error| failed(&error))?;
    for (i, &(speed, mean, low, high, name)) in points.iter().enumerate() {
        let colour = if i == 0 { ORANGE } else { BLUE };
        chart
            .draw_series([PathElement::new([(speed, low), (speed, high)], colour.mix(0.6))])
            .map_err(|error| failed(&error))?;
        chart
            .draw_series([Circle::new((speed, mean), 5, colour.filled())])
            .map_err(|error| failed(&error))?;
        chart
            .draw_series([Text::new(name.to_owned(), (speed + fastest * 0.012, mean), ("sans-serif", 15))])
            .map_err(|error| failed(&error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Metric;
    use super::super::summary::{summarise, tests::record};
    use super::*;

    #[test]
    fn every_schedule_has_its_point() {
        let records = [record("off", "1", "", Some(1.0)), record("keep 0.5", "1", "", Some(0.0))];
        let summary = summarise("set", Metric::Exact, &["off".into(), "keep 0.5".into()], &records);
        let svg = String::from_utf8(curve(&summary, Format::Svg).unwrap()).unwrap();
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains("keep 0.5") && svg.contains("questions a second"));
        let png = curve(&summary, Format::Png).unwrap();
        let picture = image::load_from_memory(&png).unwrap().to_rgb8();
        let has = |colour: RGBColor| picture.pixels().any(|pixel| pixel.0 == [colour.0, colour.1, colour.2]);
        assert!(has(ORANGE) && has(BLUE));
    }
}
