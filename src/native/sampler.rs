//! Logits to a token: llama.cpp's samplers and grammars on a plain list of candidates.

use llama_cpp_2::sampling::LlamaSampler;
use llama_cpp_2::token::LlamaToken;
use llama_cpp_2::token::data::LlamaTokenData;
use llama_cpp_2::token::data_array::LlamaTokenDataArray;
use llama_cpp_2::token::logit_bias::LlamaLogitBias;
use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};

use super::model::TextModel;
use crate::error::{Error, Field, Result};

/// How the next token is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0 or below takes the most likely token.
    pub temperature: f32,
    /// 0 or below keeps all.
    pub top_k: i32,
    pub top_p: f32,
    pub min_p: f32,
    pub seed: u32,
}

/// What changes the logits before a token is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Penalties {
    /// Tokens they look back on.
    pub last_n: u32,
    /// Above 0; 1 is none.
    pub repeat: f32,
    pub frequency: f32,
    pub presence: f32,
    /// Token and what is added to its logit.
    pub bias: Vec<(i32, f32)>,
}

impl Default for Penalties {
    fn default() -> Self {
        Self { last_n: 0, repeat: 1.0, frequency: 0.0, presence: 0.0, bias: Vec::new() }
    }
}

/// What an answer must look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grammar {
    /// llama.cpp's GBNF, with a rule named `root`.
    Gbnf(String),
    /// A JSON schema, as JSON text.
    JsonSchema(String),
    /// A regular expression that the whole answer matches.
    Regex(String),
}

/// What JSON schemas are understood with: the vocabulary as a tree, made of a model once.
#[derive(Default)]
pub struct Schemas(Option<ParserFactory>);

/// A chain of samplers, and the grammar beside it.
pub struct Sampler {
    chain: LlamaSampler,
    grammar: Option<LlamaSampler>,
}

impl Sampler {
    /// # Errors
    /// [`crate::error::Kind::Usage`] for a grammar or schema that cannot be understood.
    pub fn new(model: &TextModel, sampling: &Sampling, grammar: Option<&Grammar>) -> Result<Self> {
        Self::with_penalties(model, sampling, &Penalties::default(), grammar, &mut Schemas::default())
    }

    /// # Errors
    /// [`crate::error::Kind::Usage`] for numbers out of range, and as [`Sampler::new`].
    pub fn with_penalties(
        model: &TextModel,
        sampling: &Sampling,
        penalties: &Penalties,
        grammar: Option<&Grammar>,
        schemas: &mut Schemas,
    ) -> Result<Self> {
        let mut samplers = before_drawing(model, penalties)?;
        if sampling.temperature <= 0.0 {
            samplers.push(LlamaSampler::greedy());
        } else {
            samplers.extend([
                LlamaSampler::top_k(sampling.top_k),
                LlamaSampler::top_p(sampling.top_p, 1),
                LlamaSampler::min_p(sampling.min_p, 1),
                LlamaSampler::temp(sampling.temperature),
                LlamaSampler::dist(sampling.seed),
            ]);
        }
        let chain = LlamaSampler::chain_simple(samplers);
        let grammar = match grammar {
            None => None,
            Some(Grammar::Gbnf(text)) => Some(gbnf(model, text)?),
            Some(Grammar::JsonSchema(text)) => Some(json_schema(model, text, schemas)?),
            Some(Grammar::Regex(text)) => Some(regex(model, text, schemas)?),
        };
        Ok(Self { chain, grammar })
    }

    /// Lets the penalties know a token of the prompt.
    pub fn saw(&mut self, token: i32) {
        self.chain.accept(LlamaToken(token));
    }

