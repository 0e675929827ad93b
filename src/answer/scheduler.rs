//! Scheduler: slots, the queue before them, and their turns.
//!
//! One turn is one batch of generated tokens, one for each running answer, and then one ubatch of the oldest prompt: a
//! running answer never waits for more than that.

mod files;
mod generate;

use std::collections::VecDeque;
use std::sync::Arc;

pub use files::SlotFile;

use super::encodings::Encodings;
use super::sizing::closed_up;
use super::slot::{self, Slot, Stage, Work};
use super::task::Task;
use super::{Decoder, Delta, Done, Entry, Failed, Finish, Job, Rows, SegmentInfo, SlotView, Started, count};
use crate::error::{Error, Field, Kind};
use crate::pair::Facts;
use crate::see::{EncodeJob, Encoded, EncodedImage, Key, PictureCacheView};

/// Numbers and bounds that the slots share.
#[derive(Debug, Clone)]
pub struct Settings {
    pub slots: usize,
    /// Cells that one slot may fill in each segment.
    pub cells: Vec<u32>,
    /// Decoder layers at which the cache is cut.
    pub merge_layers: Vec<u32>,
    /// Bytes of encoded pictures that are kept.
    pub picture_bytes: u64,
    /// Positions that a prompt and its answer may take; see [`super::Sizing::positions`].
    pub positions: u32,
    /// Hash of the files and settings that cells of the cache depend on; `None` if slots are not saved.
    pub pair: Option<Key>,
    /// For a cache that was made for one conversation, the cells it would have without merging: reports then tell the
    /// whole cache, else what a request used of it.
    pub sole: Option<u32>,
}

/// Orders and events that a scheduler hands out.
#[derive(Debug)]
pub enum Output {
    /// To be encoded, and given back with [`Scheduler::encoded`].
    Encode(Box<EncodeJob>),
    Started(Started),
    Delta(Delta),
    Done(Box<Done>),
    Failed(Failed),
}

/// Several conversations on one decoder.
pub struct Scheduler<D> {
    decoder: D,
    facts: Arc<Facts>,
    settings: Settings,
    slots: Vec<Slot>,
    /// In the order they came.
    queue: VecDeque<Task>,
    encodings: Encodings,
    clock: u64,
    out: Vec<Output>,
    batches: u64,
    batched_tokens: u64,
}

impl<D: Decoder> Scheduler<D> {
    pub fn new(decoder: D, facts: Arc<Facts>, settings: Settings) -> Self {
        Self {
            decoder,
            slots: (0..settings.slots).map(|_| Slot::default()).collect(),
            queue: VecDeque::new(),
            encodings: Encodings::new(
                settings.picture_bytes,
                settings.merge_layers.clone(),
                facts.shape.llm_layers,
            ),
            facts,
            clock: 0,
            out: Vec::new(),
            batches: 0,
            batched_tokens: 0,
            settings,
        }
    }

    /// Takes a request. [`Scheduler::take_output`] returns its events.
    pub fn submit(&mut self, job: Job) {
        let id = job.id;
        match Task::new(job, self.slot_cells()) {
            Ok(task) => match self.too_long(&task) {
                None => self.queue.push_back(task),
                Some((error, context)) => self.fail(id, &error, Some(context)),
            },
            Err(error) => self.fail(id, &error, None),
        }
    }

    /// Says that a request cannot be answered.
    pub fn fail(&mut self, id: u64, error: &Error, context: Option<(u32, u32)>) {
        let message = error.message().to_owned();
        self.out.push(Output::Failed(Failed { id, kind: error.kind(), message, context }));
    }

    /// Ends a request where it stands; one that is not (any more) there is no error.
    pub fn cancel(&mut self, id: u64) {
        if let Some(mut task) = self.unqueue(id) {
            task.queued_ms = task.waited_ms();
            self.report_done(task, 0, String::new(), None, Finish::Cancelled);
        } else if let Some(i) = self.find(id) {
            self.finish(i, Finish::Cancelled);
        }
        self.stop_encoding();
    }

    /// Stops the encoding of pictures that no request waits for any more.
    fn stop_encoding(&self) {
        let queued = self.queue.iter().map(|task| (task, 0));
        let working = self.slots.iter().filter_map(|slot| slot.work.as_ref());
        self.encodings.keep_for(queued.chain(working.map(|work| (&work.task, work.kept))));
    }

