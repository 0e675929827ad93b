//! The slots and what happens to them turn by turn.

use std::sync::Arc;

use super::event::{Failed, SlotView};
use super::gather::Ticket;
use super::queue::Queue;
use super::request::{Job, Request};
use super::slot::{self, Slot, Stage, Work, end_position, last_text, tokens};
use super::{Decoder, Finish, Output};
use crate::answer::{SegmentInfo, Sizing};
use crate::error::{Error, Kind};
use crate::pair::Facts;
use crate::see::{Encoded, PictureCache, PictureCacheView};

/// What the slots have to share.
#[derive(Debug, Clone)]
pub struct Settings {
    pub slots: usize,
    /// Cells that one slot may fill in each segment.
    pub cells: Vec<u32>,
    /// Decoder layers at which the cache is cut.
    pub merge_layers: Vec<u32>,
    /// Bytes of encoded pictures that are kept.
    pub picture_bytes: u64,
}

/// Several conversations on one decoder.
pub struct Slots<D> {
    pub(super) decoder: D,
    pub(super) facts: Arc<Facts>,
    pub(super) settings: Settings,
    pub(super) slots: Vec<Slot>,
    pub(super) queue: Queue<Request>,
    pub(super) pictures: PictureCache,
    /// Pictures that are being encoded.
    pub(super) tickets: Vec<Ticket>,
    pub(super) next_ticket: u64,
    pub(super) encoder_bytes: u64,
    clock: u64,
    pub(super) out: Vec<Output>,
    pub(super) batches: u64,
    pub(super) batched_tokens: u64,
}

impl<D: Decoder> Slots<D> {
    pub fn new(decoder: D, facts: Arc<Facts>, settings: Settings) -> Self {
        Self {
            decoder,
            facts,
            slots: (0..settings.slots).map(|_| Slot::default()).collect(),
            queue: Queue::default(),
            pictures: PictureCache::new(settings.picture_bytes),
            tickets: Vec::new(),
            next_ticket: 0,
            encoder_bytes: 0,
            clock: 0,
            out: Vec::new(),
            batches: 0,
            batched_tokens: 0,
            settings,
        }
    }

    /// Takes a request; what comes of it is in [`Slots::take_output`].
    pub fn submit(&mut self, job: Job) {
        let id = job.id;
        match Request::new(job) {
            Ok(request) => match self.too_long(&request) {
                None => self.queue.push(request.scope.clone(), request),
                Some((error, context)) => self.fail(id, &error, Some(context)),
            },
            Err(error) => self.fail(id, &error, None),
        }
    }

    /// Says that a request cannot be answered.
    pub fn fail(&mut self, id: u64, error: &Error, context: Option<(u32, u32)>) {
        let message = error.to_string();
        self.out.push(Output::Failed(Failed { id, kind: error.kind(), message, context }));
    }

    /// Ends a request where it stands; one that is not (any more) there is no error.
    pub fn cancel(&mut self, id: u64) {
        if let Some(mut request) = self.queue.remove(|request| request.id == id) {
            request.queued_ms = request.waited_ms();
            self.report_done(request, 0, String::new(), None, Finish::Cancelled);
        } else if let Some(i) = self.find(id) {
            self.finish(i, Finish::Cancelled);
        }
    }

    /// Cancels whatever there is.
    pub fn cancel_all(&mut self) {
        let waiting: Vec<u64> = self.queue.iter_mut().map(|request| request.id).collect();
        waiting.into_iter().for_each(|id| self.cancel(id));
        for i in 0..self.slots.len() {
            if self.slots[i].work.is_some() {
                self.finish(i, Finish::Cancelled);
            }
        }
    }

    /// A picture that was handed out to be encoded.
    pub fn encoded(&mut self, encoded: Encoded) {
        self.deliver(encoded);
    }

