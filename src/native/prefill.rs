//! The prompt of a sequence: one ubatch at a time through the segments of the cache, or all of it at once.

use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;

use super::context::{Context, Run, signed};
use super::step::{MergeStep, Score, Strategy, Thinning};
use super::trace::Trace;
use crate::error::{Error, Field, Kind, Result};

/// A merge step, and the survivors as they enter its layer, [n_out, n_embd], if they were asked for.
type StepWithRows = (MergeStep, Vec<f32>);

/// Rows of one sequence for [`Context::begin`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Prefill<'a> {
    /// One for each row; below 0 if the row is an embedding.
    pub tokens: &'a [i32],
    /// [rows, `TextModel::n_embd_in`], read where the token is below 0; empty if there is no such row.
    pub embeddings: &'a [f32],
    /// [n_pos, rows].
    pub positions: &'a [i32],
    /// First row, number of rows, tokens removed at each merge layer.
    pub spans: &'a [(usize, usize, Vec<u32>)],
    /// Numbers of the spans whose rows attend to each other both ways, each in one micro-batch.
    pub two_ways: &'a [usize],
    /// Attention that ranks.
    pub score: Score,
    /// Not [`Strategy::Prumerge`] or [`Strategy::VisionZip`].
    pub strategy: Strategy,
    /// \[rows\] original tokens that each row stands for; empty: one each.
    pub sizes: &'a [f32],
    /// Attention counts a row as often as its size, which needs an architecture that merges.
    pub counts_sizes: bool,
    /// \[rows\] 1 for a row of a span that merges last; empty: none.
    pub held: &'a [u8],
    /// [merge layers] share of the scores that stays there, 0 for the planned number; empty: 0 for all.
    pub masses: &'a [f32],
    /// Way in which the cache is thinned once the call is computed.
    pub thinning: Option<Thinning>,
    /// \[spans\]\[segments\] rows of each span whose cells then go, if the cache is thinned.
    pub thinned: &'a [Vec<u32>],
}

impl Context {
    /// Begins the prefill of `sequence`, dropping one that is under way. Computes nothing yet.
    ///
    /// # Errors
    /// [`Kind::Context`] without room as things stand.
    pub fn begin(&mut self, sequence: usize, rows: &Prefill<'_>) -> Result<()> {
        self.begin_with(sequence, rows, false)
    }

    fn begin_with(&mut self, sequence: usize, rows: &Prefill<'_>, keep_residual: bool) -> Result<()> {
        let id = self.id(sequence)?;
        self.runs[sequence] = None;
        let mut run = std::ptr::null_mut();
        self.with_params(rows, id, keep_residual, |context, params| {
            // SAFETY: lengths were checked; the library copies the arrays. The context outlives
            // the run: it is dropped after it.
            super::check(unsafe { sys::illava_prefill_begin(context, params, &raw mut run) })
        })?;
        self.runs[sequence] = NonNull::new(run).map(Run);
        Ok(())
    }

    /// Computes one ubatch. The steps come with the last one, and with it the logits of the last
    /// row: [`Context::last_logits`].
    ///
    /// # Errors
    /// [`Kind::Context`] without room, [`Kind::Interrupted`]; nothing of the prefill then stays.
    pub fn step(&mut self, sequence: usize) -> Result<Option<Vec<MergeStep>>> {
        let steps = self.step_with(sequence)?;
        Ok(steps.map(|steps| steps.into_iter().map(|(step, _)| step).collect()))
    }

    fn step_with(&mut self, sequence: usize) -> Result<Option<Vec<StepWithRows>>> {
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
        trace.map_or_else(|| Ok(Vec::new()), |trace| trace.steps()).map(Some)
    }

    /// Takes all rows through the segments in one call.
    ///
    /// # Errors
    /// As [`Context::begin`] and [`Context::step`].
    pub fn prefill(&mut self, sequence: usize, rows: &Prefill<'_>) -> Result<Vec<MergeStep>> {
        let steps = self.prefill_with(sequence, rows, false)?;
        Ok(steps.into_iter().map(|(step, _)| step).collect())
    }

    /// The same, and with each step the survivors as they enter its layer, [n_out, n_embd].
    ///
    /// # Errors
    /// As [`Context::prefill`].
    pub fn prefill_with_residuals(
        &mut self,
        sequence: usize,
        rows: &Prefill<'_>,
    ) -> Result<Vec<(MergeStep, Vec<f32>)>> {
        self.prefill_with(sequence, rows, true)
    }

    fn prefill_with(
        &mut self,
        sequence: usize,
        rows: &Prefill<'_>,
        keep_residual: bool,
    ) -> Result<Vec<StepWithRows>> {
        self.begin_with(sequence, rows, keep_residual)?;
        loop {
            if let Some(steps) = self.step_with(sequence)? {
                return Ok(steps);
            }
        }
    }

    /// Drops a prefill under way; nothing of it stays.
    pub fn cancel(&mut self, sequence: usize) {
        if let Some(run) = self.runs.get_mut(sequence) {
            *run = None;
        }
    }

    /// Checks `rows` and hands them over in the library's own form, valid during the call.
    fn with_params<T>(
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
            && (rows.held.is_empty() || rows.held.len() == n)
            && rows.spans.iter().all(|(first, len, r)| {
                first.checked_add(*len).is_some_and(|end| end <= n) && r.len() >= self.n_cuts
            })
            && rows.tokens.iter().all(|&token| token < self.model.n_vocab())
            && (rows.thinning.is_none()
                || (rows.thinned.len() == rows.spans.len()
                    && rows.thinned.iter().all(|gone| gone.len() == self.n_cuts + 1)));
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
        let thinned = signed(&rows.thinned.concat())?;
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
        params.score = rows.score.raw();
        params.logits_last = true;
        params.keep_residual = keep_residual;
        params.strategy = rows.strategy.raw();
        params.seed = rows.strategy.seed();
        params.sizes = if rows.sizes.is_empty() { std::ptr::null() } else { rows.sizes.as_ptr() };
        params.count_sizes = rows.counts_sizes;
        params.held = if rows.held.is_empty() { std::ptr::null() } else { rows.held.as_ptr() };
        params.mass = if rows.masses.is_empty() { std::ptr::null() } else { rows.masses.as_ptr() };
        if let Some(thinning) = rows.thinning {
            params.thinning = thinning.raw();
            params.thinned = thinned.as_ptr();
        }
        call(self.handle.as_ptr(), &params)
    }
}

fn int(n: usize) -> Result<i32> {
    i32::try_from(n).map_err(|_| Error::new(Kind::Context, format!("{n} rows are more than one call takes")))
}
