//! A decoder context, which several sequences share. Its KV cache is cut into segments at the merge layers; text of
//! the sequences is decoded in one batch, and the prompt of each is computed one ubatch at a time in between.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use llama_cpp_sys_2 as sys;

use super::model::TextModel;
use super::{FlashAttention, KvType};
use crate::error::{Error, Field, Kind, Result};

/// Sequences that llama.cpp's tables hold (`LLAMA_MAX_SEQ`, which its public header does not show).
pub const MAX_SEQUENCES: u32 = 256;

/// Settings of a context.
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

/// One generated token of one sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    pub sequence: usize,
    pub token: i32,
    pub position: i32,
}

/// A context with its sequences. It keeps its model alive. Cells are shared: what one sequence leaves free another can
/// use, and a prefix can belong to several.
pub struct Context {
    /// The prefill under way of each sequence. Before the context, which they work on.
    pub(super) runs: Vec<Option<Run>>,
    pub(super) handle: Handle,
    pub(super) model: TextModel,
    /// Merge layers: a span names an amount for each.
    pub(super) n_cuts: usize,
}

/// A prefill under way.
pub(super) struct Run(pub(super) NonNull<sys::illava_prefill_run>);

/// The library's context, freed at the end.
pub(super) struct Handle(NonNull<sys::llama_context>);

impl Handle {
    pub(super) fn as_ptr(&self) -> *mut sys::llama_context {
        self.0.as_ptr()
    }
}

/// Whether the flag behind the pointer is set: nothing in it can panic.
///
/// # Safety
/// `flag` was made of a `&AtomicBool` that is alive.
unsafe extern "C" fn stopped(flag: *mut c_void) -> bool {
    // SAFETY: by the contract above.
    unsafe { &*flag.cast::<AtomicBool>() }.load(Ordering::Relaxed)
}

impl Context {
    /// A context of `n` sequences.
    ///
    /// # Errors
    /// The library's own, for sizes or layers it cannot take or memory it cannot get.
    pub fn new(model: &TextModel, options: &ContextOptions, n: u32) -> Result<Self> {
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
        let handle = NonNull::new(ptr).map(Handle);
        super::check(status)?;
        let handle = handle.ok_or_else(|| Error::new(Kind::Native, "the library made no context"))?;
        if let Some(flag) = options.stop {
            let flag: *const AtomicBool = flag;
            // SAFETY: the flag is static and only read.
            unsafe {
                sys::llama_set_abort_callback(handle.as_ptr(), Some(stopped), flag.cast_mut().cast());
            }
        }
        Ok(Self { runs: (0..n).map(|_| None).collect(), handle, model: model.clone(), n_cuts: layers.len() })
    }

    /// Takes one token of each of several sequences through all segments, as one batch.
    ///
    /// # Errors
    /// [`Kind::Context`] without room (nothing is then computed), [`Kind::Interrupted`],
    /// [`Kind::Native`].
    pub fn decode(&mut self, next: &[Next]) -> Result<()> {
        let n_vocab = self.model.n_vocab();
        if let Some(next) = next.iter().find(|next| !(0..n_vocab).contains(&next.token)) {
            return Err(Error::new(Kind::Native, format!("token {} is not in the vocabulary", next.token)));
        }
        if let Some(next) = next.iter().find(|next| self.runs.get(next.sequence).is_some_and(Option::is_some))
        {
            let text = format!("sequence {}: its prefill is still under way", next.sequence);
            return Err(Error::new(Kind::Native, text));
        }
        let n = next.len();
        let mut tokens: Vec<i32> = next.iter().map(|next| next.token).collect();
        let mut positions: Vec<i32> = next.iter().map(|next| next.position).collect();
        let mut ids = next.iter().map(|next| self.id(next.sequence)).collect::<Result<Vec<_>>>()?;
        let mut counts = vec![1; n];
        let mut lists: Vec<*mut i32> = ids.iter_mut().map(std::ptr::from_mut).collect();
        let mut logits = vec![1; n];
        let batch = sys::llama_batch {
            // More than fit are more than a batch takes.
            n_tokens: i32::try_from(n).unwrap_or(i32::MAX),
            token: tokens.as_mut_ptr(),
            embd: std::ptr::null_mut(),
            pos: positions.as_mut_ptr(),
            n_seq_id: counts.as_mut_ptr(),
            seq_id: lists.as_mut_ptr(),
            logits: logits.as_mut_ptr(),
        };
        // SAFETY: a batch of n rows whose arrays have n elements each and outlive the call.
        unsafe { self.decode_batch(batch) }
    }

