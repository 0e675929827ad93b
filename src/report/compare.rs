//! Two reports side by side, for people.

use comfy_table::{CellAlignment, Table};

use super::{Report, fitted};

/// Writes a table of the figures of `a` and `b`, named by their schedules, with b against a, `width` columns wide.
#[must_use]
pub fn compare(a: &Report, b: &Report, width: Option<u16>) -> String {
    let mut table = Table::new();
    table.set_header([
        "",
        &format!("merge {}", a.merge.schedule),
        &format!("merge {}", b.merge.schedule),
        "ratio",
    ]);
    let row = |name: &str, a: f64, b: f64, show: &dyn Fn(f64) -> String, speedup: bool| {
        let (upper, lower) = if speedup { (a, b) } else { (b, a) };
        let ratio = if a > 0.0 && b > 0.0 {
            format!("{:.2}{}", upper / lower, if speedup { "x as fast" } else { "" })
        } else {
            String::new()
        };
        [name.to_owned(), show(a), show(b), ratio]
    };
    let count = |n: f64| format!("{n:.0}");
    let ms = |ms: f64| format!("{ms:.1} ms");
    let bytes = |n: f64| quantity(n);
    let kv = |r: &Report| r.tokens.visual_kv.last().map_or(0.0, |s| f64::from(s.tokens));
    let rows = [
        row("visual tokens", a.tokens.visual.into(), b.tokens.visual.into(), &count, false),
        row(
            "after the encoder",
            a.tokens.visual_after_encoder.into(),
            b.tokens.visual_after_encoder.into(),
            &count,
            false,
        ),
        row("in the deepest layers", kv(a), kv(b), &count, false),
        row("encoder", a.ms.encoder, b.ms.encoder, &ms, true),
        row("prefill", a.ms.prefill, b.ms.prefill, &ms, true),
        row("first token", a.ms.first_token, b.ms.first_token, &ms, true),
        row("total", a.ms.total, b.ms.total, &ms, true),
        row("KV cache", to_f64(a.bytes.kv), to_f64(b.bytes.kv), &bytes, false),
        row("compute buffers", to_f64(a.bytes.compute), to_f64(b.bytes.compute), &bytes, false),
        row(
            "peak memory",
            to_f64(a.bytes.peak_rss.unwrap_or(0)),
            to_f64(b.bytes.peak_rss.unwrap_or(0)),
            &bytes,
            false,
        ),
        ["answer".to_owned(), a.text.clone(), b.text.clone(), String::new()],
    ];
    table.add_rows(rows);
    for column in 1..=3 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    fitted(table, width)
}

#[allow(clippy::cast_precision_loss)]
fn to_f64(n: u64) -> f64 {
    n as f64
}

/// Formats bytes for people: 1.5 MiB.
#[must_use]
pub fn quantity(bytes: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB"];
    let mut value = bytes;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{value:.0} B") } else { format!("{value:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        for (bytes, text) in
            [(0.0, "0 B"), (1023.0, "1023 B"), (1536.0, "1.5 KiB"), (3.0 * 1_073_741_824.0, "3.0 GiB")]
        {
            assert_eq!(quantity(bytes), text);
        }
    }

    #[test]
    fn both_reports_show() {
        let a = super::super::tests::example();
        let mut b = a.clone();
        b.merge.schedule = "off".into();
        b.ms.encoder = 400.0;
        b.text = "a dog".into();
        let table = compare(&b, &a, None);
        for part in ["merge off", "merge paper", "2.00x as fast", "253", "a dog", "a cat"] {
            assert!(table.contains(part), "{part}:\n{table}");
        }
    }
}
