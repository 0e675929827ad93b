//! The slots' decoder over the native library, and a loaded pair taken apart for it.

use std::sync::Arc;

use super::{Decoder, Draw, Drawn, From, servable_layers};
use crate::answer::llama_engine::Vocabulary;
use crate::answer::{CacheLayout, LlamaEngine, MergeStep, Rows, SegmentInfo};
use crate::error::{Error, Kind, Result};
use crate::media::video;
use crate::native::{Next, Prefill, Sampler, Schemas, Sequences, TextModel};
use crate::pair::{Facts, LoadSettings};
use crate::prompt::{self, Chunk, Message, Template, Tokenizer};
use crate::schedule::{Plan, Schedule};
use crate::see::{ComputeLock, Encoder, in_decoder};

/// Cells of the cache, from `-c` and `-np`.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub slots: u32,
    /// Cells of the first segment, all slots together; without it 4096 for each slot, or what the
    /// model was trained for.
    pub cells: Option<u32>,
    /// Pictures of the default schedule that each slot is taken to hold: what merging takes away
    /// from them, the deeper segments need not have.
    pub pictures: u32,
}

/// Cells of a slot where nothing says how many.
const SLOT_CELLS: u32 = 4096;

/// A pair taken apart: the image encoder on one side, the text model on the other.
pub struct Loaded {
    pub facts: Arc<Facts>,
    pub model: TextModel,
    pub template: Template,
    pub vocabulary: Vocabulary,
    pub settings: LoadSettings,
    /// As [`Encoder::counts_pictures`] and [`Encoder::video_sampling`].
    pub counts_pictures: bool,
    pub video_sampling: Option<video::Sampling>,
}

impl Loaded {
    #[must_use]
    pub fn new(engine: &LlamaEngine) -> Self {
        let (facts, model, template, settings) = engine.parts();
        Self {
            facts: Arc::clone(facts),
            vocabulary: Vocabulary::new(model.clone()),
            model: model.clone(),
            template: template.clone(),
            settings: settings.clone(),
            counts_pictures: engine.counts_pictures(),
            video_sampling: engine.video_sampling(),
        }
    }

    /// # Errors
    /// [`Kind::Prompt`].
    pub fn tokenize(&self, messages: &[Message]) -> Result<Vec<Chunk>> {
        let pieces = self.template.render(messages, self.facts.family)?;
        prompt::tokenize(&pieces, &self.vocabulary)
    }

    /// Plain text to tokens.
    #[must_use]
    pub fn tokenize_text(&self, text: &str, add_special: bool, parse_special: bool) -> Vec<(i32, Vec<u8>)> {
        let bos = self.model.bos().filter(|_| add_special);
        let tokens = bos.into_iter().chain(self.vocabulary.tokenize(text, parse_special));
        tokens.map(|token| (token, self.model.piece(token))).collect()
    }

    /// The cache for `sizes`, cut at the layers of the default schedule and of the presets. The
    /// second value is the cells that one slot may fill in each segment.
    ///
    /// # Errors
    /// [`Kind::Usage`] for a context that leaves a slot nothing.
    pub fn layout(&self, default: &Schedule, sizes: Sizes) -> Result<(CacheLayout, Vec<u32>)> {
        let pair = &self.facts.pair;
        let merge_layers = servable_layers(default, &self.facts.shape, pair.recommended.as_ref());
        let slots = sizes.slots.max(1);
        let slot = match sizes.cells {
            Some(cells) => cells / slots,
            None => SLOT_CELLS.min(pair.n_ctx_train),
        };
        if slot < 2 {
            return Err(Error::usage(format!(
                "-c {}: {slots} slots (-np) leave each {slot} cells; give at least {}",
                sizes.cells.unwrap_or(0),
                slots * 2
            )));
        }
        let plan = Plan::new(default, &self.facts.shape, &[self.facts.shape.vit_tokens])
            .and_then(|plan| plan.cut_at(&merge_layers, self.facts.shape.llm_layers))?;
        let held: Vec<u32> = plan.segments.iter().map(|segment| segment.tokens).collect();
        let cells: Vec<u32> = held
            .iter()
            .map(|tokens| {
                let gone = held.first().map_or(0, |first| first - tokens.min(first));
                slot.saturating_sub(gone.saturating_mul(sizes.pictures)).max(2)
            })
            .collect();
        let layout = CacheLayout {
            merge_layers,
            cells: slot * slots,
            deep: cells.iter().skip(1).map(|cells| cells * slots).collect(),
            cells_unmerged: slot * slots,
        };
        Ok((layout, cells))
    }
}

