//! Markdown table of a measurement, ready to paste.

use comfy_table::{CellAlignment, Table};

use super::{Measured, Outcome, PARTS, Part, SUMS};
use crate::report::{Spread, pasted, quantity};

/// Writes one column for each schedule, and beside each but the first its ratio to the first.
#[must_use]
pub fn table(measured: &Measured, width: Option<u16>) -> String {
    let mut table = Table::new();
    let Some((base, others)) = measured.outcomes.split_first() else { return String::new() };
    let mut header = vec![String::new(), base.name.clone()];
    for other in others {
        header.push(other.name.clone());
        header.push(format!("against {}", base.name));
    }
    let columns = header.len();
    table.set_header(header);
    for part in PARTS.iter().chain(&SUMS) {
        // Preprocessing of a picture takes too little time for a row.
        if measured.outcomes.iter().all(|outcome| outcome.spread(part.1).max < 0.05) {
            continue;
        }
        table.add_row(times(part, base, others));
    }
    let count = |name: &str, of: &dyn Fn(&Outcome) -> u32| {
        row(name, base, others, &|outcome| f64::from(of(outcome)), &|n| format!("{n:.0}"))
    };
    table.add_row(count("visual tokens after the encoder", &|outcome| outcome.visual_after_encoder));
    table.add_row(count("visual tokens in the deepest layers", &|outcome| {
        outcome.visual_kv.last().map_or(0, |kv| kv.tokens)
    }));
    table.add_row(row("KV cache", base, others, &|outcome| outcome.kv_bytes as f64, &quantity));
    table.add_row(row("compute buffers", base, others, &|outcome| outcome.compute_bytes as f64, &quantity));
    for column in 1..columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let rounds = base.samples.len();
    format!(
        "{}\n\nMedian of {rounds} rounds, alternated (range), wall clock, {} threads, {}; {} text tokens, {} generated. Ratios are of pairs of one round.\n",
        pasted(table, width),
        measured.threads,
        measured.backend,
        measured.text_tokens,
        measured.answer_tokens
    )
}

/// Writes a line for each schedule and part: milliseconds as median and range, and the ratio to the first.
#[must_use]
pub fn csv(measured: &Measured) -> String {
    let mut text = "model,threads,schedule,visual_tokens,visual_tokens_deepest,kv_bytes,part,ms,ms_min,ms_max,times_as_fast\n".to_owned();
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let Some(base) = measured.outcomes.first() else { return text };
    for outcome in &measured.outcomes {
        let deepest = outcome.visual_kv.last().map_or(0, |kv| kv.tokens);
        for (name, part) in PARTS.iter().chain(&SUMS) {
            let (ms, ratio) = (outcome.spread(*part), outcome.against(base, *part).median);
            text.push_str(&format!(
                "{},{},{},{},{deepest},{},{name},{:.3},{:.3},{:.3},{ratio:.3}\n",
                quoted(&measured.model.text),
                measured.threads,
                quoted(&outcome.name),
                outcome.visual_after_encoder,
                outcome.kv_bytes,
                ms.median,
                ms.min,
                ms.max
            ));
        }
    }
    text
}

fn times((name, part): &Part, base: &Outcome, others: &[Outcome]) -> Vec<String> {
    let ms = |spread: Spread| format!("{:.1} ms ({:.1} to {:.1})", spread.median, spread.min, spread.max);
    let mut row = vec![(*name).to_owned(), ms(base.spread(*part))];
    for other in others {
        let ratio = other.against(base, *part);
        row.push(ms(other.spread(*part)));
        row.push(format!("{:.2}x as fast ({:.2} to {:.2})", ratio.median, ratio.min, ratio.max));
    }
    row
}

fn row(
    name: &str,
    base: &Outcome,
    others: &[Outcome],
    figure: &dyn Fn(&Outcome) -> f64,
    show: &dyn Fn(f64) -> String,
) -> Vec<String> {
    let first = figure(base);
    let mut row = vec![name.to_owned(), show(first)];
    for other in others {
        let second = figure(other);
        row.push(show(second));
        row.push(if first > 0.0 { format!("{:.2}", second / first) } else { String::new() });
    }
    row
}

#[cfg(test)]
mod tests {
    use super::super::tests::measured;
    use super::*;

    #[test]
    fn rows_have_both_figures_and_their_ratio() {
        let text = table(&measured(), None);
        let line = |name: &str| {
            let start = format!("| {name} ");
            text.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("{name} in {text}"))
        };
        assert!(line("encoder").contains("100.0 ms (90.0 to 110.0)"), "{text}");
        assert!(line("encoder").contains("2.00x as fast (1.80 to 2.20)"), "{text}");
        assert!(line("KV cache").contains("0.36"), "{text}");
        assert!(line("visual tokens in the deepest layers").contains("253"), "{text}");
        assert!(!text.contains("projector"), "a part that takes no time has no row: {text}");
        assert!(text.contains("Median of 3 rounds"));
    }

    #[test]
    fn lines_for_spreadsheets() {
        let text = csv(&measured());
        assert_eq!(text.lines().count(), 1 + 2 * (PARTS.len() + SUMS.len()));
        assert!(text.contains(",\"paper\",253,253,360,encoder,50.000,50.000,50.000,2.000\n"), "{text}");
    }
}
