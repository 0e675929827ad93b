//! Prompts step by step, answers token by token, and how they end.

use std::time::Instant;

use super::event::{Alternative, Delta, Done, Finish, Token};
use super::request::{Request, count};
use super::scheduler::Slots;
use super::slot::{CachedEntry, Generating, Stage, end_position, held_of};
use super::{Decoder, Drawn, From, Next, Output};
use crate::answer::rows::Entry;
use crate::answer::tally::Subject;
use crate::answer::text::AnswerText;
use crate::answer::{MergeStep, SegmentInfo};
use crate::error::{Error, Kind};
use crate::report::milliseconds;
use crate::see::EncodedImage;

impl<D: Decoder> Slots<D> {
    /// One batch: the next token of every running answer.
    pub(super) fn decode(&mut self) {
        let mut next = Vec::new();
        for (sequence, slot) in self.slots.iter().enumerate() {
            if let Some(Stage::Generating(generating)) = slot.work.as_ref().map(|work| &work.stage) {
                next.push(Next { sequence, token: generating.next, position: end_position(&slot.held) });
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
            self.slots[sequence].held.push(CachedEntry::Token(token));
            if let Some(Stage::Generating(generating)) =
                self.slots[sequence].work.as_mut().map(|work| &mut work.stage)
            {
                generating.room = generating.room.saturating_sub(1);
            }
            self.draw(sequence, From::Batch(row));
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
        let Some(work) = &mut self.slots[i].work else { return };
        work.request.tally.prefill_ms += milliseconds(start);
        match stepped {
            Ok(None) => {}
            Ok(Some(steps)) => {
                keep_steps(&mut work.request, work.kept, steps);
                let held = held_of(&work.request, work.kept);
                self.slots[i].held.extend(held);
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
            .map(|(segment, &cells)| cells.saturating_sub(self.slots[i].cells(segment)));
        let position = end_position(&self.slots[i].held).unsigned_abs();
        let room = room.chain([self.most_positions().saturating_sub(position)]).min().unwrap_or(0);
        let Some(work) = &mut self.slots[i].work else { return };
        let answer = AnswerText::new(work.request.stop.clone());
        let first = Instant::now();
        work.stage = Stage::Generating(Box::new(Generating { answer, next: 0, room, first }));
        let tally = &work.request.tally;
        let before = tally.media_ms + tally.encoder_ms + tally.projector_ms;
        // The report adds what was spent on pictures, most of it since the request arrived.
        let since = work.request.decode_ms + work.request.waited_ms();
        work.request.tally.to_first_token_ms = (since - before).max(0.0);
        if work.request.max_tokens == Some(0) {
            self.finish(i, Finish::Length);
        } else {
            self.draw(i, From::Prompt);
        }
    }

    /// Draws the next token, shows what it brings, and ends the answer where it ends.
    fn draw(&mut self, i: usize, from: From) {
        let Some(work) = &mut self.slots[i].work else { return };
        let (id, logprobs) = (work.request.id, work.request.logprobs);
        let drawn = match self.decoder.sample(i, from, logprobs) {
            Ok(Some(drawn)) => drawn,
            Ok(None) => return self.finish(i, Finish::Grammar),
            Err(error) => return self.end_badly(i, &error),
        };
        let ignore_end = work.request.draw.ignore_end;
        if self.decoder.ends_generation(drawn.token) && !ignore_end {
            return self.finish(i, Finish::Stop);
        }
        let bytes = self.decoder.piece(drawn.token);
        let token = self.token(&drawn, &bytes);
        let Some(work) = &mut self.slots[i].work else { return };
        let Stage::Generating(generating) = &mut work.stage else { return };
        generating.next = drawn.token;
        let growth = generating.answer.push(&bytes, token);
        let full = generating.room == 0;
        let length = work.request.max_tokens.is_some_and(|most| generating.answer.generated >= most);
        if !growth.text.is_empty() || !growth.tokens.is_empty() {
            self.out.push(Output::Delta(Delta { id, text: growth.text, tokens: growth.tokens }));
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
        if let Some(id) = self.slots[i].work.as_ref().map(|work| work.request.id) {
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
                    if !rest.text.is_empty() || !rest.tokens.is_empty() {
                        let delta = Delta { id: work.request.id, text: rest.text, tokens: rest.tokens };
                        self.out.push(Output::Delta(delta));
                    }
                }
                generated = generating.answer.generated;
                text = generating.answer.text;
                work.request.tally.generate_ms = milliseconds(generating.first);
                cells = Some(i);
            }
        }
        let segments = cells.map(|i| self.used(i));
        self.free(i);
        self.report_done(work.request, generated, text, segments, finish);
    }

    /// Lets go of a slot. What it holds stays for whoever may use it.
    pub(super) fn free(&mut self, i: usize) {
        self.decoder.cancel(i);
        self.slots[i].work = None;
        self.slots[i].used_at = self.tick();
        if self.slots[i].scope.is_none() {
            self.wipe(i);
        }
    }

    /// The cache's segments as far as slot `i` uses them.
    fn used(&self, i: usize) -> Vec<SegmentInfo> {
        let segments = self.decoder.segments().into_iter().enumerate();
        segments
            .map(|(segment, info)| {
                let cells = self.slots[i].cells(segment);
                let bytes = info.bytes / u64::from(info.cells.max(1)) * u64::from(cells);
                SegmentInfo { cells, used: cells, bytes, ..info }
            })
            .collect()
    }

    pub(super) fn report_done(
        &mut self,
        mut request: Request,
        generated: u32,
        text: String,
        segments: Option<Vec<SegmentInfo>>,
        finish: Finish,
    ) {
        let images: Vec<EncodedImage> =
            request.pictures.iter_mut().map(|picture| picture.image.take().unwrap_or_default()).collect();
        let decoder_steps: Vec<Vec<MergeStep>> =
            request.pictures.iter_mut().map(|picture| std::mem::take(&mut picture.steps)).collect();
        let unmerged: u32 = request
            .entries
            .iter()
            .map(|entry| match entry {
                Entry::Token(_) => 1,
                Entry::Image(number) => images[*number].plan.tokens_unmerged,
            })
            .sum();
        let prompt_tokens: u32 = request
            .entries
            .iter()
            .map(|entry| match entry {
                Entry::Token(_) => 1,
                Entry::Image(number) => images[*number].plan.tokens,
            })
            .sum();
        let mut tally = request.tally;
        tally.generated = generated;
        tally.compute_bytes = self.decoder.compute_bytes() + self.encoder_bytes;
        let segments = segments.unwrap_or_default();
        let answer = segments.first().map_or(0, |first| first.cells.saturating_sub(prompt_tokens));
        tally.cells_unmerged = unmerged + answer;
        let subject = Subject {
            facts: &self.facts,
            schedule: &request.schedule,
            prompt: &request.entries,
            images: &images,
            decoder_steps: &decoder_steps,
            segments: &segments,
        };
        let mut report = subject.report(&tally, request.draw.sampling.seed, text);
        // Cuts that this request does not merge at are nobody's concern.
        report.tokens.visual_kv.dedup_by(|next, kept| {
            let same = next.tokens == kept.tokens;
            if same {
                kept.layers[1] = next.layers[1];
            }
            same
        });
        let trace = request.trace.then(|| subject.trace());
        self.out.push(Output::Done(Box::new(Done {
            id: request.id,
            finish,
            prompt_tokens,
            cached_tokens: request.cached_tokens,
            computed_tokens: count(tally.prefill_rows),
            generated_tokens: generated,
            cached_pictures: request.cached_pictures,
            queued_ms: request.queued_ms,
            report,
            trace,
        })));
    }
}

/// The steps of a prefill that began at entry `kept`, to the pictures they belong to.
fn keep_steps(request: &mut Request, kept: usize, steps: Vec<MergeStep>) {
    let shown: Vec<usize> = request.entries[kept..].iter().filter_map(super::request::image_number).collect();
    for &number in &shown {
        request.pictures[number].steps.clear();
    }
    for step in steps {
        if let Some(&number) = shown.get(step.span) {
            request.pictures[number].steps.push(step);
        }
    }
}
