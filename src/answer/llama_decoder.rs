//! The decoder over the native library.

use std::sync::Arc;

use super::{CacheLayout, Decoder, Drawn, Generation, Logits, MergeStep, Next, Rows, SegmentInfo};
use crate::error::{Error, Kind, Result};
use crate::native::{
    Context, ContextOptions, Grammar, Penalties, Prefill, Sampler, Sampling, Schemas, TextModel,
};
use crate::pair::{LoadSettings, TextSide};
use crate::request;
use crate::schedule::Score;
use crate::see::{ComputeLock, in_decoder};

/// Is shown the logits of each row that a token is drawn from, \[n_vocab\]. A token that it returns takes the place of
/// the drawn one.
pub type LogitsWatch = Arc<dyn Fn(&[f32]) -> Option<i32> + Send + Sync>;

/// One context with a sequence for each slot, and each slot's sampler.
pub struct LlamaDecoder {
    context: Context,
    samplers: Vec<Option<Sampler>>,
    schemas: Schemas,
    model: TextModel,
    /// Lock that the encoder of pictures shares.
    lock: Option<ComputeLock>,
    pub(super) watch: Option<LogitsWatch>,
}

impl LlamaDecoder {
    /// # Errors
    /// Sizes the library cannot take, or no memory.
    pub fn new(text: &TextSide, layout: &CacheLayout, slots: u32, lock: Option<ComputeLock>) -> Result<Self> {
        let options = context_options(&text.settings, layout);
        let model = text.model();
        let options = ContextOptions { batch: options.batch.max(slots), ..options };
        Ok(Self {
            context: Context::new(model, &options, slots)?,
            samplers: (0..slots).map(|_| None).collect(),
            schemas: Schemas::default(),
            model: model.clone(),
            lock,
            watch: None,
        })
    }
}

impl Decoder for LlamaDecoder {
    fn begin(&mut self, slot: usize, rows: &Rows, score: Score) -> Result<()> {
        let call = Prefill {
            tokens: &rows.tokens,
            embeddings: &rows.embeddings,
            positions: &rows.positions,
            spans: &rows.spans,
            two_ways: &rows.two_ways,
            score: crate::see::score(score),
            strategy: in_decoder(rows.strategy),
            sizes: &rows.sizes,
            counts_sizes: rows.counts_sizes,
            held: &rows.held,
            masses: &rows.masses,
            thinning: crate::see::thinning(rows.strategy),
            thinned: &rows.thinned,
        };
        self.context.begin(slot, &call)
    }

    fn step(&mut self, slot: usize) -> Result<Option<Vec<MergeStep>>> {
        let _guard = self.lock.as_ref().map(ComputeLock::take);
        self.context.step(slot)
    }

    fn cancel(&mut self, slot: usize) {
        self.context.cancel(slot);
    }

    fn decode(&mut self, next: &[Next]) -> Result<()> {
        let _guard = self.lock.as_ref().map(ComputeLock::take);
        self.context.decode(next)
    }

    fn start_sampling(&mut self, slot: usize, how: &Generation, seen: &[i32]) -> Result<Vec<(i32, f32)>> {
        let request::Sampling { temperature, top_k, top_p, min_p, seed, .. } = how.sampling;
        let sampling = Sampling { temperature, top_k, top_p, min_p, seed: seed.unwrap_or(0) };
        let mut penalties = Penalties {
            last_n: u32::try_from(how.sampling.repeat_last_n).unwrap_or(0),
            repeat: how.sampling.repeat_penalty,
            frequency: how.sampling.frequency_penalty,
            presence: how.sampling.presence_penalty,
            bias: how.sampling.logit_bias.clone(),
        };
        let grammar = how.grammar.as_ref().map(|grammar| match grammar {
            request::Grammar::Gbnf(text) => Grammar::Gbnf(text.clone()),
            request::Grammar::JsonSchema(text) => Grammar::JsonSchema(text.clone()),
            request::Grammar::Regex(text) => Grammar::Regex(text.clone()),
            request::Grammar::Calls(text) => Grammar::Calls(text.clone()),
            request::Grammar::JsonObject => Grammar::JsonSchema(r#"{"type":"object"}"#.into()),
        });
        if how.limits.ignore_eos {
            let ends = (0..self.model.n_vocab()).filter(|&token| self.model.ends_generation(token));
            penalties.bias.extend(ends.map(|token| (token, f32::NEG_INFINITY)));
        }
        let mut sampler =
            Sampler::with_penalties(&self.model, &sampling, &penalties, grammar.as_ref(), &mut self.schemas)?;
        if let Some(thought) = &how.thought {
            sampler = sampler.behind(thought);
        }
        seen.iter().try_for_each(|&token| sampler.saw(token))?;
        self.samplers[slot] = Some(sampler);
        Ok(penalties.bias)
    }

    fn sample(&mut self, slot: usize, from: Logits, top: Option<u32>) -> Result<Option<Drawn>> {
        let logits = match from {
            Logits::Prompt => self.context.last_logits()?,
            Logits::Batch(row) => self.context.logits(row)?,
        };
        let sampler = self.samplers.get_mut(slot).and_then(Option::as_mut);
        let sampler = sampler.ok_or_else(|| Error::new(Kind::Native, "no answer was begun"))?;
        let Some(drawn) = sampler.sample(logits)? else { return Ok(None) };
        let token = self.watch.as_ref().and_then(|watch| watch(logits)).unwrap_or(drawn);
        Ok(Some(Drawn { token, logprobs: top.map(|top| super::logprobs::of(logits, token, top)) }))
    }

    fn forget_from(&mut self, slot: usize, position: i32) -> bool {
        self.context.forget_from(slot, position)
    }

    fn clear(&mut self, slot: usize) {
        // Everything from the first position on: what no cache refuses.
        self.context.forget_from(slot, 0);
    }

    fn share(&mut self, from: usize, to: usize, position: i32) -> Result<()> {
        self.context.share(from, to, position)
    }

    fn save(&mut self, slot: usize) -> Result<Vec<u8>> {
        self.context.save(slot)
    }

    fn restore(&mut self, slot: usize, cells: &[u8]) -> Result<()> {
        self.context.restore(slot, cells)
    }

    fn piece(&self, token: i32) -> Vec<u8> {
        self.model.piece(token)
    }

    fn mark(&self, token: i32) -> Option<String> {
        if self.model.is_control(token) { self.model.text(token) } else { None }
    }

    fn ends_generation(&self, token: i32) -> bool {
        self.model.ends_generation(token)
    }

    fn segments(&self) -> Vec<SegmentInfo> {
        self.context.segments()
    }

    fn compute_bytes(&self) -> u64 {
        self.context.compute_bytes()
    }
}

fn context_options(settings: &LoadSettings, layout: &CacheLayout) -> ContextOptions {
    ContextOptions {
        cells: layout.cells,
        deep_cells: layout.deep.clone(),
        merge_layers: layout.merge_layers.clone(),
        batch: settings.batch,
        ubatch: settings.ubatch.min(settings.batch),
        threads: settings.threads,
        threads_batch: settings.threads_batch,
        flash_attention: settings.flash_attention,
        type_k: settings.type_k,
        type_v: settings.type_v,
        offload: true,
        stop: Some(settings.stop.flag()),
    }
}
