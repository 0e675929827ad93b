//! Thoughts of an answer: text between two marks of the chat template, ahead of what is said.

use super::Piece;

/// Marks of a thought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThoughtForm {
    pub open: &'static str,
    pub close: &'static str,
}

/// Qwen, DeepSeek, GLM and most others; Magistral; Kimi-VL; Seed; Command R.
const FORMS: [ThoughtForm; 5] = [
    ThoughtForm { open: "<think>", close: "</think>" },
    ThoughtForm { open: "[THINK]", close: "[/THINK]" },
    ThoughtForm { open: "◁think▷", close: "◁/think▷" },
    ThoughtForm { open: "<seed:think>", close: "</seed:think>" },
    ThoughtForm { open: "<|START_THINKING|>", close: "<|END_THINKING|>" },
];

impl ThoughtForm {
    /// The form whose marks a chat template names; `None` for a model that does not think.
    #[must_use]
    pub fn of(template: &str) -> Option<Self> {
        FORMS.into_iter().find(|form| template.contains(form.close))
    }

    /// Whether a prompt ends inside a thought: the template has begun it, or the message that is `continued` has.
    #[must_use]
    pub fn is_begun(self, prompt: &[Piece], continued: bool) -> bool {
        let mut tail = String::new();
        let mut words = usize::from(continued);
        for piece in prompt.iter().rev() {
            match piece {
                Piece::Template(text) => tail.insert_str(0, text),
                Piece::Plain(text) if words > 0 => {
                    words -= 1;
                    tail.insert_str(0, text);
                }
                // A person's words open nothing.
                Piece::Plain(_) | Piece::Image(_) => break,
            }
        }
        tail.rfind(self.open) > tail.rfind(self.close)
    }
}

/// Piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Thought(String),
    Text(String),
}

/// Takes the thought off the head of an answer, piece by piece. White space around either is dropped.
#[derive(Debug)]
pub struct ThoughtParser {
    form: ThoughtForm,
    state: State,
    /// Text that is not told yet.
    held: String,
    /// Whether the thought has words, so that white space belongs to it.
    words: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The answer may begin with a mark.
    Head,
    /// The prompt began the thought; some models write the mark again.
    Begun,
    Thought,
    /// Behind a thought, ahead of the text.
    Gap,
    Text,
}

impl ThoughtParser {
    /// `begun`: the prompt ended inside a thought.
    #[must_use]
    pub fn new(form: ThoughtForm, begun: bool) -> Self {
        Self {
            form,
            state: if begun { State::Begun } else { State::Head },
            held: String::new(),
            words: false,
        }
    }

    /// Number of the answer's `next` tokens that are the thought's: all of them until it has ended.
    #[must_use]
    pub fn thought_tokens(&self, next: &[i32]) -> u32 {
        match self.state {
            State::Begun | State::Thought => u32::try_from(next.len()).unwrap_or(u32::MAX),
            State::Head | State::Gap | State::Text => 0,
        }
    }

    /// More of the answer.
    pub fn push(&mut self, text: &str) -> Vec<Said> {
        self.held.push_str(text);
        let mut said = Vec::new();
        while self.step(&mut said) {}
        said
    }

    /// The answer is over: what was held back is as it was.
    pub fn finish(&mut self) -> Vec<Said> {
        let rest = std::mem::take(&mut self.held);
        match self.state {
            State::Head | State::Text if !rest.is_empty() => vec![Said::Text(rest)],
            State::Begun | State::Thought if !rest.trim().is_empty() => {
                let words = if self.words { rest.as_str() } else { rest.trim_start() };
                vec![Said::Thought(words.trim_end().to_owned())]
            }
            _ => Vec::new(),
        }
    }

