//! Rounds of a measurement.

use super::{Measured, Outcome, Sample};
use crate::answer::{Engine, Generation, Session};
use crate::error::{Error, Field, Kind, Result};
use crate::prompt::{Message, Part, Role};
use crate::report::{self, Report};
use crate::schedule::Subject;
use crate::see::VisualInput;

/// Work that every schedule does.
#[derive(Debug)]
pub struct Work<'a> {
    /// Contents of the spans, in their order before the question.
    pub shown: &'a [VisualInput],
    /// The same for a strategy that chooses frames: more of a video, as one span.
    pub film: &'a [VisualInput],
    /// Words of the question. The chat template makes the prompt's text a little longer.
    pub words: u32,
    /// Tokens generated, even if the model would end earlier.
    pub answer: u32,
    pub rounds: u32,
    /// Rounds before those that count.
    pub warm_up: u32,
}

/// Takes the work through each subject, round after round. Odd rounds go through them backwards, because the
/// second subject finds a warmer machine. `told` hears of each answer begun.
///
/// # Errors
/// A schedule that the pictures cannot take, a prompt without place, the library's own errors.
pub fn measure<E: Engine>(
    session: &mut Session<E>,
    subjects: &[Subject],
    work: &Work,
    mut told: impl FnMut(u32, &str) -> Result<()>,
) -> Result<Measured> {
    let mut measured = Measured { answer_tokens: work.answer, warm_up: work.warm_up, ..Measured::default() };
    let mut outcomes: Vec<Option<Outcome>> = vec![None; subjects.len()];
    for round in 0..work.warm_up + work.rounds {
        let mut order: Vec<usize> = (0..subjects.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for i in order {
            told(round, &subjects[i].name)?;
            let report = work.once(session, &subjects[i])?;
            measured.text_tokens = report.tokens.text;
            let sample = Sample::of(&report);
            let outcome = outcomes[i].get_or_insert_with(|| Outcome::of(&subjects[i].name, &report));
            if round >= work.warm_up {
                outcome.samples.push(sample);
            }
            (measured.model, measured.threads, measured.backend) =
                (report.model, report.threads, report.backend);
        }
    }
    measured.peak_rss = report::peak_rss();
    measured.outcomes = outcomes.into_iter().flatten().collect();
    Ok(measured)
}

impl Work<'_> {
    /// Computes one answer in a cache of its own.
    fn once<E: Engine>(&self, session: &mut Session<E>, subject: &Subject) -> Result<Report> {
        session.clear();
        session.set_schedule(subject.schedule.clone())?;
        let shown = if subject.schedule.strategy.chooses_frames() { self.film } else { self.shown };
        session.expect_images(shown.iter().filter(|shown| shown.is_image()).count());
        let mut parts = Vec::new();
        for shown in shown {
            parts.push(Part::Image(session.add_input(shown.clone(), 0.0)?));
        }
        parts.push(Part::Text(vec!["one"; self.words as usize].join(" ")));
        let mut how = Generation::greedy(Some(self.answer));
        how.limits.ignore_eos = true;
        let report = session.answer(&[Message { role: Role::User, parts }], &how, &mut |_| ())?.report;
        if report.tokens.generated < self.answer {
            return Err(Error::new(
                Kind::Context,
                format!(
                    "only {} of {} tokens of the answer fit the model's context: ask for fewer ({})",
                    report.tokens.generated,
                    self.answer,
                    Field::MaxTokens
                ),
            ));
        }
        Ok(report)
    }
}

impl Sample {
    fn of(report: &Report) -> Self {
        let ms = &report.ms;
        Self {
            preprocess: ms.decode_media,
            encoder: ms.encoder,
            projector: ms.projector,
            prefill: ms.prefill,
            generate: ms.generate,
        }
    }
}

impl Outcome {
    /// Facts of an answer apart from time, the same in every round.
    fn of(name: &str, report: &Report) -> Self {
        Self {
            name: name.to_owned(),
            visual: report.tokens.visual,
            visual_after_encoder: report.tokens.visual_after_encoder,
            visual_kv: report.tokens.visual_kv.clone(),
            kv_bytes: report.bytes.kv,
            compute_bytes: report.bytes.compute,
            samples: Vec::new(),
        }
    }
}
