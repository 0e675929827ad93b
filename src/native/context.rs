//! A decoder context whose KV cache is cut into segments at the merge layers.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use llama_cpp_sys_2 as sys;

use super::model::TextModel;
use super::step::{MergeStep, Strategy};
use super::trace::Trace;
use super::{FlashAttention, KvType};
use crate::error::{Error, Field, Kind, Result};

/// What a context is made of.
#[derive(Debug, Clone)]
pub struct ContextOptions {
    /// Cells of the first segment.
    pub cells: u32,
    /// Cells of each deeper segment, one for each merge layer.
    pub deep_cells: Vec<u32>,
    /// Layers at which the cache is cut, ascending, in 1 .. n_layer - 1.
    pub merge_layers: Vec<u32>,
    pub batch: u32,
    pub ubatch: u32,
    pub threads: u32,
    pub threads_batch: u32,
    pub flash_attention: FlashAttention,
    pub type_k: KvType,
    pub type_v: KvType,
    /// Whether the cache follows its layers to the GPU.
    pub offload: bool,
    /// A running computation stops soon after this becomes true.
    pub stop: Option<&'static AtomicBool>,
}

/// One stretch of layers that share the number of cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Half-open range of layers.
    pub layers: (u32, u32),
    pub cells: u32,
    pub used: u32,
    pub bytes: u64,
}

/// Rows of one sequence for [`Context::prefill`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Prefill<'a> {
    /// One for each row; below 0 where the row is an embedding.
    pub tokens: &'a [i32],
    /// [rows, `TextModel::n_embd_in`], read where the token is below 0; empty if there is no such row.
    pub embeddings: &'a [f32],
    /// [n_pos, rows].
    pub positions: &'a [i32],
    /// First row, number of rows, tokens removed at each merge layer.
    pub spans: &'a [(usize, usize, Vec<u32>)],
    /// Numbers of the spans whose rows attend to each other both ways, each in one micro-batch.
    pub two_ways: &'a [usize],
    /// Score by the call's last row instead of the span's own rows.
    pub last_token: bool,
    /// Not [`Strategy::Prumerge`].
    pub strategy: Strategy,
    /// [rows] original tokens that each row stands for; empty: one each.
    pub sizes: &'a [f32],
    /// Attention counts a row as often as its size, which needs an architecture that merges.
    pub counts_sizes: bool,
}

/// A context. It keeps its model alive.
pub struct Context {
    pub(super) ptr: NonNull<sys::llama_context>,
    pub(super) model: TextModel,
    /// Merge layers: a span names an amount for each.
    n_cuts: usize,
}

/// Whether the flag behind the pointer is set: nothing in it can panic.
///
/// # Safety
/// `flag` was made of a `&AtomicBool` that is alive.
pub(super) unsafe extern "C" fn stopped(flag: *mut c_void) -> bool {
    // SAFETY: by the contract above.
    unsafe { &*flag.cast::<AtomicBool>() }.load(Ordering::Relaxed)
}

impl Context {
    /// # Errors
    /// The library's own, for sizes or layers it cannot take or memory it cannot get.
    pub fn new(model: &TextModel, options: &ContextOptions) -> Result<Self> {
        Self::with_sequences(model, options, 1)
    }

    /// The same for several sequences, which share the cells.
    pub(super) fn with_sequences(model: &TextModel, options: &ContextOptions, n: u32) -> Result<Self> {
        let layers = signed(&options.merge_layers)?;
        // SAFETY: takes nothing, returns plain values.
        let mut params = unsafe { sys::illava_context_default_params() };
        params.n_ctx = options.cells;
        params.n_batch = options.batch;
        params.n_ubatch = options.ubatch;
        params.n_seq_max = n;
        params.n_threads = threads(options.threads);
        params.n_threads_batch = threads(options.threads_batch);
        params.flash_attn = options.flash_attention.raw();
        params.type_k = options.type_k.raw();
        params.type_v = options.type_v.raw();
        params.offload_kqv = options.offload;
        params.kv_unified = true;
        params.merge_layers = layers.as_ptr();
        params.n_merge_layers = layers.len();
        if options.deep_cells.len() == layers.len() && !layers.is_empty() {
            params.n_ctx_deep = options.deep_cells.as_ptr();
        }
        let mut ptr = std::ptr::null_mut();
        // SAFETY: the model outlives the context (a clone is kept), the arrays live until the
        // call returns and the library copies them.
        let status = unsafe { sys::illava_context_new(model.as_ptr(), &raw const params, &raw mut ptr) };
        let context = NonNull::new(ptr).map(|ptr| Self { ptr, model: model.clone(), n_cuts: layers.len() });
        super::check(status)?;
        let context = context.ok_or_else(|| Error::new(Kind::Native, "the library made no context"))?;
        if let Some(flag) = options.stop {
            let flag: *const AtomicBool = flag;
            // SAFETY: the flag is static and only read.
            unsafe {
                sys::llama_set_abort_callback(context.ptr.as_ptr(), Some(stopped), flag.cast_mut().cast());
            }
        }
        Ok(context)
    }

