//! Loaded pair for programs: it is asked about pictures and gives a text and a report.

use std::path::PathBuf;

use crate::answer::{Answer, Engine, Generation, LlamaEngine, Session, Sizing};
use crate::error::Result;
use crate::media::Pixels;
use crate::pair::{FlashAttention, KvType, LoadSettings, Weights};
use crate::prompt::{Message, Part, Role};
use crate::schedule::Choice;
use crate::stop::Stop;

impl LoadSettings {
    /// Settings of the pair of these two files with the command line's defaults: a thread for each core,
    /// llama.cpp's batch sizes, an f16 cache, and as much on a GPU as it takes.
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
            placement: crate::pair::Placement::default(),
            projector_offload: true,
            projector_repack: false,
            weights: Weights::default(),
            flash_attention: FlashAttention::Auto,
            type_k: KvType::F16,
            type_v: KvType::F16,
            image_min_tokens: None,
            image_max_tokens: None,
            crop_model: None,
            chat_template: None,
            stop: Stop::new(),
        }
    }
}

/// Text model with its image encoder, ready to answer.
///
/// It answers one question after another. For several at once, a program loads it several times or runs
/// `illava serve`.
pub struct Model {
    session: Session<LlamaEngine>,
    remarks: Vec<String>,
}

impl Model {
    /// Loads the pair of two GGUF files. `choice` says how visual tokens are merged: its default takes the
    /// schedule that the pair recommends, else the one of its family.
    ///
    /// # Errors
    /// A file that is missing, damaged or no pair with the other one; a schedule that the pair cannot take.
    pub fn load(settings: &LoadSettings, choice: &Choice) -> Result<Self> {
        let (engine, mut remarks) = LlamaEngine::load(settings, |_| ())?;
        let schedule = engine.facts().schedule(choice)?;
        remarks.extend(schedule.remark.clone());
        Ok(Self { session: Session::new(engine, schedule, Sizing::Fit, settings.stop), remarks })
    }

    /// Returns notes about the pair and its schedule, one line each: a key that an older file lacks, a
    /// schedule that is untested on such an encoder.
    #[must_use]
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Merges by another choice from the next question on.
    ///
    /// # Errors
    /// A schedule that the pair cannot take. The old one then stays.
    pub fn set_merge(&mut self, choice: &Choice) -> Result<()> {
        let schedule = self.session.engine().facts().schedule(choice)?;
        self.session.set_schedule(schedule)
    }

    /// Answers a question about pictures, which stand before it.
    ///
    /// # Errors
    /// A prompt without room in the model's context, an invalid grammar, an interruption before the first
    /// token.
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
        self.session.clear();
        self.session.expect_images(pictures.len());
        let mut parts = Vec::with_capacity(pictures.len() + 1);
        for picture in pictures {
            parts.push(Part::Image(self.session.add_image(picture.clone(), 0.0)?));
        }
        parts.push(Part::Text(question.to_owned()));
        self.session.answer(&[Message { role: Role::User, parts }], how, show)
    }
}
