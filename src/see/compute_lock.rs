//! One computation at a time, for a program whose image encoder and decoder work beside each other.

use std::sync::Arc;

use parking_lot::{FairMutex, FairMutexGuard};

/// Right to compute; copies share it. A side that waits is served before the one that just had it. Two sides
/// that ask again and again therefore alternate.
#[derive(Debug, Clone, Default)]
pub struct ComputeLock(Arc<FairMutex<()>>);

/// The right, held until this is dropped.
pub struct ComputeGuard<'a>(FairMutexGuard<'a, ()>);

impl ComputeLock {
    #[must_use]
    pub fn take(&self) -> ComputeGuard<'_> {
        ComputeGuard(self.0.lock())
    }
}

impl ComputeGuard<'_> {
    /// Lets another side that waits have its turn first. Nothing happens if none waits.
    pub fn give_way(&mut self) {
        FairMutexGuard::bump(&mut self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn who_waits_is_next() {
        let turns = ComputeLock::default();
        let served = AtomicUsize::new(0);
        let mut turn = turns.take();
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..3 {
                    let _turn = turns.take();
                    served.fetch_add(1, Ordering::SeqCst);
                }
            });
            // Held without a break, it is never the other's turn.
            thread::sleep(Duration::from_millis(20));
            assert_eq!(served.load(Ordering::SeqCst), 0);
            let begun = Instant::now();
            while served.load(Ordering::SeqCst) < 3 && begun.elapsed() < Duration::from_secs(20) {
                turn.give_way();
            }
            drop(turn);
        });
        assert_eq!(served.load(Ordering::SeqCst), 3);
    }
}
