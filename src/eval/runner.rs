//! Answers every question under every schedule.

use std::time::Instant;

use super::log::{Cost, Log, Record};
use super::{Item, Metric, Set, metric};
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
    /// Text after each question.
    pub instruction: &'a str,
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
                let answered = self.answer(session, subject, item);
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
                        mark: None,
                        answer: String::new(),
                        failure: Some(error.to_string()),
                        cost: None,
                        logprobs: Vec::new(),
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

    fn answer<E: Engine>(&self, session: &mut Session<E>, subject: &Subject, item: &Item) -> Result<Record> {
        session.clear();
        session.set_schedule(subject.schedule.clone())?;
        let mut parts = Vec::new();
        session.expect_images(item.pictures.len());
        for picture in &item.pictures {
            let start = Instant::now();
            let pixels = picture.pixels(&item.id)?;
            let decode_ms = milliseconds(start);
            parts.push(Part::Image(session.add_image(pixels, decode_ms)?));
        }
        for video in &item.videos {
            let start = Instant::now();
            let facts = session.engine().facts();
            let sampling = self.frames.over(facts.video_sampling);
            let takes_videos = facts.takes_videos();
            let read = Source::open(video, VideoLimits::default())?.read(&sampling)?;
            let frames = read.frames.into_iter().map(|frame| frame.pixels).collect();
            let spans = VisualInput::frames(frames, takes_videos);
            #[allow(clippy::cast_precision_loss)]
            let share_ms = start.elapsed().as_secs_f64() * 1000.0 / spans.len() as f64;
            for input in spans {
                parts.push(Part::Image(session.add_input(input, share_ms)?));
            }
        }
        parts.push(Part::Text(metric::prompt(item, self.instruction)));
        let answer = session.answer(&[Message { role: Role::User, parts }], self.how, &mut |_| ())?;
        if answer.finish == Finish::Cancelled {
            return Err(Error::interrupted());
        }
        let metric: Metric = self.set.metric;
        let report = answer.report;
        Ok(Record {
            schedule: subject.name.clone(),
            item: item.id.clone(),
            category: item.category.clone(),
            mark: Some(metric.mark(item, &report.text)),
            answer: report.text,
            failure: None,
            cost: Some(Cost { tokens: report.tokens, ms: report.ms, bytes: report.bytes }),
            logprobs: answer.tokens,
        })
    }
}