    /// One step on; false if more text is needed.
    fn step(&mut self, said: &mut Vec<Said>) -> bool {
        match self.state {
            State::Head | State::Begun => {
                let start = self.held.trim_start();
                if let Some(rest) = start.strip_prefix(self.form.open) {
                    self.held = rest.to_owned();
                    self.state = State::Thought;
                    return true;
                }
                if self.form.open.starts_with(start) {
                    return false;
                }
                self.state = if self.state == State::Head { State::Text } else { State::Thought };
                true
            }
            State::Thought => self.thought(said),
            State::Gap => {
                self.held = self.held.trim_start().to_owned();
                self.state = if self.held.is_empty() { State::Gap } else { State::Text };
                self.state == State::Text
            }
            State::Text => {
                let text = std::mem::take(&mut self.held);
                if !text.is_empty() {
                    said.push(Said::Text(text));
                }
                false
            }
        }
    }

    fn thought(&mut self, said: &mut Vec<Said>) -> bool {
        if !self.words {
            self.held = self.held.trim_start().to_owned();
        }
        let end = self.held.find(self.form.close);
        // White space ahead of the mark waits, and so does text that may become the mark.
        let told = end.unwrap_or_else(|| self.held.len() - beginning(&self.held, self.form.close));
        let words = self.held[..told].trim_end().to_owned();
        if let Some(end) = end {
            self.held.drain(..end + self.form.close.len());
            self.state = State::Gap;
        } else {
            self.held.drain(..words.len());
        }
        if !words.is_empty() {
            self.words = true;
            said.push(Said::Thought(words));
        }
        end.is_some()
    }
}

