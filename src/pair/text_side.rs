//! Text model of a loaded pair, without a context, for making prompts.

use std::sync::Arc;

use super::{Facts, LoadSettings};
use crate::error::Result;
use crate::native::TextModel;
use crate::prompt::{self, Chunk, Conversation, Message, Piece, Template, Tokenizer};

/// A text model with its vocabulary and its chat template.
pub struct TextSide {
    pub facts: Arc<Facts>,
    pub template: Template,
    pub vocabulary: Vocabulary,
    pub settings: LoadSettings,
}

impl TextSide {
    pub(super) fn new(
        facts: Arc<Facts>,
        model: TextModel,
        template: Template,
        settings: LoadSettings,
    ) -> Self {
        Self { facts, template, vocabulary: Vocabulary::new(model), settings }
    }

    #[must_use]
    pub fn model(&self) -> &TextModel {
        &self.vocabulary.model
    }

    /// Messages to token ids and the places of pictures.
    ///
    /// # Errors
    /// [`crate::error::Kind::Prompt`].
    pub fn tokenize(&self, messages: &[Message]) -> Result<Vec<Chunk>> {
        Ok(self.tokenize_conversation(Conversation { messages, ..Conversation::default() })?.0)
    }

    /// The same with tools and variables of the template, and whether the prompt ends inside a thought.
    ///
    /// # Errors
    /// [`crate::error::Kind::Prompt`].
    pub fn tokenize_conversation(&self, given: Conversation<'_>) -> Result<(Vec<Chunk>, bool)> {
        let pieces = self.template.converse(given, self.facts.family)?;
        let begun = self.template.begins_a_thought(&pieces, given.messages);
        Ok((prompt::tokenize(&pieces, &self.vocabulary)?, begun))
    }

    /// The prompt as text, `<__media__>` for each picture.
    ///
    /// # Errors
    /// [`crate::error::Kind::Prompt`].
    pub fn shown(&self, given: Conversation<'_>) -> Result<String> {
        let pieces = self.template.converse(given, self.facts.family)?;
        let texts = pieces.into_iter().map(|piece| match piece {
            Piece::Template(text) | Piece::Plain(text) => text,
            Piece::Image(_) => "<__media__>".to_owned(),
        });
        Ok(texts.collect())
    }

    /// Tokens of a text that no template touches: special tokens count. `head`: the prompt begins with it.
    #[must_use]
    pub fn tokenize_piece(&self, text: &str, head: bool) -> Vec<i32> {
        let bos = self.model().bos().filter(|_| head);
        let tokens = self.vocabulary.tokenize(text, true);
        let bos = bos.filter(|bos| tokens.first() != Some(bos));
        bos.into_iter().chain(tokens).collect()
    }

    /// The bytes of tokens, control tokens as their texts.
    #[must_use]
    pub fn detokenize(&self, tokens: &[i32]) -> Vec<u8> {
        let one = |&token: &i32| {
            let control = self.vocabulary.control_text(token);
            control.map_or_else(|| self.model().piece(token), String::into_bytes)
        };
        tokens.iter().flat_map(one).collect()
    }

    /// Plain text to tokens with their bytes.
    #[must_use]
    pub fn tokenize_text(&self, text: &str, add_special: bool, parse_special: bool) -> Vec<(i32, Vec<u8>)> {
        let bos = self.model().bos().filter(|_| add_special);
        let tokens = bos.into_iter().chain(self.vocabulary.tokenize(text, parse_special));
        tokens.map(|token| (token, self.model().piece(token))).collect()
    }
}

/// A text model's tokens, as prompts need them.
pub struct Vocabulary {
    model: TextModel,
    markup: Vec<String>,
    spaces_after_special: bool,
}

impl Vocabulary {
    fn new(model: TextModel) -> Self {
        // Tokens that llama.cpp recognises in plain text although they look like marks: those
        // it calls user-defined. Cut in two, a mark of that text is several tokens.
        let markup = (0..model.n_vocab())
            .filter(|&token| !model.is_control(token))
            .filter_map(|token| model.text(token))
            .filter(|text| text.len() > 2 && is_mark(text))
            .collect();
        let spaces_after_special =
            model.metadata("illava.tokenizer.space_after_special").as_deref() != Some("false");
        Self { model, markup, spaces_after_special }
    }
}

fn is_mark(text: &str) -> bool {
    (text.starts_with('<') && text.ends_with('>') && !text.starts_with("<0x"))
        || (text.starts_with("[IMG") && text.ends_with(']'))
}

impl Tokenizer for Vocabulary {
    fn tokenize(&self, text: &str, special: bool) -> Vec<i32> {
        self.model.tokenize(text, special)
    }

    fn control_text(&self, token: i32) -> Option<String> {
        if self.model.is_control(token) { self.model.text(token) } else { None }
    }

    fn markup(&self) -> &[String] {
        &self.markup
    }

    fn bos(&self) -> Option<i32> {
        self.model.bos()
    }

    fn spaces_after_special(&self) -> bool {
        self.spaces_after_special
    }
}
