//! Prompts step by step, answers token by token, and how they end.

use std::time::Instant;

use super::Scheduler;
use crate::answer::event::{Alternative, Delta, Done, Finish, Token};
use crate::answer::sequence::CachedEntry;
use crate::answer::slot::{Generating, Stage};
use crate::answer::tally::Subject;
use crate::answer::task::Task;
use crate::answer::text::AnswerText;
use crate::answer::{Decoder, Drawn, Logits, MergeStep, Next, Output, SegmentInfo, count};
use crate::error::{Error, Kind};
use crate::report::milliseconds;
use crate::see::EncodedImage;

impl<D: Decoder> Scheduler<D> {
    /// One batch: the next token of every running answer.
    pub(super) fn decode(&mut self) {
        let mut next = Vec::new();
        for (sequence, slot) in self.slots.iter().enumerate() {
            if let Some(Stage::Generating(generating)) = slot.work.as_ref().map(|work| &work.stage) {
                next.push(Next { sequence, token: generating.next, position: slot.sequence.end_position() });
            }
        }
        if next.is_empty() {
            return;
        }
        self.batches += 1;
        self.batched_tokens += next.len() as u64;
        if let Err(error) = self.decoder.decode(&next) {
            for Next { sequence, position, .. } in next {
                // Some layers may hold the token, others not.
                if !self.decoder.forget_from(sequence, position) {
                    self.wipe(sequence);
                }
                self.end_badly(sequence, &error);
            }
            return;
        }
        for (row, Next { sequence, token, .. }) in next.into_iter().enumerate() {
            self.slots[sequence].sequence.push(CachedEntry::Token(token));
            if let Some(Stage::Generating(generating)) =
                self.slots[sequence].work.as_mut().map(|work| &mut work.stage)
            {
                generating.room = generating.room.saturating_sub(1);
            }
            self.draw(sequence, Logits::Batch(row));
        }
    }

    /// One ubatch of the prompt whose request has had its slot for longest.
    pub(super) fn prefill(&mut self) {
        let oldest = (0..self.slots.len())
            .filter_map(|i| {
                let work = self.slots[i].work.as_ref()?;
                matches!(work.stage, Stage::Prefill).then_some((work.since, i))
            })
            .min();
        let Some((_, i)) = oldest else { return };
        let start = Instant::now();
        let stepped = self.decoder.step(i);
        let slot = &mut self.slots[i];
        let Some(work) = &mut slot.work else { return };
        work.task.tally.prefill_ms += milliseconds(start);
        match stepped {
            Ok(None) => {}
            Ok(Some(steps)) => {
                work.task.prefilled(work.kept, steps, &mut slot.sequence);
                self.answer(i);
            }
            Err(error) => self.end_badly(i, &error),
        }
    }

    /// The prompt is there: begins the answer.
    fn answer(&mut self, i: usize) {
        let room = self
            .settings
            .cells
            .iter()
            .enumerate()
            .map(|(segment, &cells)| cells.saturating_sub(self.slots[i].sequence.cells(segment)));
        let position = self.slots[i].sequence.end_position().unsigned_abs();
        let room = room.chain([self.settings.positions.saturating_sub(position)]).min().unwrap_or(0);
        let Some(work) = &mut self.slots[i].work else { return };
        let answer = AnswerText::new(work.task.how.limits.stop.clone());
        work.stage = Stage::Generating(Box::new(Generating { answer, next: 0, room, first: None }));
        work.task.note_first_token();
        if work.task.how.limits.max_tokens == Some(0) {
            self.finish(i, Finish::Length);
        } else {
            self.draw(i, Logits::Prompt);
        }
    }

    /// Draws the next token, shows its text, and ends the answer at its end.
    fn draw(&mut self, i: usize, from: Logits) {
        let Some(work) = &mut self.slots[i].work else { return };
        let (id, logprobs) = (work.task.id, work.task.how.logprobs);
        let drawn = match self.decoder.sample(i, from, logprobs) {
            Ok(Some(drawn)) => drawn,
            Ok(None) => return self.finish(i, Finish::Grammar),
            Err(error) => return self.end_badly(i, &error),
        };
        if let Stage::Generating(generating) = &mut work.stage
            && generating.first.is_none()
        {
            generating.first = Some(Instant::now());
            work.task.note_first_token();
        }
        let ignore_end = work.task.how.limits.ignore_eos;
        if self.decoder.ends_generation(drawn.token) && !ignore_end {
            return self.finish(i, Finish::Stop);
        }
        let mark = self.decoder.mark(drawn.token).filter(|mark| work.task.how.marks.contains(mark));
        let bytes = mark.map_or_else(|| self.decoder.piece(drawn.token), String::into_bytes);
        let token = self.token(&drawn, &bytes);
        let Some(work) = &mut self.slots[i].work else { return };
        let Stage::Generating(generating) = &mut work.stage else { return };
        generating.next = drawn.token;
        generating.answer.drew(drawn.token);
        let growth = generating.answer.push(&bytes, token);
        let full = generating.room == 0;
        let length = work.task.how.limits.max_tokens.is_some_and(|most| generating.answer.generated >= most);
        if !growth.text.is_empty() || !growth.tokens.is_empty() {
            let ids = generating.answer.take_ids();
            self.out.push(Output::Delta(Delta { id, text: growth.text, tokens: growth.tokens, ids }));
        }
        if let Some(string) = growth.stopped_by {
            self.finish(i, Finish::StopString(string));
        } else if length {
            self.finish(i, Finish::Length);
        } else if full {
            self.finish(i, Finish::ContextFull);
        }
    }

