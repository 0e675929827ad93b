//! Plot of accuracy against throughput: a point for each schedule, a line for each strategy.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::{Row, Summary};
use crate::plot::{self, Drawing, Format, OKABE_ITO};

const SIZE: (u32, u32) = (900, 600);
/// Pixels of the letters that name points.
const LETTERS: i32 = 15;
const BASE: RGBColor = BLACK;
const GIB: f64 = (1_u64 << 30) as f64;

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
        draw(area, &[self.0], false)
    }
}

/// Place of a schedule in the plot.
struct Point<'a> {
    speed: f64,
    /// Mean and interval, in percent.
    accuracy: [f64; 3],
    row: &'a Row,
    /// Model, if the plot has several.
    model: &'a str,
}

impl<'a> Point<'a> {
    fn of(row: &'a Row, model: &'a str) -> Self {
        let accuracy = [row.accuracy.mean, row.accuracy.low, row.accuracy.high].map(|share| 100.0 * share);
        Self { speed: 1000.0 / row.total_ms, accuracy, row, model }
    }

    fn at(&self) -> (f64, f64) {
        (self.speed, self.accuracy[0])
    }

    fn memory(&self) -> f64 {
        self.row.memory_bytes / GIB
    }

    /// Returns the model and strategy whose line the point is of.
    fn line(&self) -> (&'a str, &'a str) {
        (self.model, &self.row.strategy)
    }
}