    /// # Safety
    /// The arrays of `batch` have as many elements as it says and outlive the call.
    unsafe fn decode_batch(&mut self, batch: sys::llama_batch) -> Result<()> {
        // The library keeps a row of logits for each sequence, and aborts on more.
        let (n, most) = (batch.n_tokens, self.runs.len());
        if n < 1 || n.unsigned_abs() as usize > most {
            let text = format!("a batch of {n} tokens: it takes 1 to {most}, as many as there are sequences");
            return Err(Error::new(Kind::Native, text));
        }
        let (status, reason) = super::log::listening(|| {
            // SAFETY: by the contract above; the library aborts on more rows than sequences, refused above.
            unsafe { sys::llama_decode(self.handle.as_ptr(), batch) }
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

    pub(super) fn n_ubatch(&self) -> u32 {
        // SAFETY: the context is alive.
        unsafe { sys::llama_n_ubatch(self.handle.as_ptr()) }
    }

    /// Logits of row `row` of the last [`Context::decode`], one for each vocabulary entry.
    ///
    /// # Errors
    /// [`Kind::Native`] if there are none, as after a step of a prefill.
    pub fn logits(&mut self, row: usize) -> Result<&[f32]> {
        self.logits_of(i32::try_from(row).unwrap_or(i32::MAX))
    }

    /// Logits of the last row that was computed: of a decoded token, or of a prompt whose last step was the last call.
    ///
    /// # Errors
    /// [`Kind::Native`] if there are none.
    pub fn last_logits(&mut self) -> Result<&[f32]> {
        self.logits_of(-1)
    }

    /// Those of one row of the last batch; -1 is the last that has any.
    fn logits_of(&mut self, row: i32) -> Result<&[f32]> {
        let n = usize::try_from(self.model.n_vocab()).unwrap_or(0);
        // SAFETY: the context is alive; the library checks the row.
        let logits = unsafe { sys::llama_get_logits_ith(self.handle.as_ptr(), row) };
        if logits.is_null() {
            return Err(Error::new(Kind::Native, "llama.cpp has no logits to sample from"));
        }
        // SAFETY: a row of n_vocab floats, valid until the next call that computes, which
        // needs `&mut self` as the returned slice does.
        Ok(unsafe { std::slice::from_raw_parts(logits, n) })
    }

    /// Forgets everything of `sequence` at and after `position`. False if the cache cannot.
    pub fn forget_from(&mut self, sequence: usize, position: i32) -> bool {
        let Ok(id) = self.id(sequence) else { return false };
        // SAFETY: the context is alive and owns its memory; -1 is the open end.
        unsafe {
            let memory = sys::llama_get_memory(self.handle.as_ptr());
            !memory.is_null() && sys::llama_memory_seq_rm(memory, id, position, -1)
        }
    }

    /// Lets the cells of `from` before `position` belong to `to` as well, which must be empty.
    /// Nothing is copied.
    ///
    /// # Errors
    /// [`Kind::Native`] for sequences there are not, and if `to` holds anything.
    pub fn share(&mut self, from: usize, to: usize, position: i32) -> Result<()> {
        let (from, to) = (self.id(from)?, self.id(to)?);
        // SAFETY: the context is alive and owns its memory; both ids are below its number of sequences.
        unsafe {
            let memory = sys::llama_get_memory(self.handle.as_ptr());
            if memory.is_null() || from == to {
                return Ok(());
            }
            if sys::llama_memory_seq_pos_max(memory, to) >= 0 {
                return Err(Error::new(Kind::Native, format!("sequence {to} is not empty")));
            }
            sys::llama_memory_seq_cp(memory, from, to, 0, position);
        }
        Ok(())
    }

    /// Cells of `sequence` in every segment, for [`Context::restore`].
    ///
    /// # Errors
    /// [`Kind::Native`] for a sequence there is not, and if the library cannot write it.
    pub fn save(&mut self, sequence: usize) -> Result<Vec<u8>> {
        let id = self.id(sequence)?;
        // SAFETY: the context is alive; the id is below its number of sequences.
        let length = unsafe { sys::llama_state_seq_get_size(self.handle.as_ptr(), id) };
        let mut cells = vec![0; length];
        // SAFETY: as above; the library writes at most `length` bytes.
        let written =
            unsafe { sys::llama_state_seq_get_data(self.handle.as_ptr(), cells.as_mut_ptr(), length, id) };
        if written == 0 || written > length {
            return Err(Error::new(Kind::Native, format!("sequence {sequence}: its cells cannot be copied")));
        }
        cells.truncate(written);
        Ok(cells)
    }

    /// Puts the cells of [`Context::save`] into `sequence`, which is empty then as before if they cannot be taken.
    ///
    /// # Errors
    /// [`Kind::Context`] without room, or for cells of another cache; [`Kind::Native`] for a sequence there is not.
    pub fn restore(&mut self, sequence: usize, cells: &[u8]) -> Result<()> {
        let id = self.id(sequence)?;
        let (read, reason) = super::log::listening(|| {
            // SAFETY: the context is alive, the id is below its number of sequences, and the library reads at most
            // the slice.
            unsafe { sys::llama_state_seq_set_data(self.handle.as_ptr(), cells.as_ptr(), cells.len(), id) }
        });
        if read == cells.len() {
            return Ok(());
        }
        self.forget_from(sequence, 0);
        let reason = reason.unwrap_or_else(|| "they are of another cache, or there is no room".into());
        Err(Error::new(Kind::Context, format!("the saved cells cannot be taken ({reason})")))
    }

    pub(super) fn id(&self, sequence: usize) -> Result<i32> {
        let known = sequence < self.runs.len();
        i32::try_from(sequence).ok().filter(|_| known).ok_or_else(|| {
            Error::new(Kind::Native, format!("sequence {sequence}: this context has {}", self.runs.len()))
        })
    }

    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        // SAFETY: the context is alive; the struct is plain numbers.
        let n = unsafe { sys::illava_context_n_segments(self.handle.as_ptr()) };
        (0..n)
            .filter_map(|i| {
                // SAFETY: as above; i is below the count.
                let raw = unsafe {
                    let mut raw: sys::illava_segment = std::mem::zeroed();
                    raw.size = super::size_of::<sys::illava_segment>();
                    super::check(sys::illava_context_segment(self.handle.as_ptr(), i, &raw mut raw)).ok()?;
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
        unsafe { sys::illava_context_compute_bytes(self.handle.as_ptr()) }
    }
}

pub(super) fn signed(values: &[u32]) -> Result<Vec<i32>> {
    let signed = |&value: &u32| {
        i32::try_from(value)
            .map_err(|_| Error::new(Kind::Context, format!("{value} is more than one call takes")))
    };
    values.iter().map(signed).collect()
}

fn threads(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: this is the one owner; the model is still alive, and what worked on the context is gone.
        unsafe { sys::llama_free(self.as_ptr()) };
    }
}

// SAFETY: the context is used through one `&mut` at a time and has no thread-local state.
unsafe impl Send for Context {}

impl Drop for Run {
    fn drop(&mut self) {
        // SAFETY: this is the one owner, and the context is alive: `Context` drops it last.
        unsafe { sys::illava_prefill_free(self.0.as_ptr()) };
    }
}

// SAFETY: a run is used only with its context, through one `&mut Context` at a time.
unsafe impl Send for Run {}