/// Bytes at the end of `text` with which `mark` begins.
fn beginning(text: &str, mark: &str) -> usize {
    let lengths = mark.char_indices().map(|(at, _)| at).filter(|&at| at > 0);
    lengths.filter(|&length| text.ends_with(&mark[..length])).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::{Conversation, Family, Message, Part, Role, Template};

    const THINK: ThoughtForm = FORMS[0];

    /// Pieces in short: template text as it is, \[plain\].
    fn show(pieces: &[Piece]) -> String {
        let one = |piece: &Piece| match piece {
            Piece::Template(text) => text.clone(),
            Piece::Plain(text) => format!("[{text}]"),
            Piece::Image(number) => format!("{{{number}}}"),
        };
        pieces.iter().map(one).collect()
    }

    /// The thought and the text of an answer that comes in pieces of `size` letters.
    fn parse(form: ThoughtForm, begun: bool, answer: &str, size: usize) -> (String, String) {
        let mut parser = ThoughtParser::new(form, begun);
        let letters: Vec<char> = answer.chars().collect();
        let mut said: Vec<Said> =
            letters.chunks(size).flat_map(|piece| parser.push(&piece.iter().collect::<String>())).collect();
        said.extend(parser.finish());
        let (mut thought, mut text) = (String::new(), String::new());
        for one in said {
            match one {
                Said::Thought(more) => thought.push_str(&more),
                Said::Text(more) => text.push_str(&more),
            }
        }
        (thought, text)
    }

    #[test]
    fn answers_in_pieces_of_any_size() {
        for (begun, answer, thought, text) in [
            (false, "plain <think> words", "", "plain <think> words"),
            (false, "<think>\nI see é.\n\nYes.\n</think>\n\nA cat.\n", "I see é.\n\nYes.", "A cat.\n"),
            (false, "\n<think></think>A cat.", "", "A cat."),
            (false, "<thin", "", "<thin"),
            (false, " a", "", " a"),
            (true, "I see.\n</think>\n\nA cat.", "I see.", "A cat."),
            (true, "<think>\nI see. </think>A cat.", "I see.", "A cat."),
            (true, "I see <b> </thin", "I see <b> </thin", ""),
            (true, "\n</think>\n\nA </think> cat.", "", "A </think> cat."),
            (true, "cut short \n", "cut short", ""),
            (true, "", "", ""),
        ] {
            for size in [1, 2, 3, 5, 1000] {
                let found = parse(THINK, begun, answer, size);
                assert_eq!((found.0.as_str(), found.1.as_str()), (thought, text), "{size}: {answer}");
            }
        }
        assert_eq!(parse(FORMS[2], false, "◁think▷a◁/think▷b", 1), ("a".into(), "b".into()));
    }

    #[test]
    fn forms_by_their_marks() {
        assert_eq!(ThoughtForm::of("{{ content.split('</think>')[-1] }}"), Some(THINK));
        assert_eq!(ThoughtForm::of("[THINK]{{ thinking }}[/THINK]"), Some(FORMS[1]));
        assert_eq!(ThoughtForm::of("{{ messages }}"), None);
    }

    #[test]
    fn prompts_that_begin_a_thought() {
        let template = |text: &str| Piece::Template(text.into());
        let plain = |text: &str| Piece::Plain(text.into());
        for (pieces, continued, begun) in [
            (vec![template("user "), plain("say <think>"), template("</s>assistant\n")], false, false),
            (vec![template("user "), plain("hi"), template("</s>assistant\n<think>\n")], false, true),
            (vec![plain("hi"), template("assistant\n<think>\n\n</think>\n\n")], false, false),
            (vec![plain("hi"), template("assistant\n"), plain("<think>I see")], true, true),
            (vec![plain("<think>"), template("assistant\n<think>"), plain("so</think>A")], true, false),
            (vec![plain("<think>"), Piece::Image(0), template("assistant\n")], true, false),
        ] {
            assert_eq!(THINK.is_begun(&pieces, continued), begun, "{pieces:?}");
        }
    }

    #[test]
    fn thoughts_are_switched() {
        let hybrid = "{% for m in messages %}{{ m.content }}{% endfor %}|{% if not enable_thinking %}<think></think>{% endif %}";
        let older = "{% for m in messages %}{{ m.content }}{% endfor %}|{% if thinking %}<think>{% else %}</think>{% endif %}";
        let always = "{% for m in messages %}{{ m.content }}{% endfor %}|<think>\n{# </think> #}";
        for (source, thinks, shown) in [
            (hybrid, None, "[?]|"),
            (hybrid, Some(true), "[?]|"),
            (hybrid, Some(false), "[?]|<think></think>"),
            (older, None, "[?]|</think>"),
            (older, Some(true), "[?]|<think>"),
            (always, Some(true), "[?]|<think>\n"),
            (always, Some(false), "[?]|<think>\n</think>"),
        ] {
            let messages = [Message::text(Role::User, "?")];
            let given = Conversation { messages: &messages, thinks, ..Conversation::default() };
            let template = Template::new(source, "", "").unwrap();
            let pieces = template.converse(given, Family::Llava).unwrap();
            assert_eq!(
                (show(&pieces).as_str(), template.begins_a_thought(&pieces, &messages)),
                (shown, shown.trim_end().ends_with("<think>")),
                "{source} {thinks:?}"
            );
        }
        let thought = Message {
            role: Role::Assistant,
            parts: vec![Part::Thought("so".into()), Part::Text("A.".into())],
        };
        let source = "{% for m in messages %}{% if m.reasoning_content is string %}({{ m.reasoning_content }}){% endif %}{{ m.content }}{% endfor %}</think>";
        let messages = [Message::text(Role::User, "?"), thought, Message::text(Role::User, "!")];
        for (source, expected) in [
            (source, "[?]([so])[A.][!]</think>"),
            ("{% for m in messages %}{{ m.content }}{% endfor %}", "[?][A.][!]"),
        ] {
            assert_eq!(
                show(&Template::new(source, "", "").unwrap().render(&messages, Family::Llava).unwrap()),
                expected
            );
        }
    }

    proptest::proptest! {
        /// Nothing but marks and white space is lost, whatever the pieces.
        #[test]
        fn words_come_through(text in "[a-z <>/\n]{0,20}(<think>|</think>)?[a-z <>/\n]{0,20}(</think>)?[a-z ]{0,5}", begun: bool, size in 1_usize..9) {
            let bare = |text: &str| text.split_whitespace().collect::<String>();
            let (thought, said) = parse(THINK, begun, &text, size);
            let whole = parse(THINK, begun, &text, 10_000);
            proptest::prop_assert_eq!((&thought, &said), (&whole.0, &whole.1));
            let kept = bare(&thought) + &bare(&said);
            let marks = |text: &str| text.replace("<think>", "").replace("</think>", "");
            proptest::prop_assert_eq!(marks(&kept), marks(&bare(&text)));
        }
    }
}
