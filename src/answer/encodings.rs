//! The pictures of tasks on their way: found in memory, waited for, or handed out to be encoded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::task::Task;
use crate::error::{Error, Result};
use crate::see::{EncodeJob, Encoded, EncodedImage, Key, PictureCache, PictureCacheView, scoped_key};

/// Pictures handed out at a time: one that is being encoded and one behind it, so that the encoder
/// does not wait for the end of a turn. More would be encoded for requests that end before.
const AHEAD: usize = 2;

/// Picture that is being encoded, with the tasks that wait for it.
struct Ticket {
    number: u64,
    id: u64,
    scope: Option<Vec<u8>>,
    encoded: Key,
    /// Tells the encoder that no task waits any more.
    cancelled: Arc<AtomicBool>,
}

impl Ticket {
    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn is_for(&self, task: &Task) -> bool {
        task.id == self.id || (self.scope.is_some() && task.scope == self.scope)
    }
}

/// An encoded picture, to be given to all who wait for it.
pub(super) struct Delivery {
    ticket: Ticket,
    image: Result<Arc<EncodedImage>>,
    from_disk: bool,
}

pub(super) struct Encodings {
    cache: PictureCache,
    /// Pictures that are being encoded.
    tickets: Vec<Ticket>,
    next: u64,
    /// Decoder layers at which the cache is cut.
    merge_layers: Vec<u32>,
    n_layers: u32,
    /// Bytes of the encoder's compute buffers, as it last said.
    compute_bytes: u64,
}

impl Encodings {
    /// `limit`: bytes of encoded pictures that are kept in memory.
    pub(super) fn new(limit: u64, merge_layers: Vec<u32>, n_layers: u32) -> Self {
        let cache = PictureCache::new(limit);
        Self { cache, tickets: Vec::new(), next: 0, merge_layers, n_layers, compute_bytes: 0 }
    }

    pub(super) fn view(&self) -> PictureCacheView {
        self.cache.view()
    }

    pub(super) fn compute_bytes(&self) -> u64 {
        self.compute_bytes
    }

    /// Whether no more pictures are handed out for now.
    pub(super) fn is_full(&self) -> bool {
        self.tickets.len() >= AHEAD
    }

    /// Gives `task` the pictures that are there already, of those that entries from `kept` on need. The first that is
    /// not there, if any.
    ///
    /// # Errors
    /// A schedule that a picture cannot take.
    pub(super) fn find(&mut self, task: &mut Task, kept: usize) -> Result<Option<usize>> {
        while let Some(&number) = task.missing(kept).first() {
            let picture = &mut task.pictures[number];
            let image = match (picture.given.clone(), &task.scope) {
                (Some(given), _) => given,
                (None, None) => return Ok(Some(number)),
                (None, Some(scope)) => match self.cache.get(&scoped_key(scope, &picture.encoded)) {
                    None => return Ok(Some(number)),
                    Some(image) => {
                        task.cached_pictures += 1;
                        image
                    }
                },
            };
            self.adopt(task, number, &image)?;
        }
        Ok(None)
    }

    /// The picture as this task has it: its own decoder schedule, at the cache's own cuts.
    fn adopt(&self, task: &mut Task, number: usize, image: &EncodedImage) -> Result<()> {
        let plan = image.plan.decoded_by(&task.schedule, self.n_layers)?;
        let plan = plan.cut_at(&self.merge_layers, self.n_layers)?;
        let mut image = EncodedImage { plan, ..image.clone() };
        image.place_at(task.schedule.positions, task.schedule.counts_sizes);
        task.pictures[number].image = Some(image);
        Ok(())
    }

    /// The order to encode a picture, unless that is under way or enough others are.
    pub(super) fn hand_out(&mut self, task: &Task, number: usize) -> Option<EncodeJob> {
        let picture = &task.pictures[number];
        let (source, several) = picture.pixels.as_ref()?;
        let under_way = |ticket: &Ticket| {
            ticket.encoded == picture.encoded && ticket.is_for(task) && !ticket.is_cancelled()
        };
        if self.is_full() || self.tickets.iter().any(under_way) {
            return None;
        }
        let encoded = picture.encoded;
        let ticket = Ticket {
            number: self.next,
            id: task.id,
            scope: task.scope.clone(),
            encoded,
            cancelled: Arc::default(),
        };
        self.next += 1;
        let job = EncodeJob {
            ticket: ticket.number,
            source: Arc::clone(source),
            several: *several,
            schedule: task.schedule.clone(),
            key: task.scope.as_ref().map(|scope| scoped_key(scope, &encoded)),
            cancelled: Arc::clone(&ticket.cancelled),
        };
        self.tickets.push(ticket);
        Some(job)
    }

    /// Stops the encoding of pictures that none of `tasks`, each with what its slot keeps, waits for.
    pub(super) fn keep_for<'a>(&self, tasks: impl Iterator<Item = (&'a Task, usize)> + Clone) {
        for ticket in &self.tickets {
            let waits = |(task, kept): (&Task, usize)| {
                let missing = task.missing(kept);
                ticket.is_for(task)
                    && missing.iter().any(|&number| task.pictures[number].encoded == ticket.encoded)
            };
            if !tasks.clone().any(waits) {
                ticket.cancelled.store(true, Ordering::Relaxed);
            }
        }
    }

    /// The same for the first picture of a task that waits for a slot, unless it is in memory.
    pub(super) fn look_ahead(&mut self, task: &Task, kept: usize) -> Option<EncodeJob> {
        let &number = task.missing(kept).first()?;
        let key = |scope: &Vec<u8>| scoped_key(scope, &task.pictures[number].encoded);
        if task.scope.as_ref().is_some_and(|scope| self.cache.has(&key(scope))) {
            return None;
        }
        self.hand_out(task, number)
    }

    /// Takes back a picture that was handed out. Returns nothing if no task waits for it.
    pub(super) fn deliver(&mut self, encoded: Encoded) -> Option<Delivery> {
        let at = self.tickets.iter().position(|ticket| ticket.number == encoded.ticket)?;
        let ticket = self.tickets.remove(at);
        self.compute_bytes = encoded.compute_bytes;
        // A task that came to wait for it since then has it encoded again.
        if encoded.image.is_err() && ticket.is_cancelled() {
            return None;
        }
        let image = encoded.image.map(Arc::new);
        if let (Ok(image), Some(scope)) = (&image, &ticket.scope) {
            self.cache.missed(encoded.from_disk);
            self.cache.put(scoped_key(scope, &ticket.encoded), Arc::clone(image));
        }
        Some(Delivery { ticket, image, from_disk: encoded.from_disk })
    }

    /// Gives the picture to `task`, if it waits for it.
    ///
    /// # Errors
    /// The picture could not be encoded, or not for this task's schedule.
    pub(super) fn give(&self, delivery: &Delivery, task: &mut Task, kept: usize) -> Result<()> {
        let Delivery { ticket, image, from_disk } = delivery;
        if !ticket.is_for(task) {
            return Ok(());
        }
        for number in task.missing(kept) {
            if task.pictures[number].encoded != ticket.encoded {
                continue;
            }
            let image = image.as_ref().map_err(Error::clone)?;
            if task.id == ticket.id && !from_disk {
                task.tally.spent.add(image);
            } else {
                task.cached_pictures += 1;
            }
            self.adopt(task, number, image)?;
        }
        Ok(())
    }
}
