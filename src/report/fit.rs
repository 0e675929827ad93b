//! Tables for people: no wider than the terminal, and plain where another program reads.

use comfy_table::{ContentArrangement, Table, presets};

/// A table with lines on a terminal of `width` columns; without one, columns apart by blanks, each row on one line.
#[must_use]
pub fn fitted(mut table: Table, width: Option<u16>) -> String {
    match width {
        Some(width) => boxed(table, width),
        None => {
            table.load_style(presets::NOTHING);
            lines(&table)
        }
    }
}

/// A Markdown table, ready to paste; on a terminal of fewer than its columns, one with lines that fits.
#[must_use]
pub fn pasted(mut table: Table, width: Option<u16>) -> String {
    table.load_style(presets::ASCII_MARKDOWN);
    let text = lines(&table);
    let widest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    match width.filter(|&width| widest > usize::from(width)) {
        Some(width) => boxed(table, width),
        None => text,
    }
}

fn boxed(mut table: Table, width: u16) -> String {
    table.load_style(presets::UTF8_FULL_CONDENSED);
    // Below this no column has room for a word.
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width.max(40));
    lines(&table)
}

fn lines(table: &Table) -> String {
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new();
        table.set_header(["name", "value"]);
        table.add_row(["model", &"long words ".repeat(20)]);
        table
    }

    #[test]
    fn tables_fit() {
        for width in [40, 80, 120] {
            for text in [fitted(table(), Some(width)), pasted(table(), Some(width))] {
                let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
                assert!(widest <= usize::from(width) && text.contains('│'), "{width}:\n{text}");
            }
        }
        assert!(pasted(table(), Some(400)).starts_with("| name"), "a wide terminal shows what can be pasted");
        assert!(pasted(table(), None).starts_with("| name"));
        let plain = fitted(table(), None);
        assert_eq!(plain.lines().count(), 2, "{plain}");
        assert!(!plain.contains(['│', '|']), "{plain}");
    }
}