    /// Draws a token; `None` where the grammar allows no token at all.
    pub fn sample(&mut self, logits: &[f32]) -> Option<i32> {
        let candidates = |logits: &[f32]| {
            let data = (0..)
                .zip(logits)
                .map(|(id, &logit)| LlamaTokenData::new(LlamaToken(id), logit, 0.0))
                .collect();
            LlamaTokenDataArray::new(data, false)
        };
        let mut array = candidates(logits);
        self.chain.apply(&mut array);
        let mut token = array.selected_token()?;
        if let Some(grammar) = &mut self.grammar {
            // A grammar looks at every candidate, so the drawn token is tried alone first.
            let mut alone = LlamaTokenDataArray::new(vec![LlamaTokenData::new(token, 1.0, 0.0)], false);
            grammar.apply(&mut alone);
            if !any_allowed(&alone) {
                let mut array = candidates(logits);
                grammar.apply(&mut array);
                if !any_allowed(&array) {
                    return None;
                }
                self.chain.apply(&mut array);
                token = array.selected_token()?;
            }
            // Only what the grammar allows reaches `accept`, which aborts on anything else.
            grammar.accept(token);
        }
        self.chain.accept(token);
        Some(token.0)
    }
}

fn before_drawing(model: &TextModel, penalties: &Penalties) -> Result<Vec<LlamaSampler>> {
    let mut samplers = Vec::new();
    for &(token, bias) in &penalties.bias {
        if !(0..model.n_vocab()).contains(&token) || bias.is_nan() {
            return Err(Error::usage(format!(
                "{}: {bias} for token {token}; tokens of this model go from 0 to {}",
                Field::LogitBias,
                model.n_vocab() - 1
            )));
        }
    }
    if !penalties.bias.is_empty() {
        let bias: Vec<LlamaLogitBias> = penalties
            .bias
            .iter()
            .map(|&(token, bias)| LlamaLogitBias::new(LlamaToken(token), bias))
            .collect();
        samplers.push(LlamaSampler::logit_bias(model.n_vocab(), &bias));
    }
    let &Penalties { last_n, repeat, frequency, presence, .. } = penalties;
    if !(repeat > 0.0 && repeat.is_finite() && frequency.is_finite() && presence.is_finite()) {
        return Err(Error::usage(format!(
            "{} {repeat}, {} {frequency}, {} {presence}: the first must be above 0, none of them infinite",
            Field::RepeatPenalty,
            Field::FrequencyPenalty,
            Field::PresencePenalty
        )));
    }
    #[allow(clippy::float_cmp)]
    let any = repeat != 1.0 || frequency != 0.0 || presence != 0.0;
    if any && last_n > 0 {
        let last_n = i32::try_from(last_n).unwrap_or(i32::MAX);
        samplers.push(LlamaSampler::penalties(model.n_vocab(), last_n, repeat, frequency, presence));
    }
    Ok(samplers)
}

fn any_allowed(array: &LlamaTokenDataArray) -> bool {
    array.data.iter().any(|data| data.logit() > f32::NEG_INFINITY)
}

fn gbnf(model: &TextModel, text: &str) -> Result<LlamaSampler> {
    // The library's parser recurses with every bracket.
    crate::gbnf::check(text)?;
    LlamaSampler::grammar(model.inner(), text, "root").map_err(|error| {
        Error::usage(format!(
            "{}: not a usable GBNF grammar ({error}); it needs a rule named root",
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

fn json_schema(model: &TextModel, text: &str, schemas: &mut Schemas) -> Result<LlamaSampler> {
    let bad =
        |reason: String| Error::usage(format!("{}: not a usable JSON schema ({reason})", Field::JsonSchema));
    let mut schema: serde_json::Value = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
    bound_white_space(&mut schema);
    constrained(model, TopLevelGrammar::from_json_schema(schema), schemas).map_err(bad)
}

fn regex(model: &TextModel, text: &str, schemas: &mut Schemas) -> Result<LlamaSampler> {
    let bad = |reason: String| Error::usage(format!("not a usable regular expression ({reason})"));
    constrained(model, TopLevelGrammar::from_regex(text), schemas).map_err(bad)
}

fn constrained(
    model: &TextModel,
    grammar: TopLevelGrammar,
    schemas: &mut Schemas,
) -> std::result::Result<LlamaSampler, String> {
    let factory = match &mut schemas.0 {
        Some(factory) => factory,
        none => {
            let environment = LlamaSampler::llguidance_tok_env(model.inner());
            let mut factory = ParserFactory::new_simple(&environment).map_err(|error| error.to_string())?;
            factory.quiet();
            none.insert(factory)
        }
    };
    let parser = factory.create_parser(grammar).map_err(|error| error.to_string())?;
    Ok(LlamaSampler::from(Matcher::new(Ok(parser))))
}
