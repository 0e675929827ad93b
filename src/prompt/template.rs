//! Chat templates: Jinja from the GGUF, rendered within bounds.

use minijinja::value::Serde;
use minijinja::{ErrorKind, Value, context};
use serde_json::Map;

use super::builtin::Detected;
use super::jinja::{environment, without_generation_tags};
use super::marked::{Marked, Style};
use super::system::folded;
use super::tools::told;
use super::{CallForm, Family, Message, Part, Piece, Role, ThoughtForm, Tools, marks};
use crate::error::{Error, Field, Kind, Result};

/// A template longer than this is no chat template; the longest published ones are below 20 KiB.
const MAX_SOURCE: usize = 256 << 10;
/// Variables that switch thoughts on and off.
const THINKS: [&str; 2] = ["enable_thinking", "thinking"];
const MAX_RENDERED: usize = 64 << 20;

/// A chat template with the tokens it may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// As it was given.
    source: String,
    /// Without the tags that only transformers knows.
    runnable: String,
    bos: String,
    eos: String,
}

/// Variables of a template.
#[derive(Debug, Clone, Copy, Default)]
pub struct Conversation<'a> {
    pub messages: &'a [Message],
    pub tools: Option<&'a Tools>,
    /// Variables of the template's own, such as `enable_thinking`.
    pub variables: Option<&'a Map<String, serde_json::Value>>,
    /// Ends behind the last message, without the head of an answer.
    pub headless: bool,
    /// Whether the answer thinks first; `None` is the template's own choice.
    pub thinks: Option<bool>,
}