/// One context, a sequence for each slot, and each slot's sampler.
pub struct LlamaDecoder {
    sequences: Sequences,
    samplers: Vec<Option<Sampler>>,
    schemas: Schemas,
    model: TextModel,
    /// Tokens that end an answer.
    ends: Vec<i32>,
    /// Where pictures are encoded beside this.
    turns: Option<ComputeLock>,
}

impl LlamaDecoder {
    /// # Errors
    /// Sizes the library cannot take, or no memory.
    pub fn new(
        loaded: &Loaded,
        layout: &CacheLayout,
        slots: u32,
        turns: Option<ComputeLock>,
    ) -> Result<Self> {
        let settings = &loaded.settings;
        let options = LlamaEngine::context_options(settings, layout);
        let options = crate::native::ContextOptions { batch: options.batch.max(slots), ..options };
        let ends = (0..loaded.model.n_vocab()).filter(|&token| loaded.model.ends_generation(token)).collect();
        Ok(Self {
            sequences: Sequences::new(&loaded.model, &options, slots)?,
            samplers: (0..slots).map(|_| None).collect(),
            schemas: Schemas::default(),
            model: loaded.model.clone(),
            ends,
            turns,
        })
    }
}

impl Decoder for LlamaDecoder {
    fn begin(&mut self, slot: usize, rows: &Rows, last_token_score: bool) -> Result<()> {
        let call = Prefill {
            tokens: &rows.tokens,
            embeddings: &rows.embeddings,
            positions: &rows.positions,
            spans: &rows.spans,
            last_token: last_token_score,
            strategy: in_decoder(rows.strategy),
            sizes: &rows.sizes,
            counts_sizes: rows.counts_sizes,
        };
        self.sequences.begin(slot, &call)
    }

    fn step(&mut self, slot: usize) -> Result<Option<Vec<MergeStep>>> {
        let _turn = self.turns.as_ref().map(ComputeLock::take);
        self.sequences.step(slot)
    }

    fn cancel(&mut self, slot: usize) {
        self.sequences.cancel(slot);
    }

    fn decode(&mut self, next: &[Next]) -> Result<()> {
        let _turn = self.turns.as_ref().map(ComputeLock::take);
        self.sequences.decode(next)
    }

    fn start_sampling(&mut self, slot: usize, draw: &Draw, seen: &[i32]) -> Result<()> {
        let mut penalties = draw.penalties.clone();
        if draw.ignore_end {
            penalties.bias.extend(self.ends.iter().map(|&token| (token, f32::NEG_INFINITY)));
        }
        let mut sampler = Sampler::with_penalties(
            &self.model,
            &draw.sampling,
            &penalties,
            draw.grammar.as_ref(),
            &mut self.schemas,
        )?;
        seen.iter().try_for_each(|&token| sampler.saw(token))?;
        self.samplers[slot] = Some(sampler);
        Ok(())
    }

    fn sample(&mut self, slot: usize, from: From, top: Option<u32>) -> Result<Option<Drawn>> {
        let logits = match from {
            From::Prompt => self.sequences.prompt_logits()?,
            From::Batch(row) => self.sequences.logits(row)?,
        };
        let sampler = self.samplers.get_mut(slot).and_then(Option::as_mut);
        let sampler = sampler.ok_or_else(|| Error::new(Kind::Native, "no answer was begun"))?;
        Ok(sampler.sample(logits)?.map(|token| Drawn {
            token,
            logprobs: top.map(|top| crate::answer::logprobs::of(logits, token, top)),
        }))
    }

    fn forget_from(&mut self, slot: usize, position: i32) -> bool {
        self.sequences.forget_from(slot, position)
    }

    fn share(&mut self, from: usize, to: usize, position: i32) -> Result<()> {
        self.sequences.share(from, to, position)
    }

    fn piece(&self, token: i32) -> Vec<u8> {
        self.model.piece(token)
    }

    fn ends_generation(&self, token: i32) -> bool {
        self.model.ends_generation(token)
    }

    fn segments(&self) -> Vec<SegmentInfo> {
        self.sequences.segments()
    }

    fn compute_bytes(&self) -> u64 {
        self.sequences.compute_bytes()
    }
}
