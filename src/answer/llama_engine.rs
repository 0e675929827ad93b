//! The engine over the native library.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::{CacheLayout, Engine, Rows};
use crate::error::{Error, Kind, Result};
use crate::media::{Pixels, video};
use crate::native::{
    Context, ContextOptions, Gguf, Grammar, LoadOptions, MergeStep, Prefill, Sampler, Sampling, SegmentInfo,
    TextModel, Vision, VisionInfo, VisionOptions,
};
use crate::pair::{self, Facts, LoadSettings, Loading, Pair};
use crate::prompt::{self, Chunk, Message, Template, Tokenizer};
use crate::report::milliseconds;
use crate::schedule::Schedule;
use crate::see::{ComputeLock, EncodedImage, Encoder, Processor, SpanEncoder, Visual, in_decoder};

/// A loaded pair with, once opened, a context.
pub struct LlamaEngine {
    // Before the model it was made of, which it also keeps alive.
    context: Option<Context>,
    sampler: Option<Sampler>,
    /// None for a text model alone.
    tower: Option<(Vision, Processor)>,
    vocabulary: Vocabulary,
    template: Template,
    facts: Arc<Facts>,
    settings: LoadSettings,
    turns: Option<ComputeLock>,
}

/// A text model's tokens, as prompts need them.
pub struct Vocabulary {
    model: TextModel,
    markup: Vec<String>,
    spaces_after_special: bool,
}

