//! The engine over the native library.

use std::sync::Arc;
use std::time::Instant;

use super::pair::Facts;
use super::{CacheLayout, EncodedImage, Engine, LoadSettings, Rows};
use crate::error::{Error, Kind, Result};
use crate::media::Pixels;
use crate::native::{
    Context, ContextOptions, Encoded, Grammar, MergeStep, Prefill, Sampler, Sampling, SegmentInfo, TextModel,
    Vision,
};
use crate::prompt::{self, Chunk, Message, Template, Tokenizer};
use crate::schedule::{Grid, Plan, Schedule};

/// A loaded pair with, once opened, a context.
pub struct Real {
    // Before the model it was made of, which it also keeps alive.
    context: Option<Context>,
    sampler: Option<Sampler>,
    vision: Vision,
    vocabulary: Vocabulary,
    template: Template,
    facts: Arc<Facts>,
    settings: LoadSettings,
}

/// A text model's tokens, as prompts need them.
pub struct Vocabulary {
    model: TextModel,
    markup: Vec<String>,
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
        Self { model, markup }
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
}

impl Real {
    pub(super) fn new(
        text: TextModel,
        vision: Vision,
        template: Template,
        facts: Facts,
        settings: LoadSettings,
    ) -> Self {
        Self {
            context: None,
            sampler: None,
            vision,
            vocabulary: Vocabulary::new(text),
            template,
            facts: Arc::new(facts),
            settings,
        }
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

    fn open_context(&mut self) -> Result<&mut Context> {
        self.context.as_mut().ok_or_else(|| Error::new(Kind::Native, "no context is open"))
    }

    fn cells(&self, tiles: &[Encoded], grid: Grid) -> Vec<(i32, i32)> {
        let [tile] = tiles else { return Vec::new() };
        if self.facts.n_pos == 1 {
            return Vec::new();
        }
        let across = i32::try_from(tile.cells.0).unwrap_or(1).max(1);
        (0..)
            .zip(&tile.kept)
            .map(|(i, &kept)| {
                // `reference` gives the survivors the first positions of the grid, in order.
                let cell = if grid == Grid::Reference { i } else { kept };
                (cell / across, cell % across)
            })
            .collect()
    }
}

impl Engine for Real {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn encode(&mut self, pixels: &Pixels, schedule: &Schedule) -> Result<EncodedImage> {
        let start = Instant::now();
        let picture = self.vision.picture(&pixels.rgb, pixels.width, pixels.height)?;
        let tiles = self.vision.tiles(&picture)?;
        let preprocess_ms = start.elapsed().as_secs_f64() * 1000.0;
        let patches: Vec<u32> = tiles.iter().map(|tile| tile.grid.0 * tile.grid.1).collect();
        let plan = Plan::new(schedule, &self.facts.shape, &patches)?;
        if self.facts.n_pos > 1 && tiles.len() != 1 {
            return Err(Error::new(
                Kind::Model,
                format!("{} tiles of one picture have no (t, h, w) positions", tiles.len()),
            ));
        }
        let mut encoded = Vec::with_capacity(tiles.len());
        for (i, tile) in plan.tiles.iter().enumerate() {
            let steps: Vec<(u32, u32)> = tile.steps.iter().map(|step| (step.layer, step.r)).collect();
            let reference = schedule.grid == Grid::Reference;
            let out = self.vision.encode(&picture, i, &steps, reference, self.settings.threads_batch)?;
            if out.n_tokens != tile.tokens {
                return Err(Error::new(
                    Kind::Native,
                    format!("the encoder gave {} tokens where the plan has {}", out.n_tokens, tile.tokens),
                ));
            }
            encoded.push(out);
        }
        let cells = self.cells(&encoded, schedule.grid);
        let extent = match encoded.first() {
            Some(tile) if self.facts.n_pos > 1 => tile.cells.0.max(tile.cells.1),
            _ => plan.tokens,
        };
        Ok(EncodedImage {
            size: (pixels.width, pixels.height),
            dynamic_size: self.facts.vision.dynamic_size,
            tiles,
            plan,
            cells,
            extent: i32::try_from(extent).unwrap_or(i32::MAX),
            preprocess_ms,
            encoder_ms: encoded.iter().map(|tile| tile.encoder_ms).sum(),
            projector_ms: encoded.iter().map(|tile| tile.projector_ms).sum(),
            steps: encoded
                .iter_mut()
                .enumerate()
                .flat_map(|(i, tile)| std::mem::take(&mut tile.steps).into_iter().map(move |s| (i, s)))
                .collect(),
            embeddings: encoded.into_iter().flat_map(|tile| tile.embeddings).collect(),
        })
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
        Ok(sampler.sample(context.logits()?))
    }

    fn ends_generation(&self, token: i32) -> bool {
        self.vocabulary.model.ends_generation(token)
    }

    fn piece(&self, token: i32) -> Vec<u8> {
        self.vocabulary.model.piece(token)
    }

    fn use_threads(&mut self, threads: u32) {
        self.settings.threads_batch = threads;
    }

    fn compute_bytes(&self) -> u64 {
        self.vision.compute_bytes() + self.context.as_ref().map_or(0, Context::compute_bytes)
    }
}