/// Draws evaluations of one set, by several models if there are several. With `memory`, a second axis and broken
/// lines show the bytes of weights, KV cache and compute buffers.
pub(super) fn draw<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    summaries: &[&Summary],
    memory: bool,
) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let models = models(summaries);
    let points: Vec<Point> = summaries
        .iter()
        .zip(&models)
        .flat_map(|(summary, model)| {
            let whole = summary.rows.iter().filter(|row| row.category.is_empty());
            let shown = whole.filter(|row| row.marked() > 0 && row.total_ms > 0.0);
            shown.map(|row| Point::of(row, model))
        })
        .collect();
    let bounds = |values: &dyn Fn(&Point) -> f64| {
        let all = points.iter().map(values);
        all.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    };
    let title = title(summaries);
    if points.is_empty() {
        let text = Text::new(title, (16, 16), ("sans-serif", 20));
        return area.draw(&text).map_err(|error| failed(&error));
    }
    let ((slowest, fastest), (low, _), (_, high)) = (
        bounds(&|point| point.speed),
        bounds(&|point| point.accuracy[1]),
        bounds(&|point| point.accuracy[2]),
    );
    let most = bounds(&|point| point.row.memory_bytes).1.max(1.0) / GIB;
    let room = ((high - low) * 0.1).max(1.0);
    let across = slowest * 0.8..fastest * 1.2;
    let mut chart = ChartBuilder::on(area)
        .margin(16)
        .caption(title, ("sans-serif", 20))
        .x_label_area_size(44)
        .y_label_area_size(56)
        .right_y_label_area_size(if memory { 56 } else { 0 })
        .build_cartesian_2d(across.clone(), (low - room).max(0.0)..(high + room).min(high.max(100.5)))
        .map_err(|error| failed(&error))?
        .set_secondary_coord(across, 0.0..most * 1.2);
    chart
        .configure_mesh()
        .x_desc("questions a second")
        .y_desc("accuracy, %")
        .label_style(("sans-serif", 15))
        .light_line_style(WHITE)
        .draw()
        .map_err(|error| failed(&error))?;
    if memory {
        let mut axes = chart.configure_secondary_axes();
        axes.y_desc("memory, GiB").label_style(("sans-serif", 15)).draw().map_err(|error| failed(&error))?;
    }

    let lines = lines(&points);
    let colour = |point: &Point| match lines.iter().position(|line| *line == point.line()) {
        Some(i) => OKABE_ITO[i % OKABE_ITO.len()],
        None => BASE,
    };
    for (i, line) in lines.iter().enumerate() {
        let colour = OKABE_ITO[i % OKABE_ITO.len()];
        let mut own: Vec<&Point> = points.iter().filter(|point| point.line() == *line).collect();
        own.sort_by(|a, b| a.speed.total_cmp(&b.speed));
        let is_start = |point: &&Point| point.model == line.0 && point.row.strategy.is_empty();
        let joined: Vec<&Point> = points.iter().find(is_start).into_iter().chain(own).collect();
        if memory {
            let broken = joined.iter().map(|point| (point.speed, point.memory()));
            let series = DashedLineSeries::new(broken, 6, 4, colour.mix(0.7).into());
            chart.draw_secondary_series(series).map_err(|error| failed(&error))?;
        }
        let series = LineSeries::new(joined.iter().map(|point| point.at()), colour.mix(0.5));
        let drawn = chart.draw_series(series).map_err(|error| failed(&error))?;
        let name =
            [line.0, line.1].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
        drawn.label(name).legend(move |(x, y)| {
            let half = LETTERS / 2;
            PathElement::new([(x, y), (x + half * 2, y)], colour.stroke_width(2))
        });
    }
    let (across, down) = area.get_pixel_range();
    let here = |(x, y): (i32, i32)| (x - across.start, y - down.start);
    let mut labels = Labels { size: (across.end - across.start, down.end - down.start), taken: Vec::new() };
    for point in &points {
        let colour = colour(point);
        let interval = [(point.speed, point.accuracy[1]), (point.speed, point.accuracy[2])];
        chart.draw_series([PathElement::new(interval, colour.mix(0.6))]).map_err(|error| failed(&error))?;
        chart.draw_series([Circle::new(point.at(), 5, colour.filled())]).map_err(|error| failed(&error))?;
        let (x, y) = here(chart.backend_coord(&point.at()));
        labels.taken.push([x - 6, y - 6, x + 6, y + 6]);
        let [(_, low), (_, high)] = interval.map(|end| here(chart.backend_coord(&end)));
        labels.taken.push([x - 2, high, x + 2, low]);
    }
    for point in &points {
        let at = here(chart.backend_coord(&point.at()));
        let label = labels.place(at, &point.row.schedule);
        if let Some(end) = leader(at, label) {
            let line = PathElement::new([at, end], BLACK.mix(0.4));
            area.draw(&line).map_err(|error| failed(&error))?;
        }
        let text = Text::new(point.row.schedule.clone(), (label[0], label[1]), ("sans-serif", LETTERS));
        area.draw(&text).map_err(|error| failed(&error))?;
    }
    if !lines.is_empty() {
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

/// Returns the name of each evaluation's model: empty if there is one only, with a number if others are called alike.
fn models(summaries: &[&Summary]) -> Vec<String> {
    let alike = |model: &str| summaries.iter().filter(|other| other.model == model).count();
    let name = |(i, summary): (usize, &&Summary)| match (summaries.len(), alike(&summary.model)) {
        (1, _) => String::new(),
        (_, 1) => summary.model.clone(),
        _ => format!("{} ({})", summary.model, i + 1),
    };
    summaries.iter().enumerate().map(name).collect()
}

fn title(summaries: &[&Summary]) -> String {
    let whole =
        summaries.iter().flat_map(|summary| summary.rows.iter().filter(|row| row.category.is_empty()));
    let marked = whole.map(Row::marked).min().unwrap_or(0);
    match summaries {
        [only] => format!("{}: {marked} questions of {}", only.model, only.set),
        _ => format!("{marked} questions of {}", summaries.first().map_or("", |summary| &summary.set)),
    }
}

/// Returns the models and strategies there are, in the order of the tables.
fn lines<'a>(points: &[Point<'a>]) -> Vec<(&'a str, &'a str)> {
    let mut found: Vec<(&str, &str)> = Vec::new();
    for point in points {
        let line = point.line();
        if !line.1.is_empty() && !found.contains(&line) {
            found.push(line);
        }
    }
    found
}

/// Boxes that the letters of points must not cover, in pixels: left, top, right, bottom.
struct Labels {
    /// Width and height that they must stay inside.
    size: (i32, i32),
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
        let inside = |place: &[i32; 4]| place[0] >= 60 && place[2] < self.size.0 && place[1] >= 40;
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
        let empty = || Labels { size: (900, 600), taken: Vec::new() };
        let mut labels = empty();
        for i in 0..10 {
            labels.place((400 + i, 300 + i % 3), "balanced keep 0.25");
        }
        for (i, a) in labels.taken.iter().enumerate() {
            assert!(labels.taken[i + 1..].iter().all(|b| !overlap(a, b)), "{:?}", labels.taken);
        }
        let [left, ..] = empty().place((880, 300), "paper/random");
        assert!(left < 800, "a name stays inside");
        assert_eq!(leader((100, 100), [110, 93, 200, 108]), None);
        assert_eq!(leader((100, 100), [110, 140, 200, 155]), Some((110, 140)));
    }
}
