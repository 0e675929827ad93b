//! Chart of time by parts: stacked bars, one for each schedule.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::{Measured, Outcome, PARTS, SUMS};
use crate::plot::{self, Drawing, Format};

const WIDTH: u32 = 900;
const BAR: u32 = 56;
/// Pixels left of the bars, for names, and right of the longest, for its sum.
const NAMES: u32 = 150;
const SUM: u32 = 170;
/// Pixels above the bars: the title and the legend.
const TOP: u32 = 68;
const LETTERS: i32 = 15;

/// Parts in the bars' order: pixels are light where letters on them are black.
const COLOURS: [(RGBColor, RGBColor); 5] = [
    (RGBColor(0x99, 0x99, 0x99), BLACK),
    (RGBColor(0x00, 0x72, 0xb2), WHITE),
    (RGBColor(0x56, 0xb4, 0xe9), BLACK),
    (RGBColor(0xe6, 0x9f, 0x00), BLACK),
    (RGBColor(0x00, 0x9e, 0x73), BLACK),
];

/// Draws the medians of each part, in milliseconds.
///
/// # Errors
/// The drawing library's own words.
pub fn chart(measured: &Measured, format: Format) -> Result<Vec<u8>, String> {
    plot::render(&Bars(measured), format)
}

struct Bars<'a>(&'a Measured);

impl Drawing for Bars<'_> {
    fn size(&self) -> (u32, u32) {
        (WIDTH, TOP + 64 + BAR * u32::try_from(self.0.outcomes.len().max(1)).unwrap_or(1))
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Result<(), String> {
        draw(area, self.0)
    }
}

fn draw<B: DrawingBackend>(area: &DrawingArea<B, Shift>, measured: &Measured) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let n = i32::try_from(measured.outcomes.len()).unwrap_or(i32::MAX);
    let longest = measured.outcomes.iter().map(parts_sum).fold(1.0, f64::max);
    let name = |number: &i32| {
        usize::try_from(n - 1 - *number)
            .ok()
            .and_then(|i| measured.outcomes.get(i))
            .map_or_else(String::new, |outcome| outcome.name.clone())
    };
    let bars_width = f64::from(WIDTH - NAMES - SUM);
    let room = f64::from(WIDTH - NAMES) / bars_width;
    let mut chart = ChartBuilder::on(area)
        .margin_bottom(12)
        .margin_top(TOP)
        .x_label_area_size(40)
        .y_label_area_size(NAMES)
        .build_cartesian_2d(0.0..longest * room, (0..n - 1).into_segmented())
        .map_err(|error| failed(&error))?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .x_labels(8)
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.15))
        .x_desc("milliseconds, medians")
        .y_labels(measured.outcomes.len())
        .y_label_formatter(&|value| match value {
            SegmentValue::CenterOf(number) => name(number),
            _ => String::new(),
        })
        .label_style(("sans-serif", 16))
        .draw()
        .map_err(|error| failed(&error))?;
    for (part, (colour, _)) in PARTS.iter().zip(COLOURS) {
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
    for (row, outcome) in (0..).zip(measured.outcomes.iter().rev()) {
        let place = |ms: f64| chart.backend_coord(&(ms, SegmentValue::CenterOf(row)));
        numbers(area, measured, outcome, place).map_err(|error| failed(&error))?;
    }
    title(area, measured).and_then(|()| legend(area)).map_err(|error| failed(&error))
}

fn parts_sum(outcome: &Outcome) -> f64 {
    PARTS.iter().map(|part| outcome.spread(part.1).median).sum()
}

/// Writes milliseconds on each part that has room for them. Behind the bar stand their sum and its ratio to
/// the first.
fn numbers<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    measured: &Measured,
    outcome: &Outcome,
    place: impl Fn(f64) -> (i32, i32),
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let write = |text: String, at: (i32, i32), colour: RGBColor| {
        area.draw(&Text::new(text, at, ("sans-serif", LETTERS).into_font().color(&colour)))
    };
    let mut start = 0.0;
    for (part, (_, ink)) in PARTS.iter().zip(COLOURS) {
        let ms = outcome.spread(part.1).median;
        let text = shown(ms);
        let ((left, y), (right, _)) = (place(start), place(start + ms));
        let width = width_of(&text);
        if right - left > width + 6 {
            write(text, ((left + right - width) / 2, y - LETTERS / 2), ink)?;
        }
        start += ms;
    }
    let (x, y) = place(start);
    let sum = format!("{} ms", shown(start));
    let ratio = measured.outcomes.first().filter(|base| base.name != outcome.name).map(|base| {
        let ratio = outcome.against(base, SUMS[1].1).median;
        format!(", {ratio:.2}x as fast")
    });
    write(sum + &ratio.unwrap_or_default(), (x + 8, y - LETTERS / 2), BLACK)
}

/// Formats a number with about three digits.
fn shown(ms: f64) -> String {
    if ms < 10.0 { format!("{ms:.1}") } else { format!("{ms:.0}") }
}

/// Width of a text in pixels: letters of this font are about half as wide as high.
fn width_of(text: &str) -> i32 {
    i32::try_from(text.chars().count()).unwrap_or(i32::MAX / 100) * (LETTERS * 11 / 20)
}

fn title<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    measured: &Measured,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    let rounds = measured.outcomes.first().map_or(0, |outcome| outcome.samples.len());
    let visual = measured.outcomes.first().map_or(0, |outcome| outcome.visual);
    let threads = if measured.threads == 1 { "thread" } else { "threads" };
    let text = format!(
        "{}: {visual} visual tokens, {} of text, {} generated; {rounds} rounds, {} {threads}, {}",
        measured.model.text, measured.text_tokens, measured.answer_tokens, measured.threads, measured.backend
    );
    area.draw(&Text::new(text, (12, 10), ("sans-serif", 17)))
}

/// Draws a row of names above the bars, where no bar can cover it.
fn legend<B: DrawingBackend>(area: &DrawingArea<B, Shift>) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    for (i, (part, (colour, _))) in (0..).zip(PARTS.iter().zip(COLOURS)) {
        let x = 152 + i * 140;
        area.draw(&Rectangle::new([(x, 42), (x + 16, 58)], colour.filled()))?;
        area.draw(&Text::new(part.0, (x + 22, 43), ("sans-serif", 16)))?;
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
        let blue = [COLOURS[1].0.0, COLOURS[1].0.1, COLOURS[1].0.2];
        // Rows below the legend: how many pixels of each have the encoder's colour.
        // Letters on a part take pixels of some rows, so the ends count.
        let widths: Vec<u32> = (TOP..picture.height())
            .filter_map(|y| {
                let of = |x: &u32| picture.get_pixel(*x, y).0 == blue;
                let first = (0..picture.width()).find(of)?;
                Some((0..picture.width()).rev().find(of)? + 1 - first)
            })
            .collect();
        let (longest, shortest) = (widths.iter().max().unwrap(), widths.iter().min().unwrap());
        assert!((f64::from(*longest) / f64::from(*shortest) - 2.0).abs() < 0.05, "{longest} {shortest}");
        assert_eq!(widths.iter().position(|width| width == longest), Some(0), "the first is on top");
    }

    #[test]
    fn svg_names_schedules_and_parts() {
        let svg = String::from_utf8(chart(&measured(), Format::Svg).unwrap()).unwrap();
        for name in [
            "off",
            "paper",
            "encoder",
            "prefill",
            "milliseconds",
            "171 ms",
            "121 ms, 1.41x as fast",
            "3 rounds",
        ] {
            assert!(svg.contains(name), "{name}");
        }
    }
}
