//! Text to tokens, on a stack that is deep enough for the text.

use std::panic::resume_unwind;
use std::thread;

use llama_cpp_sys_2 as sys;

use super::model::TextModel;

/// Bytes of a run that every thread's stack takes.
const SHORT: usize = 1 << 10;
/// Bytes of the longest run that is tokenised in one piece.
const LONGEST: usize = 1 << 20;
/// Bytes of stack for each byte of a run. libstdc++ 12 was seen to take up to 524.
const DEPTH: usize = 1 << 10;
/// Bytes of stack beside those.
const STACK: usize = 8 << 20;

impl TextModel {
    /// Token ids of `text`, without BOS or EOS.
    ///
    /// The library splits the words of some vocabularies by `std::regex`, which recurses with each character that a
    /// pattern repeats: some 16,000 letters or spaces in a row overflow 8 MiB. A long run is tokenised by a thread whose
    /// stack fits it, and one beyond 1 MiB in pieces of that size.
    #[must_use]
    pub fn tokenize(&self, text: &str, special: bool) -> Vec<i32> {
        let run = longest_run(text);
        // SAFETY: the model is alive and owns the vocabulary.
        let kind = unsafe { sys::llama_vocab_type(sys::llama_model_get_vocab(self.as_ptr())) };
        if run <= SHORT || kind != sys::LLAMA_VOCAB_TYPE_BPE {
            return self.tokenize_here(text, special);
        }
        let pieces = |most| cut(text, most).into_iter().flat_map(|piece| self.tokenize_here(piece, special));
        let deep = thread::scope(|scope| {
            let deep = thread::Builder::new().stack_size(STACK + DEPTH * run.min(LONGEST));
            let tokens = deep.spawn_scoped(scope, || pieces(LONGEST).collect()).ok()?;
            Some(tokens.join().unwrap_or_else(|panic| resume_unwind(panic)))
        });
        // Without memory for such a stack.
        deep.unwrap_or_else(|| pieces(SHORT).collect())
    }

    fn tokenize_here(&self, text: &str, special: bool) -> Vec<i32> {
        // The library counts bytes and tokens in i32.
        if text.is_empty() || i32::try_from(text.len()).is_err() {
            return Vec::new();
        }
        let tokens = self.inner().vocab().tokenize(text.as_bytes(), false, special);
        tokens.into_iter().map(|token| token.0).collect()
    }
}

/// Bytes of the longest run of white space, or of anything else.
fn longest_run(text: &str) -> usize {
    runs(text).map(|(start, end)| end - start).max().unwrap_or(0)
}

/// Returns the begin and the end of each run of `text`, in bytes.
fn runs(text: &str) -> impl Iterator<Item = (usize, usize)> {
    let mut letters = text.char_indices().peekable();
    std::iter::from_fn(move || {
        let (start, first) = letters.next()?;
        while letters.next_if(|(_, letter)| letter.is_whitespace() == first.is_whitespace()).is_some() {}
        Some((start, letters.peek().map_or(text.len(), |(at, _)| *at)))
    })
}

/// Cuts `text` within its runs of more than `most` bytes.
fn cut(text: &str, most: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut from = 0;
    for (start, end) in runs(text) {
        let mut at = start;
        while end.saturating_sub(at) > most {
            at = (at + 1..=at + most).rfind(|&at| text.is_char_boundary(at)).unwrap_or(end);
            pieces.push(&text[from..at]);
            from = at;
        }
    }
    pieces.push(&text[from..]);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_pieces() {
        for (text, longest, pieces) in [
            ("", 0, vec![""]),
            ("ab  c", 2, vec!["ab  c"]),
            ("abcdefghi", 9, vec!["abcd", "efgh", "i"]),
            ("a bcdef    \u{20ac}\u{20ac} x", 6, vec!["a bcde", "f    \u{20ac}", "\u{20ac} x"]),
        ] {
            assert_eq!(longest_run(text), longest, "{text}");
            assert_eq!(cut(text, 4), pieces, "{text}");
        }
    }
}
