//! Rendered pieces to token ids.

use super::Piece;
use crate::error::{Error, Field, Kind, Result};

/// A vocabulary as this module needs it.
pub trait Tokenizer {
    /// Token ids of `text`; with `special`, the texts of special tokens become those tokens.
    fn tokenize(&self, text: &str, special: bool) -> Vec<i32>;
    /// The text of a control token; `None` for every other token.
    fn control_text(&self, token: i32) -> Option<String>;
    /// Texts such as `<image>` that the tokenizer takes as one token even in plain text.
    fn markup(&self) -> &[String];
    /// The token every prompt of this model begins with.
    fn bos(&self) -> Option<i32>;
    /// Whether text behind a special token gets the space that this tokenizer puts before a text.
    fn spaces_after_special(&self) -> bool {
        true
    }
}

/// A stretch of the prompt as the decoder takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chunk {
    Tokens(Vec<i32>),
    Image(usize),
}

/// Tokenises `pieces`.
///
/// Tokenizers look at neighbouring letters (a leading space, merges across words). Plain letters of the
/// template and of a person are therefore tokenised together, between special tokens. Only the template's
/// letters can be special tokens.
///
/// # Errors
/// [`Kind::Prompt`] for a prompt without a single token or picture.
pub fn tokenize(pieces: &[Piece], tokenizer: &dyn Tokenizer) -> Result<Vec<Chunk>> {
    let mut out =
        Writer { tokenizer, chunks: Vec::new(), plain: String::new(), cuts: Vec::new(), goes_on: false };
    for piece in pieces {
        match piece {
            Piece::Template(text) => out.template(text),
            Piece::Plain(text) => out.person(text),
            Piece::Image(number) => {
                out.flush();
                out.goes_on = false;
                out.chunks.push(Chunk::Image(*number));
            }
        }
    }
    out.flush();
    let mut chunks = out.chunks;
    if chunks.is_empty() {
        return Err(Error::new(Kind::Prompt, format!("the prompt is empty; give one ({})", Field::Prompt)));
    }
    if let Some(bos) = tokenizer.bos() {
        match chunks.first_mut() {
            Some(Chunk::Tokens(tokens)) if tokens.first() == Some(&bos) => {}
            Some(Chunk::Tokens(tokens)) => tokens.insert(0, bos),
            _ => chunks.insert(0, Chunk::Tokens(vec![bos])),
        }
    }
    Ok(chunks)
}

struct Writer<'a> {
    tokenizer: &'a dyn Tokenizer,
    chunks: Vec<Chunk>,
    /// Letters not yet tokenised.
    plain: String,
    /// Byte offsets at which `plain` must be cut, so that no markup token forms.
    cuts: Vec<usize>,
    /// Whether the next letters follow others without a space of the tokenizer's own.
    goes_on: bool,
}