    /// Takes rows through the segments and computes the logits of the last one.
    ///
    /// # Errors
    /// [`Kind::Context`] without room, [`Kind::Interrupted`]; nothing of the call then stays.
    pub fn prefill(&mut self, rows: &Prefill<'_>) -> Result<Vec<MergeStep>> {
        let steps = self.prefill_with(rows, false)?;
        Ok(steps.into_iter().map(|(step, _)| step).collect())
    }

    /// The same, and with each step the survivors as they enter its layer, [n_out, n_embd].
    ///
    /// # Errors
    /// As [`Context::prefill`].
    pub fn prefill_with_residuals(&mut self, rows: &Prefill<'_>) -> Result<Vec<(MergeStep, Vec<f32>)>> {
        self.prefill_with(rows, true)
    }

    fn prefill_with(
        &mut self,
        rows: &Prefill<'_>,
        keep_residual: bool,
    ) -> Result<Vec<(MergeStep, Vec<f32>)>> {
        self.with_params(rows, 0, keep_residual, |context, params| {
            let mut trace = std::ptr::null_mut();
            // SAFETY: lengths were checked; all arrays live until the call returns. The trace is ours.
            let (status, trace) = unsafe {
                let status = sys::illava_prefill(context, params, &raw mut trace);
                (status, Trace::from_raw(trace))
            };
            super::check(status)?;
            trace.map_or_else(|| Ok(Vec::new()), |trace| trace.steps())
        })
    }

    /// Checks `rows` and hands them over in the library's own form, valid during the call.
    pub(super) fn with_params<T>(
        &mut self,
        rows: &Prefill<'_>,
        sequence: i32,
        keep_residual: bool,
        call: impl FnOnce(*mut sys::llama_context, &sys::illava_prefill_params) -> Result<T>,
    ) -> Result<T> {
        let n_embd = self.model.n_embd_in() as usize;
        let n = rows.tokens.len();
        let any_embedding = rows.tokens.iter().any(|&token| token < 0);
        let fits = rows.positions.len() == n * self.model.n_pos()
            && (!any_embedding || rows.embeddings.len() == n * n_embd)
            && (rows.sizes.is_empty() || rows.sizes.len() == n)
            && rows.spans.iter().all(|(first, len, r)| {
                first.checked_add(*len).is_some_and(|end| end <= n) && r.len() >= self.n_cuts
            })
            && rows.tokens.iter().all(|&token| token < self.model.n_vocab());
        if !fits {
            return Err(Error::new(
                Kind::Native,
                format!(
                    "rows of a prefill do not fit together: {n} tokens, {} positions",
                    rows.positions.len()
                ),
            ));
        }
        let most = self.n_ubatch() as usize;
        let spans = rows.two_ways.iter().filter_map(|&i| rows.spans.get(i));
        if let Some((_, len, _)) = spans.into_iter().find(|(_, len, _)| *len > most) {
            return Err(Error::new(
                Kind::Model,
                format!(
                    "a picture of {len} tokens that attend to each other both ways: {most} are computed at once; start with as many ({} {len})",
                    Field::MicroBatch
                ),
            ));
        }
        let amounts = rows.spans.iter().map(|(_, _, r)| signed(r)).collect::<Result<Vec<_>>>()?;
        let spans = rows
            .spans
            .iter()
            .zip(&amounts)
            .enumerate()
            .map(|(i, ((first, len, _), r))| {
                let two_ways = rows.two_ways.contains(&i);
                Ok(sys::illava_span { first: int(*first)?, n: int(*len)?, r: r.as_ptr(), two_ways })
            })
            .collect::<Result<Vec<_>>>()?;
        // SAFETY: takes nothing, returns plain values.
        let mut params = unsafe { sys::illava_prefill_default_params() };
        params.n_rows = int(n)?;
        params.tokens = rows.tokens.as_ptr();
        params.embd = if any_embedding { rows.embeddings.as_ptr() } else { std::ptr::null() };
        params.pos = rows.positions.as_ptr();
        params.seq_id = sequence;
        params.spans = spans.as_ptr();
        params.n_spans = spans.len();
        params.score = if rows.last_token { sys::ILLAVA_SCORE_LAST_TOKEN } else { sys::ILLAVA_SCORE_IMAGE };
        params.logits_last = true;
        params.keep_residual = keep_residual;
        params.strategy = rows.strategy.raw();
        params.seed = rows.strategy.seed();
        params.sizes = if rows.sizes.is_empty() { std::ptr::null() } else { rows.sizes.as_ptr() };
        params.count_sizes = rows.counts_sizes;
        call(self.ptr.as_ptr(), &params)
    }

