//! Pictures on their way: found in memory, waited for, or handed out to be encoded.

use std::sync::Arc;

use super::event::Started;
use super::request::Request;
use super::scheduler::Slots;
use super::slot::{Stage, Work, end_position, tokens};
use super::{Decoder, Output};
use crate::answer::rows::{Entry, Rows};
use crate::answer::sizing::closed_up;
use crate::error::{Error, Result};
use crate::schedule::Score;
use crate::see::{EncodeJob, Encoded, EncodedImage, Key, scoped_key};

/// Pictures handed out at a time: one that is being encoded and one behind it, so that the encoder
/// does not wait for the end of a turn. More would be encoded for requests that end before.
const AHEAD: usize = 2;

/// A picture that is being encoded, and for whom.
pub(super) struct Ticket {
    number: u64,
    id: u64,
    scope: Option<Vec<u8>>,
    encoded: Key,
}

impl Ticket {
    fn is_for(&self, request: &Request) -> bool {
        request.id == self.id || (self.scope.is_some() && request.scope == self.scope)
    }
}

impl<D: Decoder> Slots<D> {
    /// Looks for the pictures of the slots that wait for some, oldest first, then of whoever is
    /// next in the queue; begins the prefill of those that have all.
    pub(super) fn gather(&mut self) {
        let mut waiting: Vec<usize> = (0..self.slots.len()).filter(|&i| self.is_encoding(i)).collect();
        waiting.sort_by_key(|&i| self.slots[i].work.as_ref().map(|work| work.since));
        for i in waiting {
            let Some(mut work) = self.slots[i].work.take() else { continue };
            let mut found = self.look_for(&mut work.request, work.kept);
            if matches!(found, Ok(true)) && self.closes_up(i, &mut work) {
                found = self.look_for(&mut work.request, work.kept);
            }
            match found {
                Ok(all) => {
                    self.slots[i].work = Some(work);
                    if all {
                        self.begin(i);
                    }
                }
                Err((error, context)) => self.fail(work.request.id, &error, context),
            }
        }
        if self.tickets.len() < AHEAD {
            self.look_ahead();
        }
    }

    fn is_encoding(&self, i: usize) -> bool {
        self.slots[i].work.as_ref().is_some_and(|work| matches!(work.stage, Stage::Encoding))
    }

    /// Whether all pictures that entries from `kept` on need are there.
    fn look_for(
        &mut self,
        request: &mut Request,
        kept: usize,
    ) -> std::result::Result<bool, (Error, Option<(u32, u32)>)> {
        while let Some(&number) = request.missing(kept).first() {
            if let Some((error, context)) = self.too_long(request) {
                return Err((error, Some(context)));
            }
            let Some(image) = self.remembered(request, number) else {
                self.hand_out(request, number);
                return Ok(false);
            };
            request.cached_pictures += 1;
            self.adopt(request, number, &image).map_err(|error| (error, None))?;
        }
        match self.too_long(request) {
            Some((error, context)) => Err((error, Some(context))),
            None => Ok(true),
        }
    }

    /// Closes the request's positions up if own ones would pass the last that the model knows: what the slot holds of
    /// its pictures is then of no use.
    fn closes_up(&mut self, i: usize, work: &mut Work) -> bool {
        let most = self.most_positions();
        let request = &mut work.request;
        let end = request.end_position();
        let mut images = request.pictures.iter().filter_map(|picture| picture.image.as_ref());
        if !images.any(EncodedImage::has_gaps) || end.unsigned_abs() < most {
            return false;
        }
        request.close_up();
        request.tally.remarks.push(closed_up(end, most));
        let pictures = request.entries.iter().position(|entry| matches!(entry, Entry::Image(_)));
        work.kept = work.kept.min(pictures.unwrap_or(work.kept));
        self.keep(i, &mut work.kept);
        work.request.cached_tokens = tokens(&self.slots[i].held);
        true
    }

    fn remembered(&mut self, request: &Request, number: usize) -> Option<Arc<EncodedImage>> {
        let scope = request.scope.as_ref()?;
        self.pictures.get(&scoped_key(scope, &request.pictures[number].encoded))
    }

    /// The picture as this request has it: its own decoder schedule, at the cache's own cuts.
    fn adopt(&self, request: &mut Request, number: usize, image: &EncodedImage) -> Result<()> {
        let layers = self.facts.shape.llm_layers;
        let plan = image.plan.decoded_by(&request.schedule, layers)?;
        let plan = plan.cut_at(&self.settings.merge_layers, layers)?;
        let mut image = EncodedImage { plan, ..image.clone() };
        image.place_at(request.schedule.positions, request.schedule.counts_sizes);
        request.pictures[number].image = Some(image);
        Ok(())
    }