    /// One batch of generated tokens and one ubatch of a prompt, as far as there are any. False
    /// when nothing more can be computed until something comes from outside.
    pub fn turn(&mut self) -> bool {
        self.assign();
        self.gather();
        self.decode();
        self.prefill();
        // What this turn freed goes to the next at once, so that the encoder is not kept waiting.
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
        self.queue.len() > 0 || self.slots.iter().any(|slot| slot.work.is_some())
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

    #[must_use]
    pub fn picture_cache(&self) -> PictureCacheView {
        self.pictures.view()
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
                request: slot.work.as_ref().map(|work| work.request.id),
                state: slot.state(),
                prompt_tokens: slot.work.as_ref().map_or(0, |work| work.request.prompt_tokens()),
                generated_tokens: slot.work.as_ref().map_or(0, Work::generated),
                kv_tokens: (0..n_segments).map(|segment| slot.cells(segment)).collect(),
                n_ctx: self.slot_cells(),
            })
            .collect()
    }

    /// Tokens that one slot takes.
    pub(super) fn slot_cells(&self) -> u32 {
        self.settings.cells.first().copied().unwrap_or(0)
    }

    /// Gives the idle slots to whoever is next.
    fn assign(&mut self) {
        while self.slots.iter().any(|slot| slot.work.is_none()) {
            let slots = &self.slots;
            let Some(request) = self.queue.pop_if(|request| !slot::will_be_shared(slots, request)) else {
                return;
            };
            let Some(place) = slot::place(&self.slots, &request) else {
                // Its prompt stands in a running slot and no other is idle: cannot be, one is.
                self.queue.push(request.scope.clone(), request);
                return;
            };
            self.seat(request, &place);
        }
    }

    /// Makes the slot hold what is kept of the prompt, and no more.
    fn seat(&mut self, mut request: Request, place: &slot::Place) {
        self.clock += 1;
        request.queued_ms = request.waited_ms();
        let seen = last_text(&request, request.draw.penalties.last_n);
        if let Err(error) = self.decoder.start_sampling(place.slot, &request.draw, &seen) {
            self.fail(request.id, &error, None);
            return;
        }
        let mut kept = place.kept;
        if let Some(from) = place.from {
            let held = self.slots[from].held[..kept].to_vec();
            self.wipe(place.slot);
            match self.decoder.share(from, place.slot, end_position(&held)) {
                Ok(()) => self.slots[place.slot].held = held,
                Err(_) => kept = 0,
            }
        }
        self.keep(place.slot, &mut kept);
        let slot = &mut self.slots[place.slot];
        slot.scope.clone_from(&request.scope);
        slot.used_at = self.clock;
        request.cached_tokens = tokens(&slot.held);
        for (held, entry) in slot.held.iter().zip(&request.entries) {
            if let (slot::CachedEntry::Picture(shown), Some(number)) =
                (held, super::request::image_number(entry))
            {
                let picture = &mut request.pictures[number];
                if picture.image.is_none() {
                    request.cached_pictures += 1;
                    picture.image = Some(shown.image.clone());
                }
                picture.steps.clone_from(&shown.steps);
            }
        }
        slot.work = Some(Work { request, since: self.clock, kept, stage: Stage::Encoding });
    }

    /// Forgets what slot `i` holds behind its first `kept` entries; all of it if the cache cannot do that.
    pub(super) fn keep(&mut self, i: usize, kept: &mut usize) {
        let slot = &self.slots[i];
        let position = end_position(&slot.held[..*kept]);
        if *kept < slot.held.len() && !self.decoder.forget_from(i, position) {
            self.wipe(i);
            *kept = 0;
        }
        self.slots[i].held.truncate(*kept);
    }

    /// Positions that a prompt and its answer may take.
    pub(super) fn most_positions(&self) -> u32 {
        Sizing::Cells(self.slot_cells()).positions(self.facts.pair.n_ctx_train)
    }

    /// Empties a slot.
    pub(super) fn wipe(&mut self, i: usize) {
        self.slots[i].held.clear();
        self.slots[i].scope = None;
        // Everything from the first position on: what no cache refuses.
        self.decoder.forget_from(i, 0);
    }

    /// When a slot was last used.
    pub(super) fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    pub(super) fn find(&self, id: u64) -> Option<usize> {
        self.slots.iter().position(|slot| slot.work.as_ref().is_some_and(|work| work.request.id == id))
    }

    /// Why a prompt does not fit, with its tokens and what a slot takes. Pictures not yet encoded
    /// count one token each.
    pub(super) fn too_long(&self, request: &Request) -> Option<(Error, (u32, u32))> {
        let limit = self.slot_cells();
        let prompt = request.prompt_tokens();
        let refuse = |what: String| {
            let error = Error::new(
                Kind::Context,
                format!(
                    "{what}: shorten the prompt, merge more, or give a larger context (-c, shared by -np slots)"
                ),
            );
            Some((error, (prompt, limit)))
        };
        if prompt >= limit {
            return refuse(format!("the prompt has {prompt} tokens, a slot takes {limit} with the answer"));
        }
        let segments = self.settings.cells.iter().enumerate().skip(1);
        for (i, &cells) in segments {
            let needed = request.cells(i);
            if needed >= cells {
                return refuse(format!(
                    "the prompt has {needed} tokens in the upper decoder layers, a slot takes {cells} there"
                ));
            }
        }
        None
    }
}