    /// Cancels all requests.
    pub fn cancel_all(&mut self) {
        let waiting: Vec<u64> = self.queue.iter().map(|task| task.id).collect();
        waiting.into_iter().for_each(|id| self.cancel(id));
        for i in 0..self.slots.len() {
            if self.slots[i].work.is_some() {
                self.finish(i, Finish::Cancelled);
            }
        }
        self.stop_encoding();
    }

    /// Takes back a picture that was handed out to be encoded, and gives it to all who wait for it.
    pub fn encoded(&mut self, encoded: Encoded) {
        let Some(delivery) = self.encodings.deliver(encoded) else { return };
        let mut failed = Vec::new();
        for task in &mut self.queue {
            if let Err(error) = self.encodings.give(&delivery, task, 0) {
                failed.push((task.id, error));
            }
        }
        for slot in self.slots.iter_mut().filter(|slot| slot.is_encoding()) {
            let Some(work) = &mut slot.work else { continue };
            if let Err(error) = self.encodings.give(&delivery, &mut work.task, work.kept) {
                failed.push((work.task.id, error));
            }
        }
        for (id, error) in failed {
            if self.unqueue(id).is_none()
                && let Some(i) = self.find(id)
            {
                self.free(i);
            }
            self.fail(id, &error, None);
        }
    }

    /// One batch of generated tokens and one ubatch of a prompt, as far as there are any. False
    /// when nothing more can be computed until something comes from outside.
    pub fn turn(&mut self) -> bool {
        self.assign();
        self.gather();
        self.decode();
        self.prefill();
        // A slot that this turn freed goes to the next task at once: the encoder is not kept waiting.
        self.assign();
        self.gather();
        self.is_computing()
    }

    fn is_computing(&self) -> bool {
        let stages = self.slots.iter().filter_map(|slot| slot.work.as_ref()).map(|work| &work.stage);
        stages.into_iter().any(|stage| matches!(stage, Stage::Prefill | Stage::Generating(_)))
    }

