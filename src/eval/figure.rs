//! Figures of several evaluations, as the paper's Figures 1, 4 and 5: curves set by set, or bars.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::{Row, Summary, curve};
use crate::plot::{self, Drawing, Format, OKABE_ITO};

/// Pixels of one panel of curves.
const PANEL: (u32, u32) = (640, 480);
/// Panels beside one another.
const ACROSS: usize = 3;
/// Pixels of bars: one panel's, and the legend's line.
const BARS: (u32, u32) = (420, 400);
const LINE: u32 = 26;
const LETTERS: i32 = 15;
const GIB: f64 = (1_u64 << 30) as f64;

/// Kind of figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One panel for each set: accuracy and memory against throughput.
    Curves,
    /// Accuracy, memory and throughput beside each other, sets as groups.
    Bars,
}

/// Draws evaluations of any sets by any models.
///
/// # Errors
/// The drawing library's own words.
pub fn figure(summaries: &[Summary], form: Form, format: Format) -> Result<Vec<u8>, String> {
    match form {
        Form::Curves => plot::render(&Curves(by_set(summaries)), format),
        Form::Bars => plot::render(&Bars(by_set(summaries)), format),
    }
}

/// Groups evaluations by their set, in the order in which sets come first.
fn by_set(summaries: &[Summary]) -> Vec<Vec<&Summary>> {
    let mut sets: Vec<Vec<&Summary>> = Vec::new();
    for summary in summaries {
        match sets.iter_mut().find(|group| group.iter().any(|other| other.set == summary.set)) {
            Some(group) => group.push(summary),
            None => sets.push(vec![summary]),
        }
    }
    sets
}

struct Curves<'a>(Vec<Vec<&'a Summary>>);

impl Curves<'_> {
    /// Returns the number of rows and of columns.
    fn grid(&self) -> (usize, usize) {
        let across = self.0.len().clamp(1, ACROSS);
        (self.0.len().max(1).div_ceil(across), across)
    }
}

impl Drawing for Curves<'_> {
    fn size(&self) -> (u32, u32) {
        let (down, across) = self.grid();
        (PANEL.0 * across as u32, PANEL.1 * down as u32)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), String> {
        let panels = area.split_evenly(self.grid());
        panels.iter().zip(&self.0).try_for_each(|(panel, set)| curve::draw(panel, set, true))
    }
}

struct Bars<'a>(Vec<Vec<&'a Summary>>);

/// One bar: its set's number, its name, and the value of each panel with its interval if it has one.
struct Bar {
    group: usize,
    name: String,
    values: [(f64, Option<(f64, f64)>); 3],
}

/// Titles of the panels.
const TITLES: [&str; 3] = ["accuracy, %", "memory, GiB", "questions a second"];

impl Bars<'_> {
    fn bars(&self) -> Vec<Bar> {
        let models: std::collections::BTreeSet<&str> =
            self.0.iter().flatten().map(|summary| summary.model.as_str()).collect();
        let bar = |group: usize, summary: &Summary, row: &Row| Bar {
            group,
            name: match models.len() {
                1 => row.schedule.clone(),
                _ => format!("{}, {}", summary.model, row.schedule),
            },
            values: [
                (100.0 * row.accuracy.mean, Some((100.0 * row.accuracy.low, 100.0 * row.accuracy.high))),
                (row.memory_bytes / GIB, None),
                (1000.0 / row.total_ms, None),
            ],
        };
        let mut found = Vec::new();
        for (group, set) in self.0.iter().enumerate() {
            for summary in set {
                let whole = summary.rows.iter().filter(|row| row.category.is_empty());
                let shown = whole.filter(|row| row.marked() > 0 && row.total_ms > 0.0);
                found.extend(shown.map(|row| bar(group, summary, row)));
            }
        }
        found
    }
}

fn names(bars: &[Bar]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for bar in bars {
        if !names.contains(&bar.name.as_str()) {
            names.push(&bar.name);
        }
    }
    names
}

impl Drawing for Bars<'_> {
    fn size(&self) -> (u32, u32) {
        let lines = names(&self.bars()).len() as u32;
        (BARS.0 * 3, BARS.1 + LINE * lines + LINE)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), String> {
        let bars = self.bars();
        let (above, below) = area.split_vertically(BARS.1);
        for (number, panel) in above.split_evenly((1, 3)).iter().enumerate() {
            self.panel(panel, &bars, number).map_err(|error| error.to_string())?;
        }
        legend(&below, &names(&bars)).map_err(|error| error.to_string())
    }
}

