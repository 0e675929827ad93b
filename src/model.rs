//! A loaded pair as a program uses it: asked about pictures, it gives a text and a report.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::answer::{self, Answer, Engine, LlamaEngine, Session, Sizing};
use crate::error::{Error, Result};
use crate::media::Pixels;
use crate::pair::{FlashAttention, KvType, LoadSettings, Weights};
use crate::prompt::{Message, Part, Role};
use crate::request::{Grammar, Limits, Sampling};
use crate::schedule::{Choice, Schedule, select};
use crate::stop::Stop;

impl LoadSettings {
    /// The pair of these two files with the command line's defaults: a thread for each core, llama.cpp's batch sizes,
    /// an f16 cache, everything that a GPU takes on it.
    #[must_use]
    pub fn new(text: impl Into<PathBuf>, projector: impl Into<PathBuf>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = u32::try_from(cores).unwrap_or(1);
        Self {
            text: text.into(),
            projector: Some(projector.into()),
            threads,
            threads_batch: threads,
            batch: 2048,
            ubatch: 512,
            gpu_layers: None,
            projector_offload: true,
            projector_repack: false,
            weights: Weights::default(),
            flash_attention: FlashAttention::Auto,
            type_k: KvType::F16,
            type_v: KvType::F16,
            image_max_tokens: None,
            chat_template: None,
            stop: Stop::new(),
        }
    }
}

/// How an answer is drawn, and when it ends.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Generation {
    pub limits: Limits,
    pub sampling: Sampling,
    pub grammar: Option<Grammar>,
}

impl Generation {
    /// The most likely token each time, up to `max_tokens` of them; `None` until the context is full.
    #[must_use]
    pub fn greedy(max_tokens: Option<u32>) -> Self {
        let limits = Limits { max_tokens, ..Limits::default() };
        let sampling = Sampling { temperature: 0.0, seed: Some(0), ..Sampling::default() };
        Self { limits, sampling, ..Self::default() }
    }

    /// What a session takes; settings that it has none of are refused.
    fn checked(&self) -> Result<answer::Limits> {
        let limits = self.limits.clone().checked()?;
        let asked = self.sampling.clone().checked()?;
        let plain = Sampling {
            temperature: asked.temperature,
            top_k: asked.top_k,
            top_p: asked.top_p,
            min_p: asked.min_p,
            seed: asked.seed,
            ..Sampling::default()
        };
        if !limits.stop.is_empty() || limits.ignore_eos || asked != plain {
            return Err(Error::usage(
                "stop texts, penalties and biases: a model that answers one question takes none; leave them out",
            ));
        }
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.subsec_nanos());
        let grammar = self.grammar.clone().map(Grammar::checked).transpose()?.map(|grammar| match grammar {
            Grammar::Gbnf(text) => answer::Grammar::Gbnf(text),
            Grammar::JsonSchema(text) => answer::Grammar::JsonSchema(text),
            Grammar::Regex(text) => answer::Grammar::Regex(text),
            Grammar::JsonObject => answer::Grammar::JsonSchema(r#"{"type":"object"}"#.into()),
        });
        let sampling = answer::Sampling {
            temperature: asked.temperature,
            top_k: asked.top_k,
            top_p: asked.top_p,
            min_p: asked.min_p,
            seed: asked.seed.unwrap_or_else(now),
        };
        Ok(answer::Limits { tokens: limits.max_tokens, sampling, grammar })
    }
}

/// A text model with its image encoder, ready to answer.
///
/// It answers one question after another; for several at once a program loads it several times, or runs
/// `illava serve`.
pub struct Model {
    session: Session<LlamaEngine>,
    remarks: Vec<String>,
}

impl Model {
    /// Loads the pair of two GGUF files. `choice` says how visual tokens are merged: its default takes the schedule
    /// that the pair recommends, else the one of its family.
    ///
    /// # Errors
    /// A file that is missing, damaged or no pair with the other one; a schedule that the pair cannot take.
    pub fn load(settings: &LoadSettings, choice: &Choice) -> Result<Self> {
        let (engine, mut remarks) = LlamaEngine::load(settings, |_| ())?;
        let schedule = schedule(&engine, choice)?;
        remarks.extend(schedule.remark.clone());
        Ok(Self { session: Session::new(engine, schedule, Sizing::Fit, settings.stop), remarks })
    }

    /// Notes about the pair and its schedule, one line each: a key that an older file lacks, a schedule that nobody
    /// has tried on such an encoder.
    #[must_use]
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Merges by another choice from the next question on.
    ///
    /// # Errors
    /// A schedule that the pair cannot take; the old one then stays.
    pub fn set_merge(&mut self, choice: &Choice) -> Result<()> {
        self.session.set_schedule(schedule(self.session.engine(), choice)?)
    }

    /// Answers a question about pictures, which stand before it.
    ///
    /// # Errors
    /// A prompt without room in the model's context, a grammar that is none, an interruption before the first token.
    pub fn ask(&mut self, pictures: &[Pixels], question: &str, how: &Generation) -> Result<Answer> {
        self.ask_with(pictures, question, how, &mut |_| ())
    }

    /// Answers as [`Model::ask`] does, and hands each piece of text to `show` as it comes.
    ///
    /// # Errors
    /// As [`Model::ask`].
    pub fn ask_with(
        &mut self,
        pictures: &[Pixels],
        question: &str,
        how: &Generation,
        show: &mut dyn FnMut(&str),
    ) -> Result<Answer> {
        let how = how.checked()?;
        self.session.clear();
        self.session.expect_images(pictures.len());
        let mut parts = Vec::with_capacity(pictures.len() + 1);
        for picture in pictures {
            parts.push(Part::Image(self.session.add_image(picture.clone(), 0.0)?));
        }
        parts.push(Part::Text(question.to_owned()));
        self.session.answer(&[Message { role: Role::User, parts }], &how, show)
    }
}

fn schedule(engine: &LlamaEngine, choice: &Choice) -> Result<Schedule> {
    let facts = engine.facts();
    select(choice, &facts.shape, facts.pair.recommended.as_ref())
}
