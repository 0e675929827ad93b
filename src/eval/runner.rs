//! Answers every question under every schedule.

use std::time::Instant;

use super::judge::{self, Client};
use super::log::{Cost, Log, Record};
use super::prompt::{self, Piece};
use super::{Item, Set, subtitles};
use crate::answer::{Engine, Finish, Generation, Session};
use crate::error::{Error, Kind, Result};
use crate::media::policy::VideoLimits;
use crate::media::video::{FrameChoice, Source};
use crate::prompt::{Message, Part, Role};
use crate::report::milliseconds;
use crate::schedule::Subject;
use crate::see::VisualInput;

/// Failures of one kind, counted from the first answer on, after which the run is given up.
const ALIKE: usize = 10;

/// Settings that stay the same for every question.
#[derive(Debug)]
pub struct Runner<'a> {
    pub set: &'a Set,
    pub subjects: &'a [Subject],
    pub how: &'a Generation,
    /// Text after each question, in place of the one by its metric.
    pub instruction: Option<&'a str>,
    /// Whether the prompt has the subtitles of a video's frames.
    pub subtitles: bool,
    /// Judge of sets that no rule marks.
    pub judge: Option<&'a Client>,
    /// Rule that chooses frames of a video.
    pub frames: FrameChoice,
}

impl Runner<'_> {
    /// Answers the questions that `log` does not have yet. Schedules take turns at each question: a noisy
    /// machine then disturbs them alike. `told` hears of every question done, with its place in all of them.
    ///
    /// # Errors
    /// Interruption, a log that cannot be written, and the first [`ALIKE`] answers all failing for one kind
    /// of reason. Any other failure of a question goes into the log.
    pub fn run<E: Engine>(
        &self,
        session: &mut Session<E>,
        log: &mut Log,
        mut told: impl FnMut(u64, &Record),
    ) -> Result<()> {
        let mut done = 0;
        let mut alike: Option<(Kind, usize)> = None;
        for (number, item) in self.set.items.iter().enumerate() {
            let mut order: Vec<&Subject> = self.subjects.iter().collect();
            if number % 2 == 1 {
                order.reverse();
            }
            for subject in order {
                done += 1;
                if let Some(known) = log.find(&subject.name, &item.id) {
                    told(done, known);
                    alike = None;
                    continue;
                }
                let answered = match log.unmarked(&subject.name, &item.id) {
                    Some(known) => Ok(Record { failure: None, ..known.clone() }),
                    None => self.answer(session, subject, item),
                };
                let (answered, unmarked) = match answered {
                    Ok(mut record) => match self.mark(item, &mut record) {
                        Ok(()) => (Ok(record), None),
                        Err(error) => (Err(error), Some(record)),
                    },
                    Err(error) => (Err(error), None),
                };
                alike = match &answered {
                    Err(error) if done == 1 => Some((error.kind(), 1)),
                    Err(error) => {
                        alike.filter(|(kind, _)| *kind == error.kind()).map(|(kind, n)| (kind, n + 1))
                    }
                    Ok(_) => None,
                };
                let record = match answered {
                    Ok(record) => record,
                    Err(error) if error.kind() == Kind::Interrupted => return Err(error),
                    Err(error) => Record {
                        schedule: subject.name.clone(),
                        item: item.id.clone(),
                        category: item.category.clone(),
                        failure: Some(error.to_string()),
                        ..unmarked.unwrap_or_default()
                    },
                };
                told(done, &record);
                let failure = record.failure.clone();
                log.add(record)?;
                if let (Some((kind, ALIKE)), Some(failure)) = (alike, failure) {
                    return Err(Error::new(
                        kind,
                        format!("the first {ALIKE} answers failed alike, the last one: {failure}"),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Marks an answer, by the set's rule or by the judge.
    fn mark(&self, item: &Item, record: &mut Record) -> Result<()> {
        let metric = self.set.metric_of(item);
        record.mark = Some(match self.judge.filter(|_| metric.is_judged()) {
            None => self.set.mark(item, &record.answer),
            Some(client) => {
                let verdict = judge::judge(client, metric, item, &record.answer, record.again.as_deref())?;
                let mark = verdict.mark();
                record.verdict = Some(verdict);
                mark
            }
        });
        Ok(())
    }

    /// Answers a question, and its other wording if it has one. The costs are those of the first answer.
    fn answer<E: Engine>(&self, session: &mut Session<E>, subject: &Subject, item: &Item) -> Result<Record> {
        let mut record = self.answer_to(session, subject, item)?;
        if let Some(question) = &item.again {
            let other = Item { question: question.clone(), ..item.clone() };
            record.again = Some(self.answer_to(session, subject, &other)?.answer);
        }
        Ok(record)
    }

    fn answer_to<E: Engine>(
        &self,
        session: &mut Session<E>,
        subject: &Subject,
        item: &Item,
    ) -> Result<Record> {
        session.clear();
        session.set_schedule(subject.schedule.clone())?;
        let mut parts = Vec::new();
        session.expect_images(item.pictures.len());
        let mut pictures = Vec::new();
        for picture in &item.pictures {
            let start = Instant::now();
            let pixels = picture.pixels(&item.id)?;
            let decode_ms = milliseconds(start);
            pictures.push(Some(session.add_image(pixels, decode_ms)?));
        }
        for video in &item.videos {
            let start = Instant::now();
            let facts = session.engine().facts();
            let chooses = subject.schedule.strategy.chooses_frames();
            let (one_span, sampling) = self.frames.form(facts.video_sampling, chooses);
            let read = Source::open(video, VideoLimits::default())?.read(&sampling)?;
            let seconds: Vec<f64> = read.frames.iter().map(|frame| frame.seconds).collect();
            let frames = read.frames.into_iter().map(|frame| frame.pixels).collect();
            let spans = VisualInput::frames(frames, one_span);
            #[allow(clippy::cast_precision_loss)]
            let share_ms = start.elapsed().as_secs_f64() * 1000.0 / spans.len() as f64;
            for input in spans {
                parts.push(Part::Image(session.add_input(input, share_ms)?));
            }
            parts.extend(self.subtitles_of(item, &seconds)?.map(Part::Text));
        }
        let instruction = self.instruction.unwrap_or(prompt::instruction(self.set.metric_of(item)));
        let text = prompt::prompt(item, instruction);
        parts.extend(prompt::pieces(&text, pictures.len()).into_iter().filter_map(|piece| match piece {
            Piece::Picture(number) => pictures[number].take().map(Part::Image),
            Piece::Text(text) => Some(Part::Text(text)),
        }));
        let answer = session.answer(&[Message { role: Role::User, parts }], self.how, &mut |_| ())?;
        if answer.finish == Finish::Cancelled {
            return Err(Error::interrupted());
        }
        let report = answer.report;
        Ok(Record {
            schedule: subject.name.clone(),
            item: item.id.clone(),
            category: item.category.clone(),
            answer: report.text,
            cost: Some(Cost { tokens: report.tokens, ms: report.ms, bytes: report.bytes }),
            logprobs: answer.tokens,
            ..Record::default()
        })
    }

    fn subtitles_of(&self, item: &Item, seconds: &[f64]) -> Result<Option<String>> {
        let Some(path) = item.subtitles.as_ref().filter(|_| self.subtitles) else { return Ok(None) };
        let lines = subtitles::shown(path, seconds)
            .map_err(|reason| Error::new(Kind::File, format!("{}: {reason}", path.display())))?;
        Ok((!lines.is_empty()).then(|| format!("Subtitles of the video:\n{}\n", lines.join("\n"))))
    }
}
