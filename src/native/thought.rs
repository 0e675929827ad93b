//! Thought ahead of an answer: the answer's form waits for its end, and a limit closes it.

use super::model::TextModel;

/// Bytes of text in which the end of a thought is looked for: a mark, in pieces of tokens.
const LOOKED_AT: usize = 64;

/// Marks of a thought and its limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thought {
    /// Texts of the marks around it.
    pub open: String,
    pub close: String,
    /// Whether the prompt ends inside it.
    pub begun: bool,
    /// Tokens of it at most.
    pub most: Option<u32>,
}

/// Place of an answer that may begin with a thought.
#[derive(Debug)]
pub(super) struct ThoughtGuard {
    marks: Thought,
    /// Tokens of the closing mark.
    closing: Vec<i32>,
    state: State,
    /// The last bytes of the answer.
    tail: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    /// Tokens so far.
    Inside(u32),
    /// Tokens of the closing mark that were written.
    Closing(usize),
    Over,
}

impl ThoughtGuard {
    pub(super) fn new(model: &TextModel, thought: &Thought) -> Self {
        Self::with(thought, model.tokenize(&thought.close, true))
    }

    fn with(thought: &Thought, closing: Vec<i32>) -> Self {
        let state = if thought.begun { State::Inside(0) } else { State::Head };
        Self { marks: thought.clone(), closing, state, tail: Vec::new() }
    }

    /// Whether nothing more of the answer can be thought.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// The token that must come next: one of the closing mark, if the thought has all its tokens.
    pub(super) fn forced(&mut self) -> Option<i32> {
        if let State::Inside(tokens) = self.state
            && self.marks.most.is_some_and(|most| tokens >= most)
        {
            self.state = State::Closing(0);
        }
        match self.state {
            State::Closing(written) => self.closing.get(written).copied(),
            _ => None,
        }
    }

    /// The first token of the closing mark, which comes in place of the answer's end inside the thought. An answer whose
    /// form is still to come asks for it.
    pub(super) fn instead_of_the_end(&mut self) -> Option<i32> {
        if !matches!(self.state, State::Inside(_)) {
            return None;
        }
        self.state = State::Closing(0);
        self.closing.first().copied()
    }

    /// Takes a token's text. True if it is part of the thought or of its marks; `held`: the answer has a form.
    pub(super) fn takes(&mut self, text: &[u8], held: bool) -> bool {
        if self.is_over() {
            return false;
        }
        self.tail.extend_from_slice(text);
        match self.state {
            State::Over => false,
            State::Closing(written) => {
                let over = written + 1 >= self.closing.len();
                self.state = if over { State::Over } else { State::Closing(written + 1) };
                true
            }
            State::Inside(tokens) => {
                let close = self.marks.close.as_bytes();
                let over = self.tail.windows(close.len()).any(|part| part == close);
                self.state = if over { State::Over } else { State::Inside(tokens + 1) };
                self.tail.drain(..self.tail.len().saturating_sub(LOOKED_AT));
                true
            }
            State::Head => {
                let start = self.tail.trim_ascii_start();
                if start.starts_with(self.marks.open.as_bytes()) {
                    self.state = State::Inside(0);
                    self.tail.clear();
                } else if held || !self.marks.open.as_bytes().starts_with(start) {
                    // A form cannot take back what was written ahead of it.
                    self.state = State::Over;
                }
                !self.is_over()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(begun: bool, most: Option<u32>) -> ThoughtGuard {
        let thought = Thought { open: "<think>".into(), close: "</think>".into(), begun, most };
        ThoughtGuard::with(&thought, vec![8, 9])
    }

    #[test]
    fn a_form_waits_for_the_end() {
        for (begun, tokens, taken) in [
            (true, &["I", " see", "</th", "ink>\n", "{"][..], 4),
            (false, &["<think>", "I", "</think>", "{"], 3),
            (false, &["{", "<think>"], 0),
            (false, &["\n", "<think>"], 0),
        ] {
            let mut guard = guard(begun, None);
            let count = tokens.iter().take_while(|text| guard.takes(text.as_bytes(), true)).count();
            assert_eq!(count, taken, "{tokens:?}");
        }
        let mut free = guard(false, Some(1));
        assert!(["\n", "<th", "ink>"].iter().all(|text| free.takes(text.as_bytes(), false)));
        assert_eq!(free.state, State::Inside(0));
    }

    #[test]
    fn an_answer_leaves_nothing_behind() {
        let mut guard = guard(true, None);
        let long = "a".repeat(1000);
        assert!(guard.takes(long.as_bytes(), true) && guard.tail.len() <= LOOKED_AT);
        assert!(guard.takes(b"</think>", true) && guard.is_over());
        let held = guard.tail.len();
        assert!(!guard.takes(long.as_bytes(), true) && guard.tail.len() == held);
    }

    #[test]
    fn a_limit_closes() {
        let mut guard = guard(true, Some(2));
        for (forced, text) in [(None, "a"), (None, "b"), (Some(8), "</"), (Some(9), "think>"), (None, "{")] {
            assert_eq!(guard.forced(), forced, "{text}");
            assert_eq!(guard.takes(text.as_bytes(), true), text != "{");
        }
        let mut off = super::tests::guard(true, Some(0));
        assert_eq!(off.forced(), Some(8));
        let mut ended = super::tests::guard(true, None);
        assert_eq!((ended.instead_of_the_end(), ended.forced()), (Some(8), Some(8)));
        assert_eq!(super::tests::guard(false, None).instead_of_the_end(), None);
    }
}
