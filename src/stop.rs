//! Request to stop, shared with the signal handler and the native library.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Copies share one flag, which lives as long as the program.
#[derive(Debug, Clone, Copy)]
pub struct Stop(&'static Arc<AtomicBool>);

impl Stop {
    /// Makes a new flag. It is never freed: make one for the program, not one for a request.
    #[must_use]
    pub fn new() -> Self {
        Self(Box::leak(Box::default()))
    }

    pub fn ask(self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns the flag itself, for a signal handler.
    #[must_use]
    pub fn shared(self) -> Arc<AtomicBool> {
        Arc::clone(self.0)
    }

    #[must_use]
    pub fn is_asked(self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub fn clear(self) {
        self.0.store(false, Ordering::Relaxed);
    }

    pub(crate) fn flag(self) -> &'static AtomicBool {
        self.0
    }
}

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}