    /// Takes one token through all segments and computes its logits.
    ///
    /// # Errors
    /// [`Kind::Context`] without room, [`Kind::Interrupted`], [`Kind::Native`].
    pub fn decode(&mut self, token: i32, position: i32) -> Result<()> {
        if !(0..self.model.n_vocab()).contains(&token) {
            return Err(Error::new(Kind::Native, format!("token {token} is not in the vocabulary")));
        }
        let (mut token, mut position, mut n_seq, mut seq, mut logits) = (token, position, 1, 0, 1);
        let mut seqs = &raw mut seq;
        let batch = sys::llama_batch {
            n_tokens: 1,
            token: &raw mut token,
            embd: std::ptr::null_mut(),
            pos: &raw mut position,
            n_seq_id: &raw mut n_seq,
            seq_id: &raw mut seqs,
            logits: &raw mut logits,
        };
        // SAFETY: a batch of one row whose arrays have one element each and outlive the call.
        unsafe { self.decode_batch(batch) }
    }

    /// # Safety
    /// The arrays of `batch` have as many elements as it says and outlive the call.
    pub(super) unsafe fn decode_batch(&mut self, batch: sys::llama_batch) -> Result<()> {
        let n = batch.n_tokens;
        if n < 1 || n.unsigned_abs() > self.n_batch() {
            let most = self.n_batch();
            return Err(Error::new(Kind::Native, format!("a batch of {n} tokens: it takes 1 to {most}")));
        }
        let (status, reason) = super::log::listening(|| {
            // SAFETY: by the contract above; the library aborts on a batch larger than its own, refused above.
            unsafe { sys::llama_decode(self.ptr.as_ptr(), batch) }
        });
        super::callback::resume();
        match status {
            0 => Ok(()),
            1 => Err(Error::new(
                Kind::Context,
                format!("the context is full; give a larger one ({})", Field::ContextSize),
            )),
            2 => Err(Error::interrupted()),
            status => {
                let reason = reason.unwrap_or_else(|| format!("status {status}"));
                Err(Error::new(Kind::Native, format!("llama.cpp cannot decode {n} tokens ({reason})")))
            }
        }
    }

    fn n_ubatch(&self) -> u32 {
        // SAFETY: the context is alive.
        unsafe { sys::llama_n_ubatch(self.ptr.as_ptr()) }
    }

    fn n_batch(&self) -> u32 {
        // SAFETY: the context is alive.
        unsafe { sys::llama_n_batch(self.ptr.as_ptr()) }
    }

    /// Logits of the last row that was computed, one for each vocabulary entry.
    ///
    /// # Errors
    /// [`Kind::Native`] if nothing was computed yet.
    pub fn logits(&mut self) -> Result<&[f32]> {
        self.logits_of(-1)
    }

    /// Those of one row of the last batch; -1 is the last that has any.
    pub(super) fn logits_of(&mut self, row: i32) -> Result<&[f32]> {
        let n = usize::try_from(self.model.n_vocab()).unwrap_or(0);
        // SAFETY: the context is alive; the library checks the row.
        let logits = unsafe { sys::llama_get_logits_ith(self.ptr.as_ptr(), row) };
        if logits.is_null() {
            return Err(Error::new(Kind::Native, "llama.cpp has no logits to sample from"));
        }
        // SAFETY: a row of n_vocab floats, valid until the next call that computes, which
        // needs `&mut self` as the returned slice does.
        Ok(unsafe { std::slice::from_raw_parts(logits, n) })
    }

    /// Forgets everything at and after `position`. False if the cache cannot.
    pub fn forget_from(&mut self, position: i32) -> bool {
        // SAFETY: the context is alive and owns its memory; -1 is the open end.
        unsafe {
            let memory = sys::llama_get_memory(self.ptr.as_ptr());
            !memory.is_null() && sys::llama_memory_seq_rm(memory, 0, position, -1)
        }
    }

    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        // SAFETY: the context is alive; the struct is plain numbers.
        let n = unsafe { sys::illava_context_n_segments(self.ptr.as_ptr()) };
        (0..n)
            .filter_map(|i| {
                // SAFETY: as above; i is below the count.
                let raw = unsafe {
                    let mut raw: sys::illava_segment = std::mem::zeroed();
                    raw.size = super::size_of::<sys::illava_segment>();
                    super::check(sys::illava_context_segment(self.ptr.as_ptr(), i, &raw mut raw)).ok()?;
                    raw
                };
                Some(SegmentInfo {
                    layers: (raw.il_begin.unsigned_abs(), raw.il_end.unsigned_abs()),
                    cells: raw.n_cells,
                    used: raw.n_used,
                    bytes: raw.bytes,
                })
            })
            .collect()
    }

    /// Bytes of the compute buffers as they stand.
    #[must_use]
    pub fn compute_bytes(&self) -> u64 {
        // SAFETY: the context is alive.
        unsafe { sys::illava_context_compute_bytes(self.ptr.as_ptr()) }
    }
}

fn int(n: usize) -> Result<i32> {
    i32::try_from(n).map_err(|_| Error::new(Kind::Context, format!("{n} rows are more than one call takes")))
}

fn signed(values: &[u32]) -> Result<Vec<i32>> {
    values.iter().map(|&v| int(v as usize)).collect()
}

fn threads(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: this is the one owner; the model is still alive.
        unsafe { sys::llama_free(self.ptr.as_ptr()) };
    }
}

// SAFETY: the context is used through one `&mut` at a time and has no thread-local state.
unsafe impl Send for Context {}