    fn token(&self, drawn: &Drawn, bytes: &[u8]) -> Option<Token> {
        let (logprob, top) = drawn.logprobs.as_ref()?;
        let top = top.iter().map(|&(id, logprob)| Alternative { id, bytes: self.decoder.piece(id), logprob });
        Some(Token { id: drawn.token, bytes: bytes.to_vec(), logprob: *logprob, top: top.collect() })
    }

    fn end_badly(&mut self, i: usize, error: &Error) {
        if error.kind() == Kind::Interrupted {
            return self.finish(i, Finish::Cancelled);
        }
        if let Some(id) = self.slots[i].work.as_ref().map(|work| work.task.id) {
            self.free(i);
            self.fail(id, error, None);
        }
    }

    /// Ends the slot's request with its report.
    pub(super) fn finish(&mut self, i: usize, finish: Finish) {
        let Some(mut work) = self.slots[i].work.take() else { return };
        let mut text = String::new();
        let mut generated = 0;
        let mut cells = None;
        match work.stage {
            Stage::Encoding => {}
            Stage::Prefill => self.decoder.cancel(i),
            Stage::Generating(mut generating) => {
                if !matches!(finish, Finish::StopString(_)) {
                    let rest = generating.answer.finish();
                    let ids = generating.answer.take_ids();
                    if !rest.text.is_empty() || !rest.tokens.is_empty() || !ids.is_empty() {
                        let delta = Delta { id: work.task.id, text: rest.text, tokens: rest.tokens, ids };
                        self.out.push(Output::Delta(delta));
                    }
                }
                generated = generating.answer.generated;
                text = generating.answer.text;
                work.task.tally.generate_ms = generating.first.map_or(0.0, milliseconds);
                cells = Some(i);
            }
        }
        let segments = cells.map(|i| self.segments_of(i));
        self.free(i);
        self.report_done(work.task, generated, text, segments, finish);
    }

    /// The cache's segments: whole if it was made for one conversation, else as far as slot `i` uses them.
    fn segments_of(&self, i: usize) -> Vec<SegmentInfo> {
        let mut segments = self.decoder.segments();
        if self.settings.sole.is_none() {
            for (segment, info) in segments.iter_mut().enumerate() {
                let cells = self.slots[i].sequence.cells(segment);
                info.bytes = info.bytes / u64::from(info.cells.max(1)) * u64::from(cells);
                (info.cells, info.used) = (cells, cells);
            }
        }
        segments
    }

    pub(super) fn report_done(
        &mut self,
        mut task: Task,
        generated: u32,
        text: String,
        segments: Option<Vec<SegmentInfo>>,
        finish: Finish,
    ) {
        let images: Vec<EncodedImage> =
            task.pictures.iter_mut().map(|picture| picture.image.take().unwrap_or_default()).collect();
        let decoder_steps: Vec<Vec<MergeStep>> =
            task.pictures.iter_mut().map(|picture| std::mem::take(&mut picture.steps)).collect();
        let held = |tokens: fn(&EncodedImage) -> u32| -> u32 {
            task.entries.iter().map(|entry| entry.image().map_or(1, |number| tokens(&images[number]))).sum()
        };
        let unmerged = held(|image| image.plan.tokens_unmerged);
        let prompt_tokens = held(|image| image.plan.tokens);
        let mut tally = task.tally;
        tally.generated = generated;
        tally.compute_bytes = self.decoder.compute_bytes() + self.encodings.compute_bytes();
        let segments = segments.unwrap_or_default();
        let answer = segments.first().map_or(0, |first| first.cells.saturating_sub(prompt_tokens));
        tally.cells_unmerged = self.settings.sole.unwrap_or(unmerged + answer);
        let subject = Subject {
            facts: &self.facts,
            schedule: &task.schedule,
            prompt: &task.entries,
            images: &images,
            decoder_steps: &decoder_steps,
            segments: &segments,
        };
        let mut report = subject.report(&tally, task.how.sampling.seed.unwrap_or(0), text);
        // A shared cache has cuts that this request does not merge at.
        report.tokens.visual_kv.dedup_by(|next, kept| {
            let same = next.tokens == kept.tokens && self.settings.sole.is_none();
            if same {
                kept.layers[1] = next.layers[1];
            }
            same
        });
        let trace = task.trace.then(|| subject.trace());
        self.out.push(Output::Done(Box::new(Done {
            id: task.id,
            finish,
            prompt_tokens,
            cached_tokens: task.cached_tokens,
            computed_tokens: count(tally.prefill_rows),
            generated_tokens: generated,
            cached_pictures: task.cached_pictures,
            queued_ms: task.queued_ms,
            report,
            trace,
        })));
    }
}