impl Bars<'_> {
    fn panel<B: DrawingBackend>(
        &self,
        area: &DrawingArea<B, Shift>,
        bars: &[Bar],
        number: usize,
    ) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
        let names = names(bars);
        let height = |bar: &Bar| bar.values[number].1.map_or(bar.values[number].0, |(_, high)| high);
        let tallest = bars.iter().map(height).fold(0.0, f64::max);
        let most = if tallest > 0.0 { tallest * 1.15 } else { 1.0 };
        let groups = self.0.len().max(1);
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .caption(TITLES[number], ("sans-serif", 18))
            .x_label_area_size(30)
            .y_label_area_size(56)
            .build_cartesian_2d(-0.5..groups as f64 - 0.5, 0.0..most)?;
        let set = |at: f64| {
            let whole = at.round();
            let group = self.0.get(whole.max(0.0) as usize).and_then(|set| set.first());
            let is_there = (at - whole).abs() < 1e-6;
            group.filter(|_| is_there).map_or_else(String::new, |summary| summary.set.clone())
        };
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(groups * 2 + 1)
            .x_label_formatter(&|at| set(*at))
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.12))
            .label_style(("sans-serif", LETTERS))
            .draw()?;
        let width = 0.8 / names.len().max(1) as f64;
        for bar in bars {
            let place = names.iter().position(|name| *name == bar.name).unwrap_or(0);
            let left = bar.group as f64 - 0.4 + place as f64 * width;
            let (value, interval) = bar.values[number];
            let colour = OKABE_ITO[place % OKABE_ITO.len()];
            let corners = [(left + width * 0.05, 0.0), (left + width * 0.95, value)];
            chart.draw_series([Rectangle::new(corners, colour.filled())])?;
            let middle = left + width / 2.0;
            if let Some((low, high)) = interval {
                chart.draw_series([PathElement::new([(middle, low), (middle, high)], BLACK)])?;
            }
            let text = shown(value);
            let (x, y) = chart.backend_coord(&(middle, interval.map_or(value, |(_, high)| high)));
            let (across, down) = area.get_pixel_range();
            let half = i32::try_from(text.len()).unwrap_or(0) * LETTERS / 4;
            area.draw(&Text::new(
                text,
                (x - across.start - half, y - down.start - LETTERS - 3),
                ("sans-serif", LETTERS),
            ))?;
        }
        Ok(())
    }
}

/// Formats a number with three digits.
fn shown(value: f64) -> String {
    let decimals = match value {
        _ if value >= 99.95 => 0,
        _ if value >= 9.995 => 1,
        _ if value >= 0.9995 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

fn legend<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    names: &[&str],
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    for (number, name) in (0..).zip(names) {
        let top = 8 + number * LINE as i32;
        let colour = OKABE_ITO[number as usize % OKABE_ITO.len()];
        area.draw(&Rectangle::new([(60, top), (76, top + 16)], colour.filled()))?;
        area.draw(&Text::new((*name).to_owned(), (84, top), ("sans-serif", LETTERS + 1)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Metric;
    use super::super::summary::tests::{record, summary};
    use super::*;

    fn of(model: &str, set: &str) -> Summary {
        let records = [record("off", "1", "", Some(1.0)), record("keep 0.5", "1", "", Some(0.0))];
        let mut made = summary(Metric::Exact, &["off", "keep 0.5"], &records);
        made.model = model.into();
        made.set = set.into();
        made
    }

    #[test]
    fn every_set_has_a_panel_and_every_model_a_line() {
        let summaries = [of("large", "MMMU"), of("small", "MMMU"), of("large", "MMStar")];
        let svg = figure(&summaries, Form::Curves, Format::Svg).unwrap();
        let svg = String::from_utf8(svg).unwrap();
        assert_eq!(svg.matches("<circle").count(), 6);
        for text in ["1 questions of MMMU", "large: 1 questions of MMStar", "small, merge", "memory, GiB"] {
            assert!(svg.contains(text), "{text}");
        }
        assert_eq!(Curves(by_set(&summaries)).size(), (2 * PANEL.0, PANEL.1));
        let alike = [of("text.gguf", "MMMU"), of("text.gguf", "MMMU")];
        let svg = String::from_utf8(figure(&alike, Form::Curves, Format::Svg).unwrap()).unwrap();
        assert!(svg.contains("text.gguf (1), merge") && svg.contains("text.gguf (2), merge"), "{svg}");
    }

    #[test]
    fn bars_stand_by_set() {
        let summaries = [of("a", "MMMU"), of("a", "EgoSchema")];
        let svg = String::from_utf8(figure(&summaries, Form::Bars, Format::Svg).unwrap()).unwrap();
        for text in ["MMMU", "EgoSchema", "keep 0.5", "accuracy, %", "memory, GiB", "questions a second"] {
            assert!(svg.contains(text), "{text}");
        }
        assert!(!svg.contains("a, off"), "one model needs no name");
        assert!(figure(&[], Form::Bars, Format::Png).is_ok());
        assert_eq!([0.01234, 1.234, 12.34, 123.4].map(shown), ["0.012", "1.23", "12.3", "123"]);
    }
}
