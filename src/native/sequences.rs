//! A context that several sequences share: their text is decoded in one batch, and the prompt of
//! each is computed one ubatch at a time in between.

use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;

use super::trace::Trace;
use super::{Context, ContextOptions, MergeStep, Prefill, SegmentInfo, TextModel};
use crate::error::{Error, Kind, Result};

/// Sequences that llama.cpp's tables hold (`LLAMA_MAX_SEQ`, which its public header does not show).
pub const MAX_SEQUENCES: u32 = 256;

/// One generated token of one sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    pub sequence: usize,
    pub token: i32,
    pub position: i32,
}

/// A context with its sequences. Cells are shared: what one sequence leaves free another can use,
/// and a prefix can belong to several.
pub struct Sequences {
    // Before the context, which they work on.
    runs: Vec<Option<Run>>,
    context: Context,
}

/// A prefill under way.
struct Run(NonNull<sys::illava_prefill_run>);

impl Sequences {
    /// # Errors
    /// The library's own, for sizes or layers it cannot take or memory it cannot get.
    pub fn new(model: &TextModel, options: &ContextOptions, n: u32) -> Result<Self> {
        let context = Context::with_sequences(model, options, n)?;
        Ok(Self { runs: (0..n).map(|_| None).collect(), context })
    }

    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.context.segments()
    }

    #[must_use]
    pub fn compute_bytes(&self) -> u64 {
        self.context.compute_bytes()
    }

    /// Begins the prefill of `sequence`, dropping one that is under way. Computes nothing yet.
    ///
    /// # Errors
    /// [`Kind::Context`] without room as things stand.
    pub fn begin(&mut self, sequence: usize, rows: &Prefill<'_>) -> Result<()> {
        let id = self.id(sequence)?;
        self.runs[sequence] = None;
        let mut run = std::ptr::null_mut();
        self.context.with_params(rows, id, false, |context, params| {
            // SAFETY: lengths were checked; the library copies the arrays. The context outlives
            // the run: it is dropped after it.
            super::check(unsafe { sys::illava_prefill_begin(context, params, &raw mut run) })
        })?;
        self.runs[sequence] = NonNull::new(run).map(Run);
        Ok(())
    }

    /// Computes one ubatch. The steps come with the last one, and with it the logits of the last
    /// row: [`Sequences::prompt_logits`].
    ///
    /// # Errors
    /// [`Kind::Context`] without room, [`Kind::Interrupted`]; nothing of the prefill then stays.
    pub fn step(&mut self, sequence: usize) -> Result<Option<Vec<MergeStep>>> {
        let run = self.runs.get(sequence).and_then(Option::as_ref);
        let run = run.ok_or_else(|| Error::new(Kind::Native, "no prefill is under way"))?;
        let (mut done, mut trace) = (false, std::ptr::null_mut());
        // SAFETY: the run is alive and so is its context; no other call works on it now. The trace is ours.
        let (status, trace) = unsafe {
            let status = sys::illava_prefill_step(run.0.as_ptr(), &raw mut done, &raw mut trace);
            (status, Trace::from_raw(trace))
        };
        if let Err(error) = super::check(status) {
            self.runs[sequence] = None;
            return Err(error);
        }
        if !done {
            return Ok(None);
        }
        self.runs[sequence] = None;
        let steps = trace.map_or_else(|| Ok(Vec::new()), |trace| trace.steps())?;
        Ok(Some(steps.into_iter().map(|(step, _)| step).collect()))
    }

    /// Drops a prefill under way; nothing of it stays.
    pub fn cancel(&mut self, sequence: usize) {
        if let Some(run) = self.runs.get_mut(sequence) {
            *run = None;
        }
    }

    /// Takes one token of each of several sequences through all segments, as one batch.
    ///
    /// # Errors
    /// [`Kind::Context`] without room (nothing is then computed), [`Kind::Interrupted`],
    /// [`Kind::Native`].
    pub fn decode(&mut self, next: &[Next]) -> Result<()> {
        let n_vocab = self.context.model.n_vocab();
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
        unsafe { self.context.decode_batch(batch) }
    }

    /// Logits of row `row` of the last [`Sequences::decode`].
    ///
    /// # Errors
    /// [`Kind::Native`] if there are none, as after a step of a prefill.
    pub fn logits(&mut self, row: usize) -> Result<&[f32]> {
        self.context.logits_of(i32::try_from(row).unwrap_or(i32::MAX))
    }

    /// Logits of the last row of the prefill whose last step was the last call.
    ///
    /// # Errors
    /// [`Kind::Native`] if there are none.
    pub fn prompt_logits(&mut self) -> Result<&[f32]> {
        self.context.logits_of(-1)
    }

    /// Forgets everything of `sequence` at and after `position`. False if the cache cannot.
    pub fn forget_from(&mut self, sequence: usize, position: i32) -> bool {
        let Ok(id) = self.id(sequence) else { return false };
        // SAFETY: the context is alive and owns its memory; -1 is the open end.
        unsafe {
            let memory = sys::llama_get_memory(self.context.ptr.as_ptr());
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
            let memory = sys::llama_get_memory(self.context.ptr.as_ptr());
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

    fn id(&self, sequence: usize) -> Result<i32> {
        let known = sequence < self.runs.len();
        i32::try_from(sequence).ok().filter(|_| known).ok_or_else(|| {
            Error::new(Kind::Native, format!("sequence {sequence}: this context has {}", self.runs.len()))
        })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // SAFETY: this is the one owner, and the context is alive: `Sequences` drops it last.
        unsafe { sys::illava_prefill_free(self.0.as_ptr()) };
    }
}

// SAFETY: a run is used only with its context, through one `&mut Sequences` at a time.
unsafe impl Send for Run {}