    /// Whether any request is not over.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.queue.is_empty() || self.slots.iter().any(|slot| slot.work.is_some())
    }

    pub fn take_output(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }

    /// Requests that wait for a slot.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Segments of the cache, all slots together.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.decoder.segments()
    }

    /// Bytes of the decoder's compute buffers as they stand.
    #[must_use]
    pub fn decoder_bytes(&self) -> u64 {
        self.decoder.compute_bytes()
    }

    #[must_use]
    pub fn picture_cache(&self) -> PictureCacheView {
        self.encodings.view()
    }

    /// Batches of generated tokens so far, and the tokens in them.
    #[must_use]
    pub fn batches(&self) -> (u64, u64) {
        (self.batches, self.batched_tokens)
    }

    #[must_use]
    pub fn view(&self) -> Vec<SlotView> {
        let n_segments = self.settings.cells.len();
        (0..)
            .zip(&self.slots)
            .map(|(i, slot)| SlotView {
                slot: i,
                request: slot.work.as_ref().map(|work| work.task.id),
                state: slot.state(),
                prompt_tokens: slot.work.as_ref().map_or(0, |work| work.task.prompt_tokens()),
                generated_tokens: slot.work.as_ref().map_or(0, Work::generated),
                max_tokens: slot.work.as_ref().and_then(|work| work.task.how.limits.max_tokens),
                kv_tokens: (0..n_segments).map(|segment| slot.sequence.cells(segment)).collect(),
                n_ctx: self.slot_cells(),
            })
            .collect()
    }

    /// Tokens that one slot takes.
    fn slot_cells(&self) -> u32 {
        self.settings.cells.first().copied().unwrap_or(0)
    }

    /// Gives the idle slots to the next tasks. A task that waits for another's prompt keeps no other task
    /// waiting.
    fn assign(&mut self) {
        while self.slots.iter().any(|slot| slot.work.is_none()) {
            let place = |task: &Task| {
                let ready = !slot::will_be_shared(&self.slots, task);
                ready.then(|| slot::place(&self.slots, task)).flatten()
            };
            let Some((next, place)) =
                self.queue.iter().enumerate().find_map(|(next, task)| Some((next, place(task)?)))
            else {
                return;
            };
            if let Some(task) = self.queue.remove(next) {
                self.seat(task, &place);
            }
        }
    }

    /// Makes the slot hold what is kept of the prompt, and no more.
    fn seat(&mut self, mut task: Task, place: &slot::Place) {
        task.queued_ms = task.waited_ms();
        let bias = match self.decoder.start_sampling(place.slot, &task.how, &task.seen()) {
            Ok(bias) => bias,
            Err(error) => return self.fail(task.id, &error, None),
        };
        let mut kept = place.kept;
        if let Some(from) = place.from {
            let shared = self.slots[from].sequence.first(kept);
            self.wipe(place.slot);
            match self.decoder.share(from, place.slot, shared.end_position()) {
                Ok(()) => self.slots[place.slot].sequence = shared,
                Err(_) => kept = 0,
            }
        }
        self.keep(place.slot, &mut kept);
        let since = self.tick();
        let slot = &mut self.slots[place.slot];
        slot.scope.clone_from(&task.scope);
        slot.used_at = since;
        task.adopt_cached(&slot.sequence);
        slot.work = Some(Work { task, since, kept, bias, stage: Stage::Encoding });
    }

    /// Forgets what slot `i` holds behind its first `kept` entries; all of it if the cache cannot do that.
    fn keep(&mut self, i: usize, kept: &mut usize) {
        let sequence = &self.slots[i].sequence;
        if *kept < sequence.entries().len() {
            let position = sequence.first(*kept).end_position();
            if !self.decoder.forget_from(i, position) {
                self.wipe(i);
                *kept = 0;
            }
            self.slots[i].sequence.truncate(*kept);
        }
    }

    /// Finds the pictures of the slots that wait for some, oldest first, then those of the next task in the
    /// queue. Begins the prefill of slots that have all.
    fn gather(&mut self) {
        let mut waiting: Vec<usize> =
            (0..self.slots.len()).filter(|&i| self.slots[i].is_encoding()).collect();
        waiting.sort_by_key(|&i| self.slots[i].work.as_ref().map(|work| work.since));
        for i in waiting {
            let Some(work) = &mut self.slots[i].work else { continue };
            let id = work.task.id;
            let mut missing = self.encodings.find(&mut work.task, work.kept);
            if matches!(missing, Ok(None))
                && self.closes_up(i)
                && let Some(work) = &mut self.slots[i].work
            {
                missing = self.encodings.find(&mut work.task, work.kept);
            }
            let Some(task) = self.slots[i].work.as_ref().map(|work| &work.task) else { continue };
            match (missing, self.too_long(task)) {
                (Err(error), _) => self.give_up(i, id, &error, None),
                (Ok(_), Some((error, context))) => self.give_up(i, id, &error, Some(context)),
                (Ok(Some(number)), None) => {
                    let order = self.encodings.hand_out(task, number);
                    self.out.extend(order.map(Box::new).map(Output::Encode));
                }
                (Ok(None), None) => self.begin(i),
            }
        }
        for task in &self.queue {
            if self.encodings.is_full() {
                return;
            }
            // Pictures that a slot's cache begins with are not encoded again.
            let kept = self.slots.iter().map(|slot| slot.common(task)).max().unwrap_or(0);
            self.out.extend(self.encodings.look_ahead(task, kept).map(Box::new).map(Output::Encode));
        }
    }

    /// Closes the positions of slot `i`'s pictures up if own ones would pass the last that the model knows.
    /// The slot's cached rows of them are then of no use.
    fn closes_up(&mut self, i: usize) -> bool {
        let most = self.settings.positions;
        let Some(work) = &mut self.slots[i].work else { return false };
        let task = &mut work.task;
        let end = task.end_position();
        let mut images = task.pictures.iter().filter_map(|picture| picture.image.as_ref());
        if !images.any(EncodedImage::has_gaps) || end.unsigned_abs() < most {
            return false;
        }
        task.close_up();
        task.tally.remarks.push(closed_up(end, most));
        let picture = task.entries.iter().position(|entry| matches!(entry, Entry::Image(_)));
        let mut kept = work.kept.min(picture.unwrap_or(work.kept));
        self.keep(i, &mut kept);
        let slot = &mut self.slots[i];
        if let Some(work) = &mut slot.work {
            work.kept = kept;
            work.task.cached_tokens = slot.sequence.tokens(kept);
        }
        true
    }

    /// Begins the prefill of what the slot's cache does not hold.
    fn begin(&mut self, i: usize) {
        let (n_embd, n_pos) = (self.facts.n_embd_in as usize, self.facts.n_pos);
        let slot = &mut self.slots[i];
        let start = slot.sequence.end_position();
        let Some(work) = &mut slot.work else { return };
        let task = &mut work.task;
        let mut images: Vec<EncodedImage> =
            task.pictures.iter_mut().map(|picture| picture.image.take().unwrap_or_default()).collect();
        let rows = Rows::new(&task.entries[work.kept..], &images, start, n_embd, n_pos);
        for (picture, mut image) in task.pictures.iter_mut().zip(images.drain(..)) {
            // The cache will hold it; neither is needed again.
            image.embeddings = Vec::new();
            picture.image = Some(image);
            picture.pixels = None;
        }
        task.tally.prefill_rows = rows.tokens.len();
        let score = task.schedule.score;
        let started = Started {
            id: task.id,
            slot: count(i),
            prompt_tokens: task.prompt_tokens(),
            cached_tokens: task.cached_tokens,
            kv_tokens: (0..self.settings.cells.len()).map(|segment| task.cells(segment)).collect(),
            logit_bias: std::mem::take(&mut work.bias),
            in_thought: task.how.thought.as_ref().is_some_and(|thought| thought.begun),
        };
        match self.decoder.begin(i, &rows, score) {
            Ok(()) => {
                work.stage = Stage::Prefill;
                self.out.push(Output::Started(started));
            }
            Err(error) => self.give_up(i, started.id, &error, None),
        }
    }

    /// Frees a slot whose request cannot be answered.
    fn give_up(&mut self, i: usize, id: u64, error: &Error, context: Option<(u32, u32)>) {
        self.free(i);
        self.fail(id, error, context);
    }

    /// Lets go of a slot. Its entries stay for the next task of the same scope.
    fn free(&mut self, i: usize) {
        self.decoder.cancel(i);
        self.slots[i].work = None;
        self.slots[i].used_at = self.tick();
        if self.slots[i].scope.is_none() {
            self.wipe(i);
        }
    }

    /// Empties an idle slot; returns the tokens that it held, and `None` for a slot that is busy or that there is not.
    pub fn erase(&mut self, i: usize) -> Option<u32> {
        let slot = self.slots.get(i).filter(|slot| slot.work.is_none())?;
        let held = slot.sequence.tokens(slot.sequence.entries().len());
        self.wipe(i);
        Some(held)
    }

    /// Empties a slot.
    fn wipe(&mut self, i: usize) {
        self.slots[i].sequence.truncate(0);
        self.slots[i].scope = None;
        self.decoder.clear(i);
    }

    fn unqueue(&mut self, id: u64) -> Option<Task> {
        let at = self.queue.iter().position(|task| task.id == id)?;
        self.queue.remove(at)
    }

    /// The next moment, by which slots and tasks are ordered.
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn find(&self, id: u64) -> Option<usize> {
        self.slots.iter().position(|slot| slot.work.as_ref().is_some_and(|work| work.task.id == id))
    }

    /// Returns the reason why a prompt does not fit, with its tokens and those of a slot. Pictures that are
    /// not encoded yet count what they are expected to bring.
    fn too_long(&self, task: &Task) -> Option<(Error, (u32, u32))> {
        let limit = self.slot_cells();
        let prompt = task.prompt_tokens();
        let refuse = |what: String| {
            let error = Error::new(
                Kind::Context,
                format!(
                    "{what}: shorten the prompt, merge more, or give a larger context ({}), which the slots share",
                    Field::ContextSize
                ),
            );
            Some((error, (task.about_tokens(), limit)))
        };
        if prompt >= limit {
            let visual = match task.about_tokens() - task.text_tokens() {
                0 => String::new(),
                visual => format!(" ({visual} of pictures)"),
            };
            return refuse(format!(
                "the prompt has {} tokens{visual}, a slot takes {limit} with the answer",
                task.about_tokens()
            ));
        }
        let segments = self.settings.cells.iter().enumerate().skip(1);
        for (i, &cells) in segments {
            let needed = task.cells(i);
            if needed >= cells {
                return refuse(format!(
                    "the prompt has {needed} tokens in the upper decoder layers, a slot takes {cells} there"
                ));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