    /// Has a picture encoded, unless that is under way or enough others are.
    fn hand_out(&mut self, request: &Request, number: usize) {
        let picture = &request.pictures[number];
        let Some(source) = &picture.source else { return };
        let under_way = |ticket: &Ticket| ticket.encoded == picture.encoded && ticket.is_for(request);
        if self.tickets.len() >= AHEAD || self.tickets.iter().any(under_way) {
            return;
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.tickets.push(Ticket {
            number: ticket,
            id: request.id,
            scope: request.scope.clone(),
            encoded: picture.encoded,
        });
        self.out.push(Output::Encode(EncodeJob {
            ticket,
            source: Arc::clone(source),
            several: picture.several,
            schedule: request.schedule.clone(),
            key: request.scope.as_ref().map(|scope| scoped_key(scope, &picture.encoded)),
        }));
    }

    /// Has the first picture of whoever waits for a slot encoded meanwhile.
    fn look_ahead(&mut self) {
        let mut queue = std::mem::take(&mut self.queue);
        for request in queue.iter_mut() {
            // What a slot's cache begins with is not needed again.
            let kept = self.slots.iter().map(|slot| slot.common(request)).max().unwrap_or(0);
            let Some(&number) = request.missing(kept).first() else { continue };
            let scope = request.scope.as_ref();
            let known = scope.is_some_and(|scope| {
                self.pictures.has(&scoped_key(scope, &request.pictures[number].encoded))
            });
            if !known {
                self.hand_out(request, number);
            }
            if self.tickets.len() >= AHEAD {
                break;
            }
        }
        self.queue = queue;
    }

    /// Gives an encoded picture to all who wait for it.
    pub(super) fn deliver(&mut self, encoded: Encoded) {
        let Some(at) = self.tickets.iter().position(|ticket| ticket.number == encoded.ticket) else { return };
        let ticket = self.tickets.remove(at);
        self.encoder_bytes = encoded.compute_bytes;
        let image = match encoded.image {
            Ok(image) => Ok(Arc::new(image)),
            Err(error) => Err(error),
        };
        if let (Ok(image), Some(scope)) = (&image, &ticket.scope) {
            self.pictures.missed(encoded.from_disk);
            self.pictures.put(scoped_key(scope, &ticket.encoded), Arc::clone(image));
        }
        let mut failed = Vec::new();
        let mut queue = std::mem::take(&mut self.queue);
        for request in queue.iter_mut() {
            self.give(request, 0, &ticket, &image, encoded.from_disk, &mut failed);
        }
        self.queue = queue;
        for i in 0..self.slots.len() {
            if !self.is_encoding(i) {
                continue;
            }
            let Some(mut work) = self.slots[i].work.take() else { continue };
            self.give(&mut work.request, work.kept, &ticket, &image, encoded.from_disk, &mut failed);
            self.slots[i].work = Some(work);
        }
        for (id, error) in failed {
            if self.queue.remove(|request| request.id == id).is_none()
                && let Some(i) = self.find(id)
            {
                self.free(i);
            }
            self.fail(id, &error, None);
        }
    }

    fn give(
        &self,
        request: &mut Request,
        kept: usize,
        ticket: &Ticket,
        image: &Result<Arc<EncodedImage>>,
        from_disk: bool,
        failed: &mut Vec<(u64, Error)>,
    ) {
        if !ticket.is_for(request) {
            return;
        }
        for number in request.missing(kept) {
            if request.pictures[number].encoded != ticket.encoded {
                continue;
            }
            let given = image.as_ref().map_err(Error::clone).and_then(|image| {
                if request.id == ticket.id && !from_disk {
                    request.tally.media_ms += image.preprocess_ms;
                    request.tally.encoder_ms += image.encoder_ms;
                    request.tally.projector_ms += image.projector_ms;
                } else {
                    request.cached_pictures += 1;
                }
                self.adopt(request, number, image)
            });
            if let Err(error) = given {
                failed.push((request.id, error));
                return;
            }
        }
    }

    /// Begins the prefill of what the slot's cache does not hold.
    fn begin(&mut self, i: usize) {
        let n_segments = self.settings.cells.len();
        let (n_embd, n_pos) = (self.facts.pair.n_embd as usize, self.facts.n_pos);
        let start = end_position(&self.slots[i].held);
        let Some(work) = &mut self.slots[i].work else { return };
        let request = &mut work.request;
        let mut images: Vec<EncodedImage> =
            request.pictures.iter_mut().map(|picture| picture.image.take().unwrap_or_default()).collect();
        let rows = Rows::new(&request.entries[work.kept..], &images, start, n_embd, n_pos);
        for (picture, mut image) in request.pictures.iter_mut().zip(images.drain(..)) {
            // The cache will hold it; neither is needed again.
            image.embeddings = Vec::new();
            picture.image = Some(image);
            picture.source = None;
        }
        request.tally.prefill_rows = rows.tokens.len();
        let last_token = request.schedule.score == Score::LastToken;
        let started = Started {
            id: request.id,
            slot: super::request::count(i),
            prompt_tokens: request.prompt_tokens(),
            cached_tokens: request.cached_tokens,
            kv_tokens: (0..n_segments).map(|segment| request.cells(segment)).collect(),
        };
        match self.decoder.begin(i, &rows, last_token) {
            Ok(()) => {
                work.stage = Stage::Prefill;
                self.out.push(Output::Started(started));
            }
            Err(error) => {
                let id = work.request.id;
                self.free(i);
                self.fail(id, &error, None);
            }
        }
    }
}
