//! Plot of accuracy against throughput: a point for each schedule, a line for each strategy.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::{Row, Summary};
use crate::plot::{self, Drawing, Format, OKABE_ITO};

const SIZE: (u32, u32) = (900, 600);
/// Pixels of the letters that name points.
const LETTERS: i32 = 15;
const BASE: RGBColor = BLACK;

/// Draws questions a second (from the median total) across and accuracy with its interval up. A line joins
/// each strategy's points. It begins at the first schedule, with which all are compared.
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

/// Place of a schedule in the plot.
struct Point<'a> {
    speed: f64,
    /// Mean and interval, in percent.
    accuracy: [f64; 3],
    row: &'a Row,
}

impl Point<'_> {
    fn at(&self) -> (f64, f64) {
        (self.speed, self.accuracy[0])
    }
}

fn draw<B: DrawingBackend>(area: &DrawingArea<B, Shift>, summary: &Summary) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let whole = summary.rows.iter().filter(|row| row.category.is_empty());
    let points: Vec<Point> = whole
        .clone()
        .filter(|row| row.marked() > 0 && row.total_ms > 0.0)
        .map(|row| {
            let accuracy =
                [row.accuracy.mean, row.accuracy.low, row.accuracy.high].map(|share| 100.0 * share);
            Point { speed: 1000.0 / row.total_ms, accuracy, row }
        })
        .collect();
    let slowest = points.iter().map(|point| point.speed).fold(f64::INFINITY, f64::min);
    let fastest = points.iter().map(|point| point.speed).fold(1e-9, f64::max);
    let low = points.iter().map(|point| point.accuracy[1]).fold(100.0, f64::min);
    let high = points.iter().map(|point| point.accuracy[2]).fold(0.0, f64::max);
    let room = ((high - low) * 0.1).max(1.0);
    let marked = whole.map(Row::marked).min().unwrap_or(0);
    let title = format!("{}: {marked} questions of {}", summary.model, summary.set);
    let mut chart = ChartBuilder::on(area)
        .margin(16)
        .caption(title, ("sans-serif", 20))
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(
            slowest.min(fastest) * 0.8..fastest * 1.2,
            (low - room).max(0.0)..(high + room).min(100.5),
        )
        .map_err(|error| failed(&error))?;
    chart
        .configure_mesh()
        .x_desc("questions a second")
        .y_desc("accuracy, %")
        .label_style(("sans-serif", 15))
        .light_line_style(WHITE)
        .draw()
        .map_err(|error| failed(&error))?;

    let strategies = strategies(&points);
    let colour = |row: &Row| match strategies.iter().position(|name| *name == row.strategy) {
        Some(i) => OKABE_ITO[i % OKABE_ITO.len()],
        None => BASE,
    };
    for (i, strategy) in strategies.iter().enumerate() {
        let colour = OKABE_ITO[i % OKABE_ITO.len()];
        let mut line: Vec<&Point> = points.iter().filter(|point| point.row.strategy == *strategy).collect();
        line.sort_by(|a, b| a.speed.total_cmp(&b.speed));
        let start = points.iter().take(1).filter(|point| point.row.strategy.is_empty());
        let series = LineSeries::new(start.chain(line).map(Point::at), colour.mix(0.5));
        let drawn = chart.draw_series(series).map_err(|error| failed(&error))?;
        drawn.label(*strategy).legend(move |(x, y)| {
            let half = LETTERS / 2;
            PathElement::new([(x, y), (x + half * 2, y)], colour.stroke_width(2))
        });
    }
    let mut labels = Labels::default();
    for point in &points {
        let colour = colour(point.row);
        let interval = [(point.speed, point.accuracy[1]), (point.speed, point.accuracy[2])];
        chart.draw_series([PathElement::new(interval, colour.mix(0.6))]).map_err(|error| failed(&error))?;
        chart.draw_series([Circle::new(point.at(), 5, colour.filled())]).map_err(|error| failed(&error))?;
        let (x, y) = chart.backend_coord(&point.at());
        labels.taken.push([x - 6, y - 6, x + 6, y + 6]);
        let [(_, low), (_, high)] = interval.map(|end| chart.backend_coord(&end));
        labels.taken.push([x - 2, high, x + 2, low]);
    }
    for point in &points {
        let at = chart.backend_coord(&point.at());
        let label = labels.place(at, &point.row.schedule);
        if let Some(end) = leader(at, label) {
            let line = PathElement::new([at, end], BLACK.mix(0.4));
            area.draw(&line).map_err(|error| failed(&error))?;
        }
        let text = Text::new(point.row.schedule.clone(), (label[0], label[1]), ("sans-serif", LETTERS));
        area.draw(&text).map_err(|error| failed(&error))?;
    }
    if !strategies.is_empty() {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerLeft)
            .background_style(WHITE.mix(0.8))
            .label_font(("sans-serif", LETTERS))
            .draw()
            .map_err(|error| failed(&error))?;
    }
    Ok(())
}

