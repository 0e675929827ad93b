//! The summary for people (Markdown) and for spreadsheets (CSV).

use comfy_table::{CellAlignment, Table};

use super::{Interval, Summary};
use crate::report::{pasted, quantity};

/// Writes a Markdown table, and below it the failures.
#[must_use]
pub fn table(summary: &Summary, width: Option<u16>) -> String {
    let mut table = Table::new();
    table.set_header([
        "questions",
        "schedule",
        "accuracy, % (95 %)",
        "against the first, points (95 %)",
        "visual tokens",
        "encoder",
        "prefill",
        "total",
        "KV cache",
    ]);
    let share = |interval: Interval, sign: bool| {
        let show = |value: f64| {
            if sign { format!("{:+.1}", 100.0 * value) } else { format!("{:.1}", 100.0 * value) }
        };
        format!("{} ({} to {})", show(interval.mean), show(interval.low), show(interval.high))
    };
    let first = summary.rows.first().map(|row| row.schedule.as_str());
    for row in &summary.rows {
        let name = if row.category.is_empty() { "all" } else { &row.category };
        let questions = match row.marked() == row.asked {
            true => format!("{name} ({})", row.asked),
            false => format!("{name} ({} of {})", row.marked(), row.asked),
        };
        let compared = Some(row.schedule.as_str()) != first;
        let figures = match row.marked() {
            0 => std::array::from_fn(|_| "-".to_owned()),
            _ => [
                share(row.accuracy, false),
                match (compared, row.compared) {
                    (false, _) => String::new(),
                    (true, 0) => "-".to_owned(),
                    (true, _) => share(row.difference, true),
                },
                format!("{:.0}, {:.0}", row.visual_tokens, row.visual_tokens_deepest),
                format!("{:.0} ms", row.encoder_ms),
                format!("{:.0} ms", row.prefill_ms),
                format!("{:.0} ms", row.total_ms),
                quantity(row.kv_bytes),
            ],
        };
        table.add_row([questions, row.schedule.clone()].into_iter().chain(figures));
    }
    for column in 2..9 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut text = format!(
        "{}\n\n{}, {}, marked by {}{}. Visual tokens: after the encoder, in the deepest layers. Tokens, times and bytes are medians.\n",
        pasted(table, width),
        summary.model,
        summary.set,
        summary.metric,
        summary.judge.as_ref().map(|judge| format!(", judge {judge}")).unwrap_or_default()
    );
    for score in &summary.scores {
        text.push_str(&format!("{}, {}: {:.1}\n", score.name, score.schedule, score.value));
    }
    if !summary.failures.is_empty() {
        text.push_str(&format!("{} failed and count in no accuracy:\n", summary.failures.len()));
        for (item, schedule, cause) in &summary.failures {
            text.push_str(&format!("  {item}, {schedule}: {cause}\n"));
        }
    }
    text
}

/// Writes one line for each row.
///
/// # Errors
/// The writer's own words.
pub fn csv(summary: &Summary) -> Result<String, String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer
        .write_record([
            "set",
            "category",
            "schedule",
            "strategy",
            "asked",
            "questions",
            "failures",
            "accuracy",
            "accuracy_low",
            "accuracy_high",
            "difference",
            "difference_low",
            "difference_high",
            "visual_tokens",
            "visual_tokens_deepest",
            "encoder_ms",
            "prefill_ms",
            "total_ms",
            "kv_bytes",
            "memory_bytes",
            "seconds",
        ])
        .map_err(|error| error.to_string())?;
    for row in &summary.rows {
        let figures = [
            row.accuracy.mean,
            row.accuracy.low,
            row.accuracy.high,
            row.difference.mean,
            row.difference.low,
            row.difference.high,
            row.visual_tokens,
            row.visual_tokens_deepest,
            row.encoder_ms,
            row.prefill_ms,
            row.total_ms,
            row.kv_bytes,
            row.memory_bytes,
            row.seconds,
        ];
        let names = [
            summary.set.clone(),
            row.category.clone(),
            row.schedule.clone(),
            row.strategy.clone(),
            row.asked.to_string(),
            row.questions.to_string(),
            row.failures.to_string(),
        ];
        writer
            .write_record(names.into_iter().chain(figures.map(|figure| match row.marked() {
                0 => String::new(),
                _ => figure.to_string(),
            })))
            .map_err(|error| error.to_string())?;
    }
    let bytes = writer.into_inner().map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::Metric;
    use super::super::summary::tests::{record, summary};
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let records = [
            record("off", "1", "", Some(1.0)),
            record("off", "2", "", Some(1.0)),
            record("paper", "1", "", Some(1.0)),
            record("paper", "2", "", None),
        ];
        let summary = summary(Metric::Exact, &["off", "paper"], &records);
        let text = table(&summary, None);
        assert!(text.contains("all (2) ") && text.contains("100.0 (100.0 to 100.0)"), "{text}");
        assert!(text.contains("all (1 of 2)") && text.contains("a model, set, marked"), "{text}");
        assert!(text.contains("1 failed") && text.contains("2, paper: no such file"), "{text}");
        let csv = csv(&summary).unwrap();
        assert_eq!(csv.lines().count(), 3);
        assert!(csv.lines().nth(2).unwrap().starts_with("set,,paper,merge,2,2,1,1,1,1,0,0,0,"), "{csv}");
    }

    #[test]
    fn nothing_is_no_accuracy() {
        let records = [record("off", "1", "", None), record("paper", "1", "", Some(1.0))];
        let summary = summary(Metric::Exact, &["off", "paper"], &records);
        let text = table(&summary, None);
        let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap().replace(' ', "");
        assert!(line(" off ").starts_with("|all(0of1)|off|-|-|-|"), "{text}");
        assert!(line(" paper ").starts_with("|all(1)|paper|100.0(100.0to100.0)|-|"), "{text}");
        assert!(
            csv(&summary).unwrap().lines().nth(1).unwrap().ends_with(",off,,1,1,1,,,,,,,,,,,,,,"),
            "{summary:?}"
        );
    }
}
