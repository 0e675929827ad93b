//! Logits to a token: llama.cpp's samplers and grammars on a plain list of candidates.

use super::constraint::{Constraint, any_allowed};
use super::model::TextModel;
use super::native_sampler::{Candidate, NativeSampler};
use super::thought::{Thought, ThoughtGuard};
use super::{Grammar, Schemas};
use crate::error::{Error, Field, Kind, Result};

/// Tokens that penalties can look back on: the library keeps a list of that length.
const MOST_PENALISED: u32 = 1 << 20;

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

/// Changes to the logits before a token is drawn.
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

/// A chain of samplers, and the grammar beside it.
pub struct Sampler {
    chain: NativeSampler,
    constraint: Option<Constraint>,
    /// The grammar waits for its end.
    thought: Option<ThoughtGuard>,
    /// Tokens of the vocabulary.
    n_vocab: usize,
    // Behind the chain and the constraint: a grammar reads the model's vocabulary until it is dropped.
    model: TextModel,
}

impl Sampler {
    /// # Errors
    /// [`Kind::Usage`] for a grammar or schema that cannot be understood.
    pub fn new(model: &TextModel, sampling: &Sampling, grammar: Option<&Grammar>) -> Result<Self> {
        Self::with_penalties(model, sampling, &Penalties::default(), grammar, &mut Schemas::default())
    }

    /// # Errors
    /// [`Kind::Usage`] for numbers out of range, and as [`Sampler::new`].
    pub fn with_penalties(
        model: &TextModel,
        sampling: &Sampling,
        penalties: &Penalties,
        grammar: Option<&Grammar>,
        schemas: &mut Schemas,
    ) -> Result<Self> {
        let mut samplers = before_drawing(model, penalties)?;
        if sampling.temperature <= 0.0 {
            samplers.push(NativeSampler::greedy()?);
        } else {
            samplers.push(NativeSampler::top_k(sampling.top_k)?);
            samplers.push(NativeSampler::top_p(sampling.top_p)?);
            samplers.push(NativeSampler::min_p(sampling.min_p)?);
            samplers.push(NativeSampler::temperature(sampling.temperature)?);
            samplers.push(NativeSampler::draw(sampling.seed)?);
        }
        Ok(Self {
            chain: NativeSampler::chain(samplers)?,
            constraint: grammar.map(|grammar| Constraint::new(model, grammar, schemas)).transpose()?,
            thought: None,
            n_vocab: usize::try_from(model.n_vocab()).unwrap_or(0),
            model: model.clone(),
        })
    }

    /// Lets a thought come first, free of the grammar and held to its limit.
    #[must_use]
    pub fn behind(mut self, thought: &Thought) -> Self {
        if self.constraint.is_some() || thought.most.is_some() {
            self.thought = Some(ThoughtGuard::new(&self.model, thought));
        }
        self
    }

    /// Lets the penalties know a token of the prompt.
    ///
    /// # Errors
    /// [`Kind::Native`] without memory.
    pub fn saw(&mut self, token: i32) -> Result<()> {
        self.chain.accept(token)
    }

    /// Draws a token from the logits of a row, one for each token of the vocabulary; `None` if the grammar allows no
    /// token at all.
    ///
    /// # Errors
    /// [`Kind::Native`] for another number of logits, or if the grammar fails.
    pub fn sample(&mut self, logits: &[f32]) -> Result<Option<i32>> {
        if logits.len() != self.n_vocab {
            return Err(Error::new(
                Kind::Native,
                format!("{} logits for a vocabulary of {} tokens", logits.len(), self.n_vocab),
            ));
        }
        let Some(mut token) = self.chain.apply(&mut candidates(logits))? else { return Ok(None) };
        if let Some(written) = self.in_thought(token) {
            self.chain.accept(written)?;
            return Ok(Some(written));
        }
        if let Some(constraint) = &mut self.constraint {
            // A grammar looks at every candidate, so the drawn token is tried alone first.
            if !constraint.allows(token)? {
                let mut list = candidates(logits);
                constraint.forbid(&mut list)?;
                if !any_allowed(&list) {
                    return Ok(None);
                }
                match self.chain.apply(&mut list)? {
                    // A bias of -inf can leave the chain nothing but tokens that the grammar forbids.
                    Some(other) if constraint.allows(other)? => token = other,
                    _ => return Ok(None),
                }
            }
            constraint.accept(token)?;
        }
        self.chain.accept(token)?;
        Ok(Some(token))
    }
}

impl Sampler {
    /// The token that comes inside a thought, the drawn one or one of the mark that closes it; `None` outside.
    fn in_thought(&mut self, drawn: i32) -> Option<i32> {
        let (held, model) = (self.constraint.is_some(), &self.model);
        self.thought.take_if(|thought| thought.is_over());
        let thought = self.thought.as_mut()?;
        let mut token = thought.forced().unwrap_or(drawn);
        if held && model.ends_generation(token) {
            token = thought.instead_of_the_end().unwrap_or(token);
        }
        let control = model.text(token).filter(|_| model.is_control(token));
        let text = control.map_or_else(|| model.piece(token), String::into_bytes);
        thought.takes(&text, held).then_some(token)
    }
}

fn candidates(logits: &[f32]) -> Vec<Candidate> {
    (0..).zip(logits).map(|(id, &logit)| Candidate { id, logit, p: 0.0 }).collect()
}

fn before_drawing(model: &TextModel, penalties: &Penalties) -> Result<Vec<NativeSampler>> {
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
        samplers.push(NativeSampler::bias(model.n_vocab(), &penalties.bias)?);
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
        let n = i32::try_from(last_n).ok().filter(|_| last_n <= MOST_PENALISED).ok_or_else(|| {
            Error::usage(format!("penalties look back on {last_n} tokens; the limit is {MOST_PENALISED}"))
        })?;
        samplers.push(NativeSampler::penalties(model.n_vocab(), n, (repeat, frequency, presence))?);
    }
    Ok(samplers)
}