impl Writer<'_> {
    fn template(&mut self, text: &str) {
        let mut rest = text;
        for token in self.tokenizer.tokenize(text, true) {
            let Some(name) = self.tokenizer.control_text(token).filter(|name| !name.is_empty()) else {
                continue;
            };
            let Some(at) = rest.find(&name) else { continue };
            self.plain.push_str(&rest[..at]);
            self.flush();
            self.push(&[token]);
            self.goes_on = !self.tokenizer.spaces_after_special();
            rest = &rest[at + name.len()..];
        }
        self.plain.push_str(rest);
    }

    fn person(&mut self, text: &str) {
        let start = self.plain.len();
        for markup in self.tokenizer.markup() {
            for (at, _) in text.match_indices(markup.as_str()) {
                let first = markup.chars().next().map_or(0, char::len_utf8);
                self.cuts.push(start + at + first);
            }
        }
        self.plain.push_str(text);
    }

    fn flush(&mut self) {
        let plain = std::mem::take(&mut self.plain);
        let mut cuts = std::mem::take(&mut self.cuts);
        cuts.sort_unstable();
        cuts.dedup();
        let mut from = 0;
        for to in cuts.into_iter().chain([plain.len()]) {
            if from < to {
                let tokens = self.letters(&plain[from..to]);
                self.push(&tokens);
                self.goes_on = true;
            }
            from = to;
        }
    }

    /// Token ids of plain letters. Letters that go on are tokenised behind a line break, whose own tokens are
    /// taken off again: a tokenizer puts its space before the line break.
    fn letters(&self, text: &str) -> Vec<i32> {
        if self.goes_on {
            let line_break = self.tokenizer.tokenize("\n", false);
            let tokens = self.tokenizer.tokenize(&format!("\n{text}"), false);
            if let Some(rest) = tokens.strip_prefix(line_break.as_slice()) {
                return rest.to_vec();
            }
        }
        self.tokenizer.tokenize(text, false)
    }

    fn push(&mut self, tokens: &[i32]) {
        match self.chunks.last_mut() {
            Some(Chunk::Tokens(last)) => last.extend_from_slice(tokens),
            _ if tokens.is_empty() => {}
            _ => self.chunks.push(Chunk::Tokens(tokens.to_vec())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words and single letters: a known word is one token, so a cut in the wrong place shows.
    struct Words {
        markup: Vec<String>,
        bos: Option<i32>,
    }

    const CONTROL: [&str; 3] = ["<s>", "<|im_start|>", "<|im_end|>"];
    const WORDS: [&str; 4] = ["user", "hello", "hello world", "<image>"];

    impl Tokenizer for Words {
        fn tokenize(&self, text: &str, special: bool) -> Vec<i32> {
            let mut rest = text;
            let mut out = Vec::new();
            'next: while !rest.is_empty() {
                let control = CONTROL.iter().enumerate().filter(|_| special).map(|(i, w)| (i as i32, *w));
                let words = WORDS.iter().enumerate().map(|(i, w)| (10 + i as i32, *w)).rev();
                for (id, word) in control.chain(words) {
                    if let Some(after) = rest.strip_prefix(word) {
                        out.push(id);
                        rest = after;
                        continue 'next;
                    }
                }
                let letter = rest.chars().next().unwrap();
                out.push(1000 + letter as i32);
                rest = &rest[letter.len_utf8()..];
            }
            out
        }

        fn control_text(&self, token: i32) -> Option<String> {
            CONTROL.get(usize::try_from(token).ok()?).map(|text| (*text).to_owned())
        }

        fn markup(&self) -> &[String] {
            &self.markup
        }

        fn bos(&self) -> Option<i32> {
            self.bos
        }
    }

    fn template(text: &str) -> Piece {
        Piece::Template(text.into())
    }

    fn person(text: &str) -> Piece {
        Piece::Plain(text.into())
    }

    fn letters(text: &str) -> Vec<i32> {
        text.chars().map(|c| 1000 + c as i32).collect()
    }

    #[test]
    fn pieces() {
        let words = Words { markup: vec!["<image>".into()], bos: None };
        let cases = [
            // Special tokens count in the template, not in a person's text.
            (
                vec![template("<|im_start|>user"), person("<s>"), template("<|im_end|>")],
                vec![Chunk::Tokens([vec![1, 10], letters("<s>"), vec![2]].concat())],
            ),
            // Template and person meet inside one word.
            (vec![template("hello"), person(" world")], vec![Chunk::Tokens(vec![12])]),
            // A picture parts the stretches.
            (
                vec![template("hello"), Piece::Image(3), person("hello")],
                vec![Chunk::Tokens(vec![11]), Chunk::Image(3), Chunk::Tokens(vec![11])],
            ),
            // Markup is a token where the template writes it, letters where a person does.
            (vec![template("<image>")], vec![Chunk::Tokens(vec![13])]),
            (
                vec![template("user"), person("a<image>")],
                vec![Chunk::Tokens([vec![10], letters("a<image>")].concat())],
            ),
        ];
        for (pieces, chunks) in cases {
            assert_eq!(tokenize(&pieces, &words).unwrap(), chunks, "{pieces:?}");
        }
    }

    #[test]
    fn one_bos_at_the_front() {
        let words = Words { markup: Vec::new(), bos: Some(0) };
        let cases = [
            (vec![template("user")], vec![Chunk::Tokens(vec![0, 10])]),
            (vec![template("<s>user")], vec![Chunk::Tokens(vec![0, 10])]),
            (
                vec![Piece::Image(0), template("user")],
                vec![Chunk::Tokens(vec![0]), Chunk::Image(0), Chunk::Tokens(vec![10])],
            ),
        ];
        for (pieces, chunks) in cases {
            assert_eq!(tokenize(&pieces, &words).unwrap(), chunks, "{pieces:?}");
        }
        assert!(tokenize(&[], &words).is_err());
    }
}
