//! A loaded pair as an engine for sessions.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::{CacheLayout, Engine, LlamaDecoder, LogitsWatch};
use crate::error::Result;
use crate::pair::{self, Facts, LoadSettings, Loading, TextSide};
use crate::prompt::{Chunk, Message};
use crate::schedule::Schedule;
use crate::see::{EncodedImage, Encoder, TowerEncoder, Visual};

/// Both sides of a loaded pair.
pub struct LlamaEngine {
    pub text: TextSide,
    /// `None` for a text model alone.
    pub encoder: Option<TowerEncoder>,
    /// Watch on the decoders opened from now on.
    pub watch: Option<LogitsWatch>,
}

impl LlamaEngine {
    /// Loads the pair. The second value is one line for stderr for each thing worth knowing.
    ///
    /// # Errors
    /// As [`pair::load`].
    pub fn load(
        settings: &LoadSettings,
        progress: impl Fn(Loading) + 'static,
    ) -> Result<(Self, Vec<String>)> {
        let pair::Loaded { text, encoder, remarks } = pair::load(settings, progress)?;
        Ok((Self { text, encoder, watch: None }, remarks))
    }
}

impl Encoder for LlamaEngine {
    fn encode_until(
        &mut self,
        visual: &Visual<'_>,
        schedule: &Schedule,
        cancelled: &AtomicBool,
    ) -> Result<EncodedImage> {
        self.encoder.encode_until(visual, schedule, cancelled)
    }

    fn encoder_bytes(&self) -> u64 {
        self.encoder.encoder_bytes()
    }

    fn free_buffers(&mut self) -> Result<()> {
        self.encoder.free_buffers()
    }
}

impl Engine for LlamaEngine {
    type Decoder = LlamaDecoder;

    fn facts(&self) -> &Arc<Facts> {
        &self.text.facts
    }

    fn tokenize(&self, messages: &[Message]) -> Result<Vec<Chunk>> {
        self.text.tokenize(messages)
    }

    fn open(&self, layout: &CacheLayout) -> Result<LlamaDecoder> {
        let mut decoder = LlamaDecoder::new(&self.text, layout, 1, None)?;
        decoder.watch.clone_from(&self.watch);
        Ok(decoder)
    }
}
