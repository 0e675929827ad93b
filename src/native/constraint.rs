//! The form of an answer: a grammar or a JSON schema, asked which tokens it allows next.

use std::thread;

use llama_cpp_2::sampling::LlamaSampler;
use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};

use super::model::TextModel;
use super::native_sampler::{Candidate, NativeSampler};
use crate::error::{Error, Field, Kind, Result};

/// Bytes of stack for the check of a grammar, which recurses with its rules: the library takes 100,000 of them.
const STACK: usize = 64 << 20;

/// The form of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grammar {
    /// llama.cpp's GBNF, with a rule named `root`.
    Gbnf(String),
    /// A JSON schema, as JSON text.
    JsonSchema(String),
    /// A regular expression that the whole answer matches.
    Regex(String),
    /// llguidance's Lark, of calls of tools.
    Calls(String),
}

/// Reader of schemas and regular expressions: holds the vocabulary of a model as a tree, made once and again for
/// another model.
#[derive(Default)]
pub struct Schemas(Option<(TextModel, ParserFactory)>);

/// A grammar as far as the tokens so far have led it.
pub(super) enum Constraint {
    Gbnf(NativeSampler),
    Matched(Box<Matcher>),
}

impl Constraint {
    /// The caller keeps `model` alive beside it.
    ///
    /// # Errors
    /// [`Kind::Usage`] for a grammar or schema that cannot be understood.
    pub(super) fn new(model: &TextModel, grammar: &Grammar, schemas: &mut Schemas) -> Result<Self> {
        match grammar {
            Grammar::Gbnf(text) => gbnf(model, text).map(Self::Gbnf),
            Grammar::JsonSchema(text) => json_schema(model, text, schemas).map(Self::Matched),
            Grammar::Regex(text) => regex(model, text, schemas).map(Self::Matched),
            Grammar::Calls(text) => {
                let bad = |reason| Error::usage(format!("tools: not usable as a grammar ({reason})"));
                matcher(model, TopLevelGrammar::from_lark(text.clone()), schemas)
                    .map(Self::Matched)
                    .map_err(bad)
            }
        }
    }

    /// Whether `token` may come next.
    ///
    /// # Errors
    /// [`Kind::Native`] if the grammar cannot say.
    pub(super) fn allows(&mut self, token: i32) -> Result<bool> {
        let mut alone = vec![Candidate { id: token, logit: 1.0, p: 0.0 }];
        self.forbid(&mut alone)?;
        Ok(any_allowed(&alone))
    }

    /// Sets the logits of tokens that may not come next to -inf.
    ///
    /// # Errors
    /// As [`Constraint::allows`].
    pub(super) fn forbid(&mut self, candidates: &mut Vec<Candidate>) -> Result<()> {
        match self {
            Self::Gbnf(grammar) => grammar.apply(candidates).map(drop),
            Self::Matched(matcher) => {
                let mask = matcher.compute_mask_or_eos().map_err(|error| broken(&error))?;
                let allowed =
                    |token| usize::try_from(token).is_ok_and(|token| token < mask.len() && mask.get(token));
                for candidate in candidates.iter_mut().filter(|candidate| !allowed(candidate.id)) {
                    candidate.logit = f32::NEG_INFINITY;
                }
                Ok(())
            }
        }
    }

    /// Goes on behind `token`, which must be allowed.
    ///
    /// # Errors
    /// As [`Constraint::allows`].
    pub(super) fn accept(&mut self, token: i32) -> Result<()> {
        match self {
            Self::Gbnf(grammar) => grammar.accept(token),
            // A token behind the end of what is matched is the end of the answer.
            Self::Matched(matcher) if matcher.is_stopped() => Ok(()),
            Self::Matched(matcher) => {
                matcher.consume_token(token.cast_unsigned()).map_err(|error| broken(&error))
            }
        }
    }
}

pub(super) fn any_allowed(candidates: &[Candidate]) -> bool {
    candidates.iter().any(|candidate| candidate.logit > f32::NEG_INFINITY)
}

fn broken(error: &dyn std::fmt::Display) -> Error {
    Error::new(
        Kind::Native,
        format!("the answer cannot be held to its schema any further ({error}); simplify it"),
    )
}

fn gbnf(model: &TextModel, text: &str) -> Result<NativeSampler> {
    // The library's parser recurses with every bracket.
    crate::gbnf::check(text)?;
    let made = thread::scope(|scope| {
        thread::Builder::new()
            .stack_size(STACK)
            .spawn_scoped(scope, || NativeSampler::grammar(model, text))
            .map_err(|error| error.to_string())?
            .join()
            .unwrap_or_else(|_| Err("the parser broke off".into()))
    });
    made.map_err(|reason| {
        Error::usage(format!(
            "{}: not a usable GBNF grammar ({reason}); it needs a rule named root",
            Field::Grammar
        ))
    })
}

/// JSON allows white space without end, and a small model may go on with it until its tokens are used up. A space, or a
/// line break with its indent, is room enough between two values; a schema that says otherwise is left alone.
fn bound_white_space(schema: &mut serde_json::Value) {
    if let Some(object) = schema.as_object_mut() {
        object
            .entry("x-guidance")
            .or_insert_with(|| serde_json::json!({ "whitespace_pattern": r" |\n[ \t]{0,20}" }));
    }
}

fn json_schema(model: &TextModel, text: &str, schemas: &mut Schemas) -> Result<Box<Matcher>> {
    let bad =
        |reason: String| Error::usage(format!("{}: not a usable JSON schema ({reason})", Field::JsonSchema));
    let mut schema: serde_json::Value = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
    bound_white_space(&mut schema);
    matcher(model, TopLevelGrammar::from_json_schema(schema), schemas).map_err(bad)
}

fn regex(model: &TextModel, text: &str, schemas: &mut Schemas) -> Result<Box<Matcher>> {
    let bad = |reason: String| Error::usage(format!("not a usable regular expression ({reason})"));
    matcher(model, TopLevelGrammar::from_regex(text), schemas).map_err(bad)
}

fn matcher(
    model: &TextModel,
    grammar: TopLevelGrammar,
    schemas: &mut Schemas,
) -> std::result::Result<Box<Matcher>, String> {
    // Tokens of another model have other numbers.
    let (_, factory) = match schemas.0.take() {
        Some(made) if made.0.is_same(model) => schemas.0.insert(made),
        _ => {
            let environment = LlamaSampler::llguidance_tok_env(model.inner());
            let mut factory = ParserFactory::new_simple(&environment).map_err(|error| error.to_string())?;
            factory.quiet();
            schemas.0.insert((model.clone(), factory))
        }
    };
    let parser = factory.create_parser(grammar).map_err(|error| error.to_string())?;
    Ok(Box::new(Matcher::new(Ok(parser))))
}