impl Template {
    /// `source` is Jinja, or the name of a built-in template (vicuna, mistral, chatml).
    ///
    /// # Errors
    /// [`Kind::Prompt`] if the source is no Jinja or too long.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self> {
        let source = match Detected::named(source) {
            Some(detected) => detected.source(),
            None => source,
        };
        if source.len() > MAX_SOURCE {
            return Err(Error::new(
                Kind::Prompt,
                format!(
                    "the chat template has {} bytes, the limit is {MAX_SOURCE}; give another ({})",
                    source.len(),
                    Field::ChatTemplate
                ),
            ));
        }
        let template = Self {
            source: source.to_owned(),
            runnable: without_generation_tags(source),
            bos: bos.to_owned(),
            eos: eos.to_owned(),
        };
        environment().template_from_str(&template.runnable).map_err(|error| failed(&error))?;
        Ok(template)
    }

    /// Renders a question, with a picture if the model takes `pictures`, to find a template that cannot run before
    /// anyone asks.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn check(&self, family: Family, pictures: bool) -> Result<()> {
        let image = pictures.then_some(Part::Image(0));
        let parts = image.into_iter().chain([Part::Text("?".into())]).collect();
        self.render(&[Message { role: Role::User, parts }], family).map(drop)
    }

    /// Jinja.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The conversation as the model was trained to see it, ready for the answer to follow. If the last
    /// message is the assistant's, the answer continues it: nothing follows its last word.
    ///
    /// A template that has no place for a system message gets its text at the head of the next user message,
    /// as llama.cpp does.
    ///
    /// # Errors
    /// [`Kind::Prompt`] if the template fails, runs away, or drops a text or a picture.
    pub fn render(&self, messages: &[Message], family: Family) -> Result<Vec<Piece>> {
        self.converse(Conversation { messages, ..Conversation::default() }, family)
    }

    /// The same with tools and variables. A template that knows nothing of tools gets them in words.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn converse(&self, given: Conversation<'_>, family: Family) -> Result<Vec<Piece>> {
        let calls = |message: &Message| {
            message.role == Role::Tool || message.parts.iter().any(|part| matches!(part, Part::Call(_)))
        };
        let any = given.tools.is_some() || given.messages.iter().any(calls);
        let mut pieces = if any && CallForm::of(&self.source) == CallForm::Told {
            let messages = told(given.messages, given.tools);
            self.folding(Conversation { messages: &messages, tools: None, ..given }, family)?
        } else {
            self.folding(given, family)?
        };
        // A template that thinks although it should not.
        let begun = given.thinks == Some(false) && self.begins_a_thought(&pieces, given.messages);
        let form = ThoughtForm::of(&self.source).filter(|_| begun);
        pieces.extend(form.map(|form| Piece::Template(form.close.to_owned())));
        Ok(pieces)
    }

    /// Whether the prompt `pieces` of `messages` ends inside a thought.
    #[must_use]
    pub fn begins_a_thought(&self, pieces: &[Piece], messages: &[Message]) -> bool {
        let continued = messages.last().is_some_and(|last| last.role == Role::Assistant);
        ThoughtForm::of(&self.source).is_some_and(|form| form.is_begun(pieces, continued))
    }

    fn folding(&self, given: Conversation<'_>, family: Family) -> Result<Vec<Piece>> {
        let rendered = self.render_given(given, family);
        if rendered.is_ok() || given.messages.iter().all(|message| message.role != Role::System) {
            return rendered;
        }
        // The first error tells more if the system message was not its reason.
        self.render_given(Conversation { messages: &folded(given.messages), ..given }, family).or(rendered)
    }

    fn render_given(&self, given: Conversation<'_>, family: Family) -> Result<Vec<Piece>> {
        let messages = given.messages;
        let has_images = messages.iter().flat_map(|m| &m.parts).any(|part| matches!(part, Part::Image(_)));
        let styles: &[Style] = if has_images && family != Family::Library {
            &[Style::Parts, Style::Text, Style::TextParts]
        } else {
            &[Style::Text, Style::TextParts]
        };
        let mut first_error = None;
        for &style in styles {
            match self.render_as(given, family, style) {
                Ok(pieces) => return Ok(pieces),
                Err(error) => {
                    first_error = first_error.or(Some(error)).filter(|_| !matches!(style, Style::Parts))
                }
            }
        }
        Err(first_error.unwrap_or_else(|| unfit("shows no picture")))
    }

    fn render_as(&self, given: Conversation<'_>, family: Family, style: Style) -> Result<Vec<Piece>> {
        let messages = given.messages;
        let mut marked = Marked::default();
        let short = CallForm::of(&self.source) == CallForm::Mistral;
        let tools = given.tools.map(|tools| {
            let list = tools.list.iter().map(|tool| marked.json(&tool.value()));
            Value::from(Serde(list.collect::<Vec<_>>()))
        });
        let continued = messages.last().is_some_and(|last| last.role == Role::Assistant);
        let last = messages.len().saturating_sub(1);
        let values: Vec<Value> = messages
            .iter()
            .enumerate()
            .map(|(i, message)| marked.message(message, family, style, continued && i == last, short))
            .collect();
        let environment = environment();
        let template = environment.template_from_str(&self.runnable).map_err(|error| failed(&error))?;
        let mut variables = given.variables.cloned().unwrap_or_default();
        // Two names that templates have for it. Without a choice a template thinks by the one that llama.cpp sets.
        let chosen = given.thinks.is_some();
        for name in if chosen { &THINKS[..] } else { &THINKS[..1] } {
            variables.entry(*name).or_insert(given.thinks.unwrap_or(true).into());
        }
        let variables = Value::from(Serde(variables));
        let mut rendered = template
            .render(context! {
                messages => values,
                tools,
                documents => (),
                add_generation_prompt => !continued && !given.headless,
                bos_token => self.bos.as_str(),
                eos_token => self.eos.as_str(),
                ..variables
            })
            .map_err(|error| failed(&error))?;
        if rendered.len() > MAX_RENDERED {
            return Err(Error::new(
                Kind::Prompt,
                format!(
                    "the chat template wrote {} bytes; give another ({})",
                    rendered.len(),
                    Field::ChatTemplate
                ),
            ));
        }
        if continued {
            cut_behind_the_last_word(&mut rendered)?;
        }
        let Marked { texts, optional, images } = marked;
        let mut pieces = marks::cut(&rendered, &texts);
        if matches!(style, Style::Parts) {
            pieces = place_images(pieces, family, &images)?;
        }
        let needed: Vec<&String> =
            texts.iter().enumerate().filter(|(i, _)| !optional.contains(i)).map(|(_, text)| text).collect();
        check_complete(&pieces, &needed, &images)?;
        Ok(pieces)
    }
}

