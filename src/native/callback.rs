//! Rust that C calls. A panic must not unwind into C: it waits until C has returned and goes on from there.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::c_void;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};

type Payload = Box<dyn Any + Send>;

thread_local! {
    static CAUGHT: RefCell<Option<Payload>> = const { RefCell::new(None) };
}

/// Runs `body` for C. `None` if it panics, and without a call if an earlier panic still waits.
pub(super) fn guard<T>(body: impl FnOnce() -> T) -> Option<T> {
    // A thread that ends has given its storage back; it calls nothing of ours any more.
    CAUGHT
        .try_with(|caught| {
            if caught.borrow().is_some() {
                return None;
            }
            match panic::catch_unwind(AssertUnwindSafe(body)) {
                Ok(value) => Some(value),
                Err(payload) => {
                    *caught.borrow_mut() = Some(payload);
                    None
                }
            }
        })
        .ok()
        .flatten()
}

/// Goes on with the panic that waits on this thread, if there is one. Every call whose C side may have called
/// [`guard`] asks for it once it owns what C returned.
pub(super) fn resume() {
    if let Some(payload) = CAUGHT.with(RefCell::take) {
        panic::resume_unwind(payload);
    }
}

/// Whether a flag of the list behind the pointer is set: nothing in it can panic.
///
/// # Safety
/// `flags` was made of a `&&[&AtomicBool]` that is alive.
pub(super) unsafe extern "C" fn one_is_set(flags: *mut c_void) -> bool {
    // SAFETY: by the contract above.
    let flags = unsafe { *flags.cast::<&[&AtomicBool]>() };
    flags.iter().any(|flag| flag.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_waits_and_goes_on_once() {
        let mut calls = 0;
        assert_eq!(guard(|| 1), Some(1));
        assert_eq!(guard(|| -> i32 { panic!("in a callback") }), None);
        assert_eq!(guard(|| calls += 1), None);
        assert_eq!(calls, 0, "nothing runs while a panic waits");

        let payload = panic::catch_unwind(resume).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"in a callback"));
        resume();
        assert_eq!(guard(|| 2), Some(2));
    }
}
