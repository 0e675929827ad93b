//! Opaque marks that stand for a person's text or picture while a template renders.

use super::Piece;

const OPEN: char = '\u{F8E0}';
const CLOSE: char = '\u{F8E1}';

pub(super) fn text(number: usize) -> String {
    format!("{OPEN}t{number}{CLOSE}")
}

pub(super) fn image(number: usize) -> String {
    format!("{OPEN}i{number}{CLOSE}")
}

/// Mark of the last message's end, for an answer that continues it.
pub(super) const END: &str = "\u{F8E0}e\u{F8E1}";

/// Cuts rendered text at the marks; mark n stands for `texts[n]`. Text that only looks like a mark
/// stays template text.
pub(super) fn cut(rendered: &str, texts: &[String]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = rendered;
    while let Some(open) = rest.find(OPEN) {
        plain.push_str(&rest[..open]);
        let after = &rest[open + OPEN.len_utf8()..];
        let mark = after.find(CLOSE).and_then(|close| Some((parse(&after[..close], texts)?, close)));
        match mark {
            Some((piece, close)) => {
                flush(&mut plain, &mut pieces);
                pieces.push(piece);
                rest = &after[close + CLOSE.len_utf8()..];
            }
            None => {
                plain.push(OPEN);
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    flush(&mut plain, &mut pieces);
    pieces
}

fn parse(mark: &str, texts: &[String]) -> Option<Piece> {
    let (kind, number) = mark.split_at_checked(1)?;
    let number: usize = number.parse().ok()?;
    match kind {
        "t" => texts.get(number).map(|text| Piece::Plain(text.clone())),
        "i" => Some(Piece::Image(number)),
        _ => None,
    }
}

fn flush(plain: &mut String, pieces: &mut Vec<Piece>) {
    if !plain.is_empty() {
        pieces.push(Piece::Template(std::mem::take(plain)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting() {
        let texts = ["one".to_owned(), "two".to_owned()];
        let template = |text: &str| Piece::Template(text.to_owned());
        let plain = |text: &str| Piece::Plain(text.to_owned());
        let cases = [
            (String::new(), vec![]),
            ("ab".to_owned(), vec![template("ab")]),
            (
                format!("a{}{}b{}", text(0), image(4), text(1)),
                vec![template("a"), plain("one"), Piece::Image(4), template("b"), plain("two")],
            ),
            (format!("{OPEN}t9{CLOSE}"), vec![template(&format!("{OPEN}t9{CLOSE}"))]),
            (format!("{OPEN}{}", text(0)), vec![template(&OPEN.to_string()), plain("one")]),
            (format!("{OPEN}t0"), vec![template(&format!("{OPEN}t0"))]),
        ];
        for (rendered, pieces) in cases {
            assert_eq!(cut(&rendered, &texts), pieces, "{rendered:?}");
        }
    }

    proptest::proptest! {
        /// Text between the marks comes through letter by letter, a person's text apart from the template's.
        #[test]
        fn nothing_is_lost(
            parts in proptest::collection::vec((0_u8..4, "[a-z<|>\u{F8E0}\u{F8E1}0-9ti]{0,6}"), 0..12)
        ) {
            let texts: Vec<String> = parts.iter().map(|(_, text)| text.clone()).collect();
            let rendered: String = parts.iter().enumerate().map(|(i, (kind, written))| match kind {
                0 => super::text(i),
                1 => image(i),
                // The test leaves out the marks' own letters: templates do not write them.
                _ => written.replace([OPEN, CLOSE], ""),
            }).collect();
            let put_back: String = cut(&rendered, &texts).into_iter().map(|piece| match piece {
                Piece::Image(number) => image(number),
                Piece::Plain(text) | Piece::Template(text) => text,
            }).collect();
            let expected: String = parts.iter().enumerate().map(|(i, (kind, written))| match kind {
                0 => written.clone(),
                1 => image(i),
                _ => written.replace([OPEN, CLOSE], ""),
            }).collect();
            proptest::prop_assert_eq!(put_back, expected);
        }

        #[test]
        fn no_text_is_too_strange(rendered in "[\u{F8E0}\u{F8E1}ti0-9a\u{20AC}]{0,40}") {
            cut(&rendered, &["one".to_owned()]);
        }
    }
}