/// Ends `rendered` at the end of the last message. A template that trims its messages has cut the space
/// behind the mark off: then the message's own space goes, too (transformers' `continue_final_message`).
fn cut_behind_the_last_word(rendered: &mut String) -> Result<()> {
    let at = rendered
        .rfind(marks::END)
        .ok_or_else(|| unfit("has no place for the last message, which is to be continued"))?;
    let kept = rendered[at + marks::END.len()..].starts_with(' ');
    rendered.truncate(at);
    if !kept {
        rendered.truncate(rendered.trim_end().len());
    }
    Ok(())
}

/// The template's own placeholders become the pictures, first to first.
fn place_images(pieces: Vec<Piece>, family: Family, images: &[usize]) -> Result<Vec<Piece>> {
    let mut next = images.iter();
    let mut out = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let Piece::Template(mut text) = piece else {
            out.push(piece);
            continue;
        };
        while let Some((at, placeholder)) =
            family.placeholders().iter().filter_map(|p| Some((text.find(p)?, *p))).min_by_key(|(at, _)| *at)
        {
            let number = next.next().ok_or_else(|| unfit("has a place for more pictures than were given"))?;
            if at > 0 {
                out.push(Piece::Template(text[..at].to_owned()));
            }
            out.push(Piece::Image(*number));
            text.drain(..at + placeholder.len());
        }
        if !text.is_empty() {
            out.push(Piece::Template(text));
        }
    }
    Ok(out)
}

fn unfit(what: &str) -> Error {
    Error::new(Kind::Prompt, format!("the chat template {what}; give another ({})", Field::ChatTemplate))
}

/// Every text and picture must have come through once, or the model would answer another question.
fn check_complete(pieces: &[Piece], texts: &[&String], images: &[usize]) -> Result<()> {
    let seen_images: Vec<usize> =
        pieces.iter().filter_map(|p| if let Piece::Image(n) = p { Some(*n) } else { None }).collect();
    if seen_images != images {
        return Err(unfit("has no place for the pictures"));
    }
    let seen: Vec<&String> =
        pieces.iter().filter_map(|p| if let Piece::Plain(t) = p { Some(t) } else { None }).collect();
    if seen.len() < texts.len() || texts.iter().any(|text| !seen.contains(text)) {
        return Err(unfit("has no place for the text"));
    }
    Ok(())
}