/// Returns the names there are, in the order of the table.
fn strategies<'a>(points: &[Point<'a>]) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for point in points {
        let name = point.row.strategy.as_str();
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Boxes that the letters of points must not cover, in pixels: left, top, right, bottom.
#[derive(Default)]
struct Labels {
    taken: Vec<[i32; 4]>,
}

impl Labels {
    /// Returns the box for the name of the point at `(x, y)`: the nearest of some places that covers nothing.
    fn place(&mut self, (x, y): (i32, i32), name: &str) -> [i32; 4] {
        // Letters of this font are somewhat more than half as wide as high.
        let width = i32::try_from(name.chars().count()).unwrap_or(i32::MAX / 100) * (LETTERS * 12 / 20);
        let (left, right) = (x - 10 - width, x + 10);
        let rows = (0..12).flat_map(|i| [i, -i]).map(|i| y - LETTERS / 2 + i * (LETTERS + 2) / 2);
        let boxes = rows.flat_map(|top| [right, left].map(|left| [left, top, left + width, top + LETTERS]));
        let inside = |place: &[i32; 4]| place[0] >= 60 && place[2] < SIZE.0 as i32 && place[1] >= 40;
        let free = |place: &[i32; 4]| self.taken.iter().all(|other| !overlap(place, other));
        let found =
            boxes.filter(inside).find(free).unwrap_or([right, y - LETTERS / 2, right + width, y + LETTERS]);
        self.taken.push(found);
        found
    }
}

/// Returns the end of the line that leads from a point to its name, if that is not beside it.
fn leader((x, y): (i32, i32), [left, top, right, bottom]: [i32; 4]) -> Option<(i32, i32)> {
    let end = (x.clamp(left, right), y.clamp(top, bottom));
    ((end.0 - x).abs() + (end.1 - y).abs() > 14).then_some(end)
}

fn overlap(a: &[i32; 4], b: &[i32; 4]) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

#[cfg(test)]
mod tests {
    use super::super::Metric;
    use super::super::summary::tests::{record, summary};
    use super::*;

    #[test]
    fn every_schedule_has_its_point() {
        let records = [record("off", "1", "", Some(1.0)), record("keep 0.5", "1", "", Some(0.0))];
        let summary = summary(Metric::Exact, &["off", "keep 0.5"], &records);
        let svg = String::from_utf8(curve(&summary, Format::Svg).unwrap()).unwrap();
        assert_eq!(svg.matches("<circle").count(), 2);
        for text in ["keep 0.5", "questions a second", "a model: 1 questions of set", "merge"] {
            assert!(svg.contains(text), "{text}");
        }
        let png = curve(&summary, Format::Png).unwrap();
        let picture = image::load_from_memory(&png).unwrap().to_rgb8();
        let has = |colour: RGBColor| picture.pixels().any(|pixel| pixel.0 == [colour.0, colour.1, colour.2]);
        assert!(has(BASE) && has(OKABE_ITO[0]));
    }

    #[test]
    fn names_do_not_cover_one_another() {
        let mut labels = Labels::default();
        for i in 0..10 {
            labels.place((400 + i, 300 + i % 3), "balanced keep 0.25");
        }
        for (i, a) in labels.taken.iter().enumerate() {
            assert!(labels.taken[i + 1..].iter().all(|b| !overlap(a, b)), "{:?}", labels.taken);
        }
        let [left, ..] = Labels::default().place((880, 300), "paper/random");
        assert!(left < 800, "a name stays inside");
        assert_eq!(leader((100, 100), [110, 93, 200, 108]), None);
        assert_eq!(leader((100, 100), [110, 140, 200, 155]), Some((110, 140)));
    }
}
