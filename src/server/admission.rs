//! Bounded queue in front of the worker's slots.
//!
//! Requests wait here and not in the worker: if the worker dies, only those it was working on are lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::{ApiError, ApiResult, Type};

/// Requests whose pictures may be decoded before a slot is free: enough to keep the slots busy, few enough to
/// bound the memory.
const PREPARED_AHEAD: usize = 4;

/// Queue of requests.
pub struct Admission {
    places: Arc<Semaphore>,
    prepared: Arc<Semaphore>,
    slots: Arc<Semaphore>,
    capacity: usize,
    processing: Arc<AtomicU64>,
}

/// Place in the queue, as long as it is held.
pub struct Place {
    _place: OwnedSemaphorePermit,
    _memory: Vec<OwnedSemaphorePermit>,
}

impl Place {
    /// Keeps the memory of fetched pictures as long as the place.
    #[must_use]
    pub fn holding(self, memory: Vec<OwnedSemaphorePermit>) -> Self {
        Self { _memory: memory, ..self }
    }
}

/// Slot of the worker, as long as it is held.
pub struct Slot {
    _slot: OwnedSemaphorePermit,
    processing: Arc<AtomicU64>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.processing.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission {
    #[must_use]
    pub fn new(parallel: u32, queue: u32) -> Self {
        let slots = parallel.max(1) as usize;
        let capacity = slots + queue as usize;
        Self {
            places: Arc::new(Semaphore::new(capacity)),
            prepared: Arc::new(Semaphore::new(slots + PREPARED_AHEAD)),
            slots: Arc::new(Semaphore::new(slots)),
            capacity,
            processing: Arc::default(),
        }
    }

    /// Takes a place for a request that has arrived whole.
    ///
    /// # Errors
    /// 429 if all places are taken.
    pub fn enter(&self) -> ApiResult<Place> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| self.full())?;
        Ok(Place { _place: place, _memory: Vec::new() })
    }

    /// Looks for a place without taking one: a body that would be refused need not be sent.
    ///
    /// # Errors
    /// As [`Admission::enter`].
    pub fn check(&self) -> ApiResult<()> {
        if self.places.available_permits() > 0 { Ok(()) } else { Err(self.full()) }
    }

    fn full(&self) -> ApiError {
        let line =
            format!("{} requests are being answered or waiting (--queue); try again later", self.capacity);
        ApiError::new(Type::RateLimit, line).retry_after(2)
    }

    /// Number of places.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Waits until the request may be prepared. `None` never comes: nothing closes the semaphore.
    pub async fn prepare(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.prepared).acquire_owned().await.ok()
    }

    /// Waits for a slot, first come, first served.
    pub async fn slot(&self) -> Option<Slot> {
        let slot = Arc::clone(&self.slots).acquire_owned().await.ok()?;
        self.processing.fetch_add(1, Ordering::Relaxed);
        Some(Slot { _slot: slot, processing: Arc::clone(&self.processing) })
    }

    #[must_use]
    pub fn processing(&self) -> u64 {
        self.processing.load(Ordering::Relaxed)
    }

    /// Number of requests with a place and without a slot.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        let inside = self.capacity - self.places.available_permits();
        (inside as u64).saturating_sub(self.processing())
    }

    #[must_use]
    pub fn has_free_slot(&self) -> bool {
        self.slots.available_permits() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_turns_away() {
        let admission = Admission::new(1, 1);
        let (first, second) = (admission.enter().unwrap(), admission.enter().unwrap());
        let slot = admission.slot().await.unwrap();
        assert_eq!((admission.processing(), admission.waiting()), (1, 1));
        assert!(!admission.has_free_slot());
        let Err(error) = admission.enter() else { panic!("a third place") };
        assert_eq!(error.body()["code"], 429);
        drop((first, slot));
        assert_eq!((admission.processing(), admission.waiting()), (0, 1));
        assert!(admission.enter().is_ok());
        drop(second);
    }
}
