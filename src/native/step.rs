//! A merge step as it happened, copied out of the library.

use llama_cpp_sys_2 as sys;
use serde::{Deserialize, Serialize};

/// One step. Indices name original tokens: patches of the tile in the encoder (2x2 groups if whole groups are
/// the unit), rows of the span in the decoder.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MergeStep {
    /// Which span of the call; 0 in the encoder.
    pub span: usize,
    pub layer: u32,
    pub n_in: u32,
    pub n_out: u32,
    /// \[n_in\], in the order of the tokens that entered; empty if the strategy looks at no attention.
    pub scores: Vec<f32>,
    /// \[n_out\], ascending.
    pub kept: Vec<i32>,
    /// [r + 1], least attended first, the last being `into`. If there is no `into`, \[r\]: the tokens that
    /// went.
    pub merged: Vec<i32>,
    /// The survivor that took up all that went, with [`Strategy::Merge`].
    pub into: Option<i32>,
    /// Groups of two tokens and more: those that went, ascending, then the survivor.
    pub groups: Vec<Vec<i32>>,
    /// \[n_out\] original tokens that each survivor stands for; empty if the strategy keeps no count.
    #[serde(default)]
    pub sizes: Vec<f32>,
}

impl MergeStep {
    /// The same step of a span that begins at row `first` of what it is part of.
    #[must_use]
    pub fn behind(mut self, first: usize) -> Self {
        let first = i32::try_from(first).unwrap_or(i32::MAX);
        let groups = self.groups.iter_mut().flatten();
        let own = self.kept.iter_mut().chain(&mut self.merged).chain(&mut self.into);
        for row in own.chain(groups) {
            *row = row.saturating_add(first);
        }
        self
    }
}

/// The rule for the tokens that go. The numbers are those of `illava-strategy.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    #[default]
    Merge,
    Prune,
    /// With the seed of the draw.
    Random(u64),
    Bipartite,
    Kmeans,
    Greedy,
    Prumerge,
    Assign,
    VisionZip,
    SparseVlm,
}

/// Attention of the decoder that ranks. The numbers are those of `illava.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Score {
    /// Attention of the span's own rows.
    #[default]
    Image,
    /// Attention of the call's last row.
    LastToken,
    /// Attention of the text behind the last span.
    Question,
    /// Attention of those of its rows that the pictures point to.
    Raters,
    /// Attention of all rows of the call.
    Prompt,
}

/// Way in which keys and values whose cells go after the prompt merge into those that stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Thinning {
    /// The mean of the row that stays and of its midpoint with each row that goes.
    #[default]
    Pivotal,
    /// The mean of the row that stays and of those that go.
    Averaged,
    /// The same, each row that goes times the cosine of both keys.
    Weighted,
}

impl Thinning {
    pub(super) fn raw(self) -> sys::illava_thinning {
        match self {
            Thinning::Pivotal => sys::ILLAVA_THINNING_PIVOTAL,
            Thinning::Averaged => sys::ILLAVA_THINNING_AVERAGED,
            Thinning::Weighted => sys::ILLAVA_THINNING_WEIGHTED,
        }
    }
}

impl Score {
    pub(super) fn raw(self) -> sys::illava_score {
        match self {
            Score::Image => sys::ILLAVA_SCORE_IMAGE,
            Score::LastToken => sys::ILLAVA_SCORE_LAST_TOKEN,
            Score::Question => sys::ILLAVA_SCORE_QUESTION,
            Score::Raters => sys::ILLAVA_SCORE_RATERS,
            Score::Prompt => sys::ILLAVA_SCORE_PROMPT,
        }
    }
}

impl Strategy {
    pub(super) fn raw(self) -> sys::illava_strategy {
        match self {
            Strategy::Merge => sys::ILLAVA_STRATEGY_MERGE,
            Strategy::Prune => sys::ILLAVA_STRATEGY_PRUNE,
            Strategy::Random(_) => sys::ILLAVA_STRATEGY_RANDOM,
            Strategy::Bipartite => sys::ILLAVA_STRATEGY_BIPARTITE,
            Strategy::Kmeans => sys::ILLAVA_STRATEGY_KMEANS,
            Strategy::Greedy => sys::ILLAVA_STRATEGY_GREEDY,
            Strategy::Prumerge => sys::ILLAVA_STRATEGY_PRUMERGE,
            Strategy::Assign => sys::ILLAVA_STRATEGY_ASSIGN,
            Strategy::VisionZip => sys::ILLAVA_STRATEGY_VISIONZIP,
            Strategy::SparseVlm => sys::ILLAVA_STRATEGY_SPARSEVLM,
        }
    }

    pub(super) fn seed(self) -> u64 {
        if let Strategy::Random(seed) = self { seed } else { 0 }
    }
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
    // SAFETY: the header gives the lengths of the arrays, of which the sizes may be null; the members
    // are as many as the lengths of the groups add up to.
    let (scores, kept, merged, sizes, lengths, members) = unsafe {
        let lengths = super::copied(raw.group_lengths, count(raw.n_groups));
        let n_members = lengths.iter().map(|&n| count(n)).sum();
        (
            super::copied(raw.scores, count(raw.n_scores)),
            super::copied(raw.kept, count(raw.n_out)),
            super::copied(raw.merged, count(raw.n_merged)),
            super::copied(raw.sizes, count(raw.n_out)),
            lengths,
            super::copied(raw.group_members, n_members),
        )
    };
    let mut rest = members.as_slice();
    let groups = lengths.iter().map(|&n| {
        let (group, behind) = rest.split_at(count(n));
        rest = behind;
        group.to_vec()
    });
    MergeStep {
        span: count(raw.span),
        layer: raw.layer.unsigned_abs(),
        n_in: raw.n_in.unsigned_abs(),
        n_out: raw.n_out.unsigned_abs(),
        groups: groups.collect(),
        scores,
        kept,
        merged,
        sizes,
        into: (raw.into >= 0).then_some(raw.into),
    }
}
