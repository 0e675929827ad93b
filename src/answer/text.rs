//! An answer as it grows: bytes to letters, letters held back for stop strings, and the tokens
//! that go with what is shown.

use std::collections::VecDeque;

use super::event::Token;
use super::stop_texts::StopTexts;
use super::utf8_stream::Utf8Stream;

/// Text that a token adds to the answer.
#[derive(Debug, PartialEq)]
pub(super) struct Growth {
    pub text: String,
    pub tokens: Vec<Token>,
    pub stopped_by: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct AnswerText {
    letters: Utf8Stream,
    stop: StopTexts,
    /// Text shown so far.
    pub text: String,
    /// Tokens not yet shown, with the length of the answer at which their own text ends.
    waiting: VecDeque<(usize, Token)>,
    /// Bytes of letters, shown or held back.
    length: usize,
    pub generated: u32,
    /// Tokens drawn since [`AnswerText::take_ids`].
    ids: Vec<i32>,
}

impl AnswerText {
    pub(super) fn new(stop: Vec<String>) -> Self {
        Self { stop: StopTexts::new(stop), ..Self::default() }
    }

    /// Notes which token comes next.
    pub(super) fn drew(&mut self, id: i32) {
        self.ids.push(id);
    }

    pub(super) fn take_ids(&mut self) -> Vec<i32> {
        std::mem::take(&mut self.ids)
    }

    /// Takes the next token's bytes, and `token` if tokens are reported.
    pub(super) fn push(&mut self, bytes: &[u8], token: Option<Token>) -> Growth {
        self.generated += 1;
        let letters = self.letters.push(bytes);
        self.length += letters.len();
        if let Some(token) = token {
            self.waiting.push_back((self.length, token));
        }
        let shown = self.stop.push(&letters);
        self.text.push_str(&shown.text);
        let tokens = self.release();
        Growth { text: shown.text, tokens, stopped_by: shown.stopped_by }
    }

    /// Returns the text held back, at an end that no stop text brought.
    pub(super) fn finish(&mut self) -> Growth {
        let mut text = self.stop.finish();
        let half = self.letters.finish();
        self.length += half.len();
        text.push_str(&half);
        self.text.push_str(&text);
        let tokens = self.waiting.drain(..).map(|(_, token)| token).collect();
        Growth { text, tokens, stopped_by: None }
    }

    /// Tokens whose letters are all shown.
    fn release(&mut self) -> Vec<Token> {
        let mut tokens = Vec::new();
        while self.waiting.front().is_some_and(|(end, _)| *end <= self.text.len()) {
            tokens.extend(self.waiting.pop_front().map(|(_, token)| token));
        }
        tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: i32) -> Option<Token> {
        Some(Token { id, bytes: Vec::new(), logprob: 0.0, top: Vec::new() })
    }

    fn ids(growth: &Growth) -> Vec<i32> {
        growth.tokens.iter().map(|token| token.id).collect()
    }

    #[test]
    fn tokens_go_with_their_text() {
        let mut answer = AnswerText::new(vec!["END".into()]);
        let first = answer.push(b"ab", token(1));
        assert_eq!((first.text.as_str(), ids(&first)), ("ab", vec![1]));
        let held = answer.push(b"E", token(2));
        assert_eq!((held.text.as_str(), ids(&held)), ("", vec![]));
        let freed = answer.push(b"x", token(3));
        assert_eq!((freed.text.as_str(), ids(&freed)), ("Ex", vec![2, 3]));
        let last = answer.push(b"cEND", token(4));
        assert_eq!((last.text.as_str(), last.stopped_by.as_deref()), ("c", Some("END")));
        assert_eq!((answer.text.as_str(), answer.generated), ("abExc", 4));
    }

    #[test]
    fn half_letters_wait() {
        let euro = "€".as_bytes();
        let mut answer = AnswerText::new(Vec::new());
        assert_eq!(answer.push(&euro[..2], token(1)).text, "");
        let whole = answer.push(&euro[2..], token(2));
        assert_eq!((whole.text.as_str(), whole.tokens.len()), ("€", 1));
        assert_eq!(answer.push(&euro[..1], None).text, "");
        assert_eq!(answer.finish().text, "\u{FFFD}");
        assert_eq!(answer.text, "€\u{FFFD}");
    }

    #[test]
    fn what_is_held_back_is_shown_at_the_end() {
        let mut answer = AnswerText::new(vec!["END".into()]);
        assert_eq!(answer.push(b"abEN", token(1)).text, "ab");
        let rest = answer.finish();
        assert_eq!((rest.text.as_str(), ids(&rest)), ("EN", vec![1]));
    }
}
