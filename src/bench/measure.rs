//! The rounds.

use std::time::Instant;

use super::{Measured, Outcome, Sample};
use crate::answer::{CacheLayout, Demand, Engine, Entry, Rows, Sampling, Sizing, end_position};
use crate::error::{Error, Kind, Result};
use crate::prompt::{Chunk, Message, Part, Role};
use crate::report::{self, VisualKv, milliseconds};
use crate::schedule::{Schedule, Score, Subject};
use crate::see::{EncodedImage, VisualInput};

/// What every schedule has to do.
#[derive(Debug)]
pub struct Work<'a> {
    /// What the spans show, in their order before the question.
    pub shown: &'a [VisualInput],
    /// Words of the question; with the chat template around it, the prompt's text is a little longer.
    pub words: u32,
    /// Tokens generated, whatever the model would have ended with.
    pub answer: u32,
    pub rounds: u32,
    /// Rounds before those that count.
    pub warm_up: u32,
}

/// Takes the work through each subject, round after round; odd rounds go through them backwards, because whoever
/// comes second finds a warmer machine. `told` hears of each answer begun.
///
/// # Errors
/// A schedule that what is shown cannot take, a prompt without place, the library's own.
pub fn measure<E: Engine>(
    engine: &mut E,
    subjects: &[Subject],
    work: &Work,
    mut told: impl FnMut(u32, &str) -> Result<()>,
) -> Result<Measured> {
    let parts = (0..work.shown.len()).map(Part::Image);
    let words = vec!["one"; work.words as usize].join(" ");
    let message = Message { role: Role::User, parts: parts.chain([Part::Text(words)]).collect() };
    let chunks = engine.tokenize(&[message])?;
    let mut outcomes: Vec<Option<Outcome>> = vec![None; subjects.len()];
    for round in 0..work.warm_up + work.rounds {
        let mut order: Vec<usize> = (0..subjects.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for i in order {
            told(round, &subjects[i].name)?;
            let (sample, facts) = once(engine, &subjects[i].schedule, work, &chunks)?;
            let outcome = outcomes[i].get_or_insert_with(|| facts.outcome(&subjects[i].name));
            if round >= work.warm_up {
                outcome.samples.push(sample);
            }
        }
    }
    let text_tokens = chunks.iter().map(|chunk| match chunk {
        Chunk::Tokens(tokens) => tokens.len(),
        Chunk::Image(_) => 0,
    });
    let facts = engine.facts();
    Ok(Measured {
        model: facts.pair.model.clone(),
        threads: facts.threads,
        backend: facts.vision.backend.clone(),
        text_tokens: u32::try_from(text_tokens.sum::<usize>()).unwrap_or(u32::MAX),
        answer_tokens: work.answer,
        warm_up: work.warm_up,
        peak_rss: report::peak_rss(),
        outcomes: outcomes.into_iter().flatten().collect(),
    })
}

/// What an answer takes apart from time; the same in every round.
struct Sizes {
    images: Vec<EncodedImage>,
    segments: Vec<crate::answer::SegmentInfo>,
    compute_bytes: u64,
}

impl Sizes {
    fn outcome(&self, name: &str) -> Outcome {
        let sum = |count: &dyn Fn(&EncodedImage) -> u32| self.images.iter().map(count).sum::<u32>();
        let held =
            |segment: usize| sum(&|image| image.tokens_by_segment().get(segment).copied().unwrap_or(0));
        Outcome {
            name: name.to_owned(),
            visual: sum(&|image| image.plan.tokens_unmerged),
            visual_after_encoder: sum(&|image| image.plan.tokens),
            visual_kv: self
                .segments
                .iter()
                .enumerate()
                .map(|(i, segment)| VisualKv { layers: segment.layers.into(), tokens: held(i) })
                .collect(),
            kv_bytes: self.segments.iter().map(|segment| segment.bytes).sum(),
            compute_bytes: self.compute_bytes,
            samples: Vec::new(),
        }
    }
}

fn once<E: Engine>(
    engine: &mut E,
    schedule: &Schedule,
    work: &Work,
    chunks: &[Chunk],
) -> Result<(Sample, Sizes)> {
    let mut sample = Sample::default();
    let several = work.shown.iter().filter(|shown| shown.is_image()).count() > 1;
    let images = work
        .shown
        .iter()
        .map(|shown| engine.encode_span(&shown.visual(several), schedule))
        .collect::<Result<Vec<EncodedImage>>>()?;
    for image in &images {
        sample.preprocess += image.preprocess_ms;
        sample.encoder += image.encoder_ms;
        sample.projector += image.projector_ms;
    }
    let entries: Vec<Entry> = chunks
        .iter()
        .flat_map(|chunk| match chunk {
            Chunk::Tokens(tokens) => tokens.iter().map(|&token| Entry::Token(token)).collect(),
            Chunk::Image(number) => vec![Entry::Image(*number)],
        })
        .collect();
    engine.open(&layout(engine, schedule, work, &entries, &images)?)?;
    let facts = engine.facts();
    let rows = Rows::new(&entries, &images, 0, facts.pair.n_embd as usize, facts.n_pos);

    let sampling = Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 0 };
    engine.start_sampling(&sampling, None)?;
    let start = Instant::now();
    engine.prefill(&rows, schedule.score == Score::LastToken)?;
    let mut token = draw(engine)?;
    sample.prefill = milliseconds(start);
    let compute_bytes = engine.compute_bytes();

    let start = Instant::now();
    for (position, _) in (end_position(&entries, &images)..).zip(1..work.answer) {
        engine.decode(token, position)?;
        token = draw(engine)?;
    }
    sample.generate = milliseconds(start);
    Ok((sample, Sizes { segments: engine.segments(), images, compute_bytes }))
}

fn layout<E: Engine>(
    engine: &E,
    schedule: &Schedule,
    work: &Work,
    entries: &[Entry],
    images: &[EncodedImage],
) -> Result<CacheLayout> {
    let layers = schedule.merge_layers();
    let text = entries.iter().filter(|entry| matches!(entry, Entry::Token(_))).count();
    let shown: Vec<&EncodedImage> = images.iter().collect();
    Demand::new(u32::try_from(text).unwrap_or(u32::MAX), &shown, layers.len() + 1, Some(work.answer)).layout(
        layers,
        Sizing::Fit,
        engine.facts().pair.n_ctx_train,
    )
}

fn draw<E: Engine>(engine: &mut E) -> Result<i32> {
    engine.sample()?.ok_or_else(|| Error::new(Kind::Native, "no token could be drawn"))
}