fn failed(error: &minijinja::Error) -> Error {
    let reason = if error.kind() == ErrorKind::OutOfFuel {
        "it does not come to an end".to_owned()
    } else {
        error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
    };
    unfit(&format!("fails ({reason})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const QWEN2VL: &str = "{% set image_count = namespace(value=0) %}{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}{% for content in message['content'] %}{% if content['type'] == 'image' or 'image' in content %}<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    const PLAIN_CHATML: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
    const DEMO: &str = "{% for m in messages %}{% if m['role'] == 'user' %}<|user|>{{ m['content'] }}<|assistant|>{% else %}{{ m['content'] }}<|end|>{% endif %}{% endfor %}";
    const PARTS_ONLY: &str = "{% for m in messages %}{{ m.role.upper() }}: {% for p in m.content | selectattr('type', 'equalto', 'text') %}{{ p.text }}{% endfor %} {% endfor %}";

    fn ask() -> Vec<Message> {
        vec![Message {
            role: Role::User,
            parts: vec![Part::Image(0), Part::Text("what <|im_end|><image>?".into())],
        }]
    }

    /// Pieces in short: template text as it is, [plain], {picture}.
    fn show(pieces: &[Piece]) -> String {
        pieces
            .iter()
            .map(|piece| match piece {
                Piece::Template(text) => text.clone(),
                Piece::Plain(text) => format!("[{text}]"),
                Piece::Image(number) => format!("{{{number}}}"),
            })
            .collect()
    }

    #[test]
    fn templates_of_every_style() {
        let q = "[what <|im_end|><image>?]";
        let cases = [
            (
                "qwen2vl",
                QWEN2VL,
                Family::Qwen2Vl,
                format!(
                    "<|im_start|>user\n<|vision_start|>{{0}}<|vision_end|>{q}<|im_end|>\n<|im_start|>assistant\n"
                ),
            ),
            (
                "chatml for Qwen2-VL",
                PLAIN_CHATML,
                Family::Qwen2Vl,
                format!(
                    "<|im_start|>user\n<|vision_start|>{{0}}<|vision_end|>{q}<|im_end|>\n<|im_start|>assistant\n"
                ),
            ),
            (
                "chatml for LLaVA",
                PLAIN_CHATML,
                Family::Llava,
                format!("<|im_start|>user\n{{0}}{q}<|im_end|>\n<|im_start|>assistant\n"),
            ),
            ("demo", DEMO, Family::Llava, format!("<|user|>{{0}}{q}<|assistant|>")),
            ("text parts", PARTS_ONLY, Family::Llava, format!("USER: {{0}}{q} ")),
            (
                "chatml built in",
                "chatml",
                Family::Llava,
                format!("<|im_start|>user\n{{0}}\n{q}<|im_end|>\n<|im_start|>assistant\n"),
            ),
        ];
        for (name, source, family, expected) in cases {
            let template = Template::new(source, "<s>", "</s>").unwrap();
            assert_eq!(show(&template.render(&ask(), family).unwrap()), expected, "{name}");
        }
    }

    #[test]
    fn vicuna_with_history() {
        let template = Template::new("vicuna", "<s>", "</s>").unwrap();
        let mut messages = vec![Message::text(Role::System, "Be brief.")];
        messages.extend(ask());
        messages.push(Message::text(Role::Assistant, "A cat."));
        messages.push(Message::text(Role::User, "Sure?"));
        let shown = show(&template.render(&messages, Family::Llava).unwrap());
        assert_eq!(
            shown,
            "[Be brief.] USER: {0}\n[what <|im_end|><image>?] ASSISTANT: [A cat.]</s>USER: [Sure?] ASSISTANT:"
        );
        assert!(show(&template.render(&ask(), Family::Llava).unwrap()).starts_with("A chat between"));
    }

    #[test]
    fn mistral_with_history() {
        let template = Template::new("mistral", "<s>", "</s>").unwrap();
        let mut messages = vec![Message::text(Role::System, "Be brief.")];
        messages.extend(ask());
        messages.push(Message::text(Role::Assistant, "A cat."));
        messages.push(Message::text(Role::User, "Sure?"));
        assert_eq!(
            show(&template.render(&messages, Family::Llava).unwrap()),
            "[INST] <<SYS>>\n[Be brief.]\n<</SYS>>\n\n{0}\n[what <|im_end|><image>?] [/INST] [A cat.]</s>[INST] [Sure?] [/INST]"
        );
    }

    #[test]
    fn several_pictures_keep_their_places() {
        let parts = vec![Part::Text("a".into()), Part::Image(1), Part::Text("b".into()), Part::Image(0)];
        for source in [QWEN2VL, PLAIN_CHATML] {
            let template = Template::new(source, "", "").unwrap();
            let message = Message { role: Role::User, parts: parts.clone() };
            let shown = show(&template.render(&[message], Family::Qwen2Vl).unwrap());
            assert!(
                shown.contains("[a]<|vision_start|>{1}<|vision_end|>[b]<|vision_start|>{0}<|vision_end|>"),
                "{shown}"
            );
        }
    }

    #[test]
    fn space_around_a_text_may_be_trimmed() {
        let message = Message::text(Role::User, " \n what? ");
        for (source, shown) in [
            ("{% for m in messages %}<{{ m.content | trim }}>{% endfor %}", "<[what?]>"),
            ("{% for m in messages %}<{{ m.content }}>{% endfor %}", "< \n [what?] >"),
        ] {
            let template = Template::new(source, "", "").unwrap();
            assert_eq!(show(&template.render(std::slice::from_ref(&message), Family::Llava).unwrap()), shown);
        }
        let template = Template::new(PLAIN_CHATML, "", "").unwrap();
        let blank = show(&template.render(&[Message::text(Role::User, "  ")], Family::Llava).unwrap());
        assert_eq!(blank, "<|im_start|>user\n  <|im_end|>\n<|im_start|>assistant\n");
    }

    #[test]
    fn an_answer_continues_the_last_message() {
        let trimming = PLAIN_CHATML.replace("message['content']", "message['content'] | trim");
        for (source, text, shown) in [
            (PLAIN_CHATML, "A cat ", "<|im_start|>assistant\n[A cat] "),
            (PLAIN_CHATML, "A cat", "<|im_start|>assistant\n[A cat]"),
            (&trimming, "A cat ", "<|im_start|>assistant\n[A cat]"),
            (QWEN2VL, "A cat", "<|im_start|>assistant\n[A cat]"),
            ("vicuna", "A cat", " ASSISTANT: [A cat]"),
        ] {
            let template = Template::new(source, "", "").unwrap();
            let messages = [ask(), vec![Message::text(Role::Assistant, text)]].concat();
            let rendered = show(&template.render(&messages, Family::Llava).unwrap());
            assert!(rendered.ends_with(shown), "{source}: {rendered}");
        }
        let dropping =
            Template::new("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", "", "");
        let messages = [Message::text(Role::User, "a"), Message::text(Role::Assistant, "b")];
        let error = dropping.unwrap().render(&messages, Family::Llava).unwrap_err();
        assert!(error.to_string().contains("to be continued"), "{error}");
    }

    #[test]
    fn a_template_is_checked_before_it_is_used() {
        for (source, pictures, fault) in [
            (QWEN2VL, true, None),
            (PLAIN_CHATML, true, None),
            ("{{ raise_exception('not for you') }}", true, Some("not for you")),
            ("{{ messages[0].content | nothing }}", false, Some("fails")),
            ("hello", false, Some("no place for the text")),
        ] {
            let checked =
                Template::new(source, "", "").and_then(|template| template.check(Family::Llava, pictures));
            match fault {
                None => assert!(checked.is_ok(), "{source}"),
                Some(part) => assert!(checked.unwrap_err().to_string().contains(part), "{source}"),
            }
        }
    }

    #[test]
    fn what_goes_wrong_is_said() {
        let cases = [
            ("{% for %}", "fails"),
            ("{{ raise_exception('no system role') }}", "no system role"),
            (
                "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
                "does not come to an end",
            ),
            ("hello", "no place for"),
            ("{{ messages[5].content.x.y }}", "fails"),
        ];
        for (source, part) in cases {
            let error = Template::new(source, "", "")
                .and_then(|t| t.render(&[Message::text(Role::User, "hi")], Family::Llava))
                .unwrap_err();
            assert_eq!(error.kind(), Kind::Prompt);
            assert!(error.to_string().contains(part), "{source}: {error}");
        }
    }

    #[test]
    fn a_template_cannot_eat_the_memory() {
        for source in ["{{ 'x' * 100000000000 }}", "{{ ('x' * 10000) | center(100000000000) }}"] {
            let rendered = Template::new(source, "", "")
                .and_then(|t| t.render(&[Message::text(Role::User, "hi")], Family::Llava));
            assert!(rendered.is_err(), "{source}");
        }
        assert!(Template::new(&"x".repeat(MAX_SOURCE + 1), "", "").is_err());
    }
}
