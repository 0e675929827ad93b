//! A merge step as it happened, copied out of the library.

use llama_cpp_sys_2 as sys;
use serde::{Deserialize, Serialize};

/// One merge step. Indices name original tokens: patches of the tile (2x2 groups where whole
/// groups merge) in the encoder, rows of the span in the decoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MergeStep {
    /// Which span of the call; 0 in the encoder.
    pub span: usize,
    pub layer: u32,
    pub n_in: u32,
    pub n_out: u32,
    /// [n_in], in the order of the tokens that entered.
    pub scores: Vec<f32>,
    /// [n_out], ascending; includes `into`.
    pub kept: Vec<i32>,
    /// [r + 1], least attended first.
    pub merged: Vec<i32>,
    pub into: i32,
}

pub(super) fn empty() -> sys::illava_step {
    // SAFETY: a plain C struct of numbers and pointers, for which all zero bytes are valid.
    let mut step: sys::illava_step = unsafe { std::mem::zeroed() };
    step.size = super::size_of::<sys::illava_step>();
    step
}

/// # Safety
/// `raw` was filled by the library and the object it came from is still alive.
pub(super) unsafe fn copy(raw: &sys::illava_step) -> MergeStep {
    let count = |n: i32| usize::try_from(n).unwrap_or(0);
    let n_merged = if raw.merged.is_null() { 0 } else { count(raw.n_in - raw.n_out + 1) };
    // SAFETY: the header gives the lengths of the three arrays: n_in, n_out and r + 1.
    let (scores, kept, merged) = unsafe {
        (
            super::copied(raw.scores, count(raw.n_in)),
            super::copied(raw.kept, count(raw.n_out)),
            super::copied(raw.merged, n_merged),
        )
    };
    MergeStep {
        span: count(raw.span),
        layer: raw.layer.unsigned_abs(),
        n_in: raw.n_in.unsigned_abs(),
        n_out: raw.n_out.unsigned_abs(),
        scores,
        kept,
        merged,
        into: raw.into,
    }
}
