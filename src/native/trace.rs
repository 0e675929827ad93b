//! The steps of a prefill as the library hands them out.

use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;

use super::step::{self, MergeStep};
use crate::error::Result;

/// A trace, freed when it is dropped.
pub(super) struct Trace(NonNull<sys::illava_trace>);

impl Trace {
    /// Takes over what a prefill wrote to its `trace`; `None` if it wrote nothing.
    ///
    /// # Safety
    /// `ptr` is null or a trace that nothing else frees.
    pub(super) unsafe fn from_raw(ptr: *mut sys::illava_trace) -> Option<Self> {
        NonNull::new(ptr).map(Self)
    }

    /// Each step with its residual, [n_out, n_embd], which is empty unless the call kept it.
    ///
    /// # Errors
    /// The library's own.
    pub(super) fn steps(&self) -> Result<Vec<(MergeStep, Vec<f32>)>> {
        // SAFETY: the trace is alive.
        (0..unsafe { sys::illava_trace_n_steps(self.0.as_ptr()) }).map(|i| self.step(i)).collect()
    }

    fn step(&self, i: usize) -> Result<(MergeStep, Vec<f32>)> {
        let mut raw = step::empty();
        let (mut rows, mut n) = (std::ptr::null(), 0);
        // SAFETY: the trace is alive, and what its step and residual point to with it; both are copied here.
        unsafe {
            super::check(sys::illava_trace_step(self.0.as_ptr(), i, &raw mut raw))?;
            let residual = match sys::illava_trace_residual(self.0.as_ptr(), i, &raw mut rows, &raw mut n) {
                sys::ILLAVA_OK => super::copied(rows, n),
                _ => Vec::new(),
            };
            Ok((step::copy(&raw), residual))
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // SAFETY: this is the one owner.
        unsafe { sys::illava_trace_free(self.0.as_ptr()) };
    }
}
