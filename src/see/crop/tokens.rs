//! CLIP's tokenizer: byte-pair merges inside words, whose last piece carries a mark. It gives the ids that
//! transformers' `CLIPTokenizer` gives.

use std::collections::HashMap;
use std::path::Path;
use std::sync::LazyLock;

use icu_normalizer::ComposingNormalizerBorrowed;
use regex::Regex;

use crate::error::{Error, Kind, Result};
use crate::native::Gguf;

const BEGIN: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";
/// Mark of a word's last piece.
const SUFFIX: &str = "</w>";

/// Words of a text. Behind it, bytes are cut once more by [`PIECES`].
static WORDS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+")
        .ok()
});
static PIECES: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}+|[^\s\p{L}\p{N}]+").ok());

/// A text as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextTokens {
    pub ids: Vec<i32>,
    /// Place of the token whose row stands for the text: the first mark of an end.
    pub pooled: usize,
    /// Tokens of the whole text, more than `ids` if the model takes fewer.
    pub whole: usize,
}

/// Vocabulary and merges of a text-image model.
#[derive(Debug)]
pub struct Tokens {
    ids: HashMap<Vec<u8>, i32>,
    /// Rank of a pair; the lowest merges first.
    ranks: HashMap<(i32, i32), (u32, i32)>,
    begin: i32,
    end: i32,
    most: usize,
}

impl Tokens {
    /// Reads the tokenizer of the model in `file`, whose texts have `most` tokens at most.
    ///
    /// # Errors
    /// [`Kind::File`] for a tokenizer that is missing or damaged.
    pub fn read(file: &Gguf, path: &Path, most: usize) -> Result<Self> {
        let bad = |what: &str| {
            let remedy = "write the file again with tools/convert_scorer.py";
            Error::new(Kind::File, format!("{}: {what}; {remedy}", path.display()))
        };
        let tokens = file.strings("tokenizer.ggml.tokens").ok_or_else(|| bad("it has no tokenizer"))?;
        let merges =
            file.strings("tokenizer.ggml.merges").ok_or_else(|| bad("its tokenizer has no merges"))?;
        let mark = |key: &str| {
            let id = file.u32(key).filter(|&id| (id as usize) < tokens.len());
            id.and_then(|id| i32::try_from(id).ok()).ok_or_else(|| bad(&format!("it has no usable {key}")))
        };
        let (begin, end) = (mark("tokenizer.ggml.bos_token_id")?, mark("tokenizer.ggml.eos_token_id")?);
        let ids: HashMap<Vec<u8>, i32> = tokens.into_iter().zip(0..).collect();
        let mut ranks = HashMap::with_capacity(merges.len());
        for (rank, merge) in (0..).zip(&merges) {
            let pair = merge.iter().position(|&byte| byte == b' ').and_then(|space| {
                let (first, second) = (&merge[..space], &merge[space + 1..]);
                let whole = [first, second].concat();
                Some(((*ids.get(first)?, *ids.get(second)?), *ids.get(&whole)?))
            });
            let (pair, whole) = pair.ok_or_else(|| bad(&format!("merge {rank} names no tokens")))?;
            ranks.entry(pair).or_insert((rank, whole));
        }
        Ok(Self { ids, ranks, begin, end, most })
    }

    /// The ids of `text` between the marks of beginning and end, cut to what the model takes.
    #[must_use]
    pub fn tokenize(&self, text: &str) -> TextTokens {
        let mut ids = vec![self.begin];
        let mut rest = text;
        loop {
            let mark = [(BEGIN, self.begin), (END, self.end)].into_iter();
            let next = mark.filter_map(|(mark, id)| Some((rest.find(mark)?, mark, id))).min();
            let Some((at, mark, id)) = next else { break };
            self.plain(&rest[..at], &mut ids);
            ids.push(id);
            rest = &rest[at + mark.len()..];
        }
        self.plain(rest, &mut ids);
        ids.push(self.end);
        let whole = ids.len();
        if whole > self.most {
            ids.truncate(self.most.saturating_sub(1));
            ids.push(self.end);
        }
        let pooled = ids.iter().position(|&id| id == self.end).unwrap_or(0);
        TextTokens { ids, pooled, whole }
    }

    /// Appends the ids of a text without marks.
    fn plain(&self, text: &str, ids: &mut Vec<i32>) {
        let (Some(words), Some(pieces)) = (&*WORDS, &*PIECES) else { return };
        let composed = ComposingNormalizerBorrowed::new_nfc().normalize(text);
        // Letter by letter: a sigma does not know that it ends its word.
        let lower: String = composed.chars().flat_map(char::to_lowercase).collect();
        for word in words.find_iter(&lower) {
            for piece in pieces.find_iter(word.as_str()) {
                self.word(piece.as_str().as_bytes(), ids);
            }
        }
    }

    /// Appends the ids of one word.
    fn word(&self, bytes: &[u8], ids: &mut Vec<i32>) {
        let last = bytes.len() - 1;
        let letter = |(i, &byte): (usize, &u8)| {
            let mut name = symbol(byte).to_string();
            if i == last {
                name.push_str(SUFFIX);
            }
            // A byte that the vocabulary lacks is the mark of an end, as in transformers.
            self.ids.get(name.as_bytes()).copied().unwrap_or(self.end)
        };
        let mut parts: Vec<i32> = bytes.iter().enumerate().map(letter).collect();
        loop {
            let pairs = parts.windows(2).enumerate();
            let known = pairs.filter_map(|(at, pair)| {
                let &(rank, whole) = self.ranks.get(&(pair[0], pair[1]))?;
                Some((rank, at, whole))
            });
            let Some((_, at, whole)) = known.min() else { break };
            parts[at] = whole;
            parts.remove(at + 1);
        }
        ids.extend(parts);
    }
}

/// The printable character that stands for a byte in the vocabulary, as in GPT-2.
fn symbol(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&other| !printable(other)).count();
    u32::try_from(before).ok().and_then(|n| char::from_u32(256 + n)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_gpt_2s_symbols() {
        for (byte, expected) in [(b'a', 'a'), (0, 'Ā'), (b' ', 'Ġ'), (b'\n', 'Ċ'), (0x7f, 'ġ'), (0xad, 'Ń')]
        {
            assert_eq!(symbol(byte), expected, "{byte:#x}");
        }
    }

    #[test]
    fn the_patterns_are_valid() {
        assert!(WORDS.is_some() && PIECES.is_some());
    }
}