impl Vocabulary {
    pub(super) fn new(model: TextModel) -> Self {
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

/// Width, height and normalised samples of one tile.
pub type Input = (u32, u32, Vec<f32>);

impl LlamaEngine {
    pub(super) fn new(
        text: TextModel,
        tower: Option<(Vision, Processor)>,
        template: Template,
        facts: Facts,
        settings: LoadSettings,
    ) -> Self {
        Self {
            context: None,
            sampler: None,
            tower,
            vocabulary: Vocabulary::new(text),
            template,
            facts: Arc::new(facts),
            settings,
            turns: None,
        }
    }

    /// Has pictures encoded in pieces from now on, between which others can take the processor: whoever
    /// computes beside this does so in turns of these. `None` where a GPU computes, which shares itself out.
    pub fn share_processor(&mut self) -> Option<ComputeLock> {
        let on_cpu = self.facts.vision.backend == "CPU"
            && !crate::native::computes_elsewhere(self.settings.gpu_layers);
        self.turns = on_cpu.then(ComputeLock::default);
        self.turns.clone()
    }

    /// The text model's side, which can be used apart from the image encoder.
    pub(super) fn parts(&self) -> (&Arc<Facts>, &TextModel, &Template, &LoadSettings) {
        (&self.facts, &self.vocabulary.model, &self.template, &self.settings)
    }

    pub(super) fn context_options(settings: &LoadSettings, layout: &CacheLayout) -> ContextOptions {
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

    /// What the encoder would be given for `visual`: width, height and [height, width, 3] of each tile, the
    /// two frames of a temporal patch one after the other. `None` where the library cuts it.
    ///
    /// # Errors
    /// As [`Engine::encode_span`].
    pub fn inputs(&self, visual: &Visual<'_>) -> Result<Option<Vec<Input>>> {
        let (_, processor) = self.tower.as_ref().ok_or_else(no_projector)?;
        let Some(prepared) = processor.prepare(visual)? else { return Ok(None) };
        let pictures = prepared.cuts.iter().flat_map(|cut| std::iter::once(&cut.first).chain(&cut.second));
        Ok(Some(pictures.map(|p| (p.width, p.height, processor.normalised(p))).collect()))
    }

    fn open_context(&mut self) -> Result<&mut Context> {
        self.context.as_mut().ok_or_else(|| Error::new(Kind::Native, "no context is open"))
    }
}

impl LlamaEngine {
    /// Loads the pair. The second value is one line for stderr for each thing worth knowing.
    ///
    /// # Errors
    /// [`crate::error::Kind::File`] for damaged files, [`crate::error::Kind::Model`] for files that are no
    /// pair, [`crate::error::Kind::Prompt`] for an unusable chat template, [`crate::error::Kind::Interrupted`]
    /// if `settings.stop` is asked for meanwhile.
    pub fn load(
        settings: &LoadSettings,
        progress: impl Fn(Loading) + 'static,
    ) -> Result<(Self, Vec<String>)> {
        let start = Instant::now();
        let pair = Pair::open(&settings.text, settings.projector.as_deref())?;
        pair::check_cache_types(&pair, settings)?;
        let stop = settings.stop;
        let vision = match &settings.projector {
            Some(path) => {
                progress(Loading::Projector);
                Some(tower(&pair, path, settings)?)
            }
            None => None,
        };
        let text = TextModel::load(
            &settings.text,
            &LoadOptions { gpu_layers: settings.gpu_layers, weights: settings.weights },
            move |share| {
                progress(Loading::Text(share));
                !stop.is_asked()
            },
        )?;
        let info = vision.as_ref().map_or_else(VisionInfo::none, |vision| vision.info().clone());
        let mut remarks = Vec::new();
        let tower = match vision.zip(settings.projector.as_ref()) {
            Some((vision, path)) => {
                let (processor, lacking) =
                    Processor::read(&Gguf::open(path)?, path, &info, pair.n_embd, settings.image_max_tokens)?;
                remarks.extend(lacking);
                Some((vision, processor))
            }
            None => None,
        };
        let template = pair::template(
            &text.chat_setup(),
            settings.chat_template.as_deref(),
            &settings.text,
            &mut remarks,
        )?;
        template.check(pair::family(&info), tower.is_some())?;
        // Without pictures there is nothing to merge.
        let shape = pair.shape(&info, text.can_merge() && tower.is_some());
        let facts = Facts {
            shape,
            family: pair::family(&info),
            n_pos: text.n_pos(),
            weight_bytes: text.bytes() + info.weight_bytes,
            threads: settings.threads,
            load_ms: milliseconds(start),
            vision: info,
            pair,
        };
        Ok((Self::new(text, tower, template, facts, settings.clone()), remarks))
    }
}

/// The image encoder in the file at `path`, which has to be one for the text model.
fn tower(pair: &Pair, path: &Path, settings: &LoadSettings) -> Result<Vision> {
    let options = VisionOptions {
        use_gpu: settings.projector_offload,
        flash_attention: settings.flash_attention,
        threads: settings.threads_batch,
        max_tokens: settings.image_max_tokens,
        repack: settings.projector_repack,
    };
    let vision = Vision::load_with_progress(path, &options, |_| !settings.stop.is_asked())?;
    pair.check(vision.info())?;
    Ok(vision)
}

fn no_projector() -> Error {
    Error::usage("no image projector: pictures and videos need one; give its GGUF file with -mm (--mmproj)")
}

impl Encoder for LlamaEngine {
    fn encode(&mut self, pixels: &Pixels, schedule: &Schedule) -> Result<EncodedImage> {
        self.encode_span(&Visual::Image(pixels), schedule)
    }

    fn encode_span(&mut self, visual: &Visual<'_>, schedule: &Schedule) -> Result<EncodedImage> {
        let (vision, processor) = self.tower.as_mut().ok_or_else(no_projector)?;
        let mut encoder = SpanEncoder {
            vision,
            processor,
            facts: &self.facts,
            settings: &self.settings,
            turns: self.turns.as_ref(),
        };
        encoder.encode(visual, schedule)
    }

    fn counts_pictures(&self) -> bool {
        self.tower.as_ref().is_some_and(|(_, processor)| processor.counts_pictures())
    }

    fn video_sampling(&self) -> Option<video::Sampling> {
        self.tower.as_ref().and_then(|(_, processor)| processor.video_sampling())
    }

    fn encoder_bytes(&self) -> u64 {
        self.tower.as_ref().map_or(0, |(vision, _)| vision.compute_bytes())
    }
}

impl Engine for LlamaEngine {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn tokenize(&self, messages: &[Message]) -> Result<Vec<Chunk>> {
        let pieces = self.template.render(messages, self.facts.family)?;
        prompt::tokenize(&pieces, &self.vocabulary)
    }

    fn open(&mut self, layout: &CacheLayout) -> Result<()> {
        self.context = None;
        let options = Self::context_options(&self.settings, layout);
        self.context = Some(Context::new(&self.vocabulary.model, &options)?);
        Ok(())
    }

    fn segments(&self) -> Vec<SegmentInfo> {
        self.context.as_ref().map(Context::segments).unwrap_or_default()
    }

    fn prefill(&mut self, rows: &Rows, last_token_score: bool) -> Result<Vec<MergeStep>> {
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
        self.open_context()?.prefill(&call)
    }

    fn decode(&mut self, token: i32, position: i32) -> Result<()> {
        self.open_context()?.decode(token, position)
    }

    fn forget_from(&mut self, position: i32) -> bool {
        self.context.as_mut().is_some_and(|context| context.forget_from(position))
    }

    fn start_sampling(&mut self, sampling: &Sampling, grammar: Option<&Grammar>) -> Result<()> {
        self.sampler = Some(Sampler::new(&self.vocabulary.model, sampling, grammar)?);
        Ok(())
    }

    fn sample(&mut self) -> Result<Option<i32>> {
        let (Some(context), Some(sampler)) = (&mut self.context, &mut self.sampler) else {
            return Err(Error::new(Kind::Native, "no answer was begun"));
        };
        sampler.sample(context.logits()?)
    }

    fn ends_generation(&self, token: i32) -> bool {
        self.vocabulary.model.ends_generation(token)
    }

    fn piece(&self, token: i32) -> Vec<u8> {
        self.vocabulary.model.piece(token)
    }

    fn compute_bytes(&self) -> u64 {
        self.tower.as_ref().map_or(0, |(vision, _)| vision.compute_bytes())
            + self.context.as_ref().map_or(0, Context::compute_bytes)
    }
}
