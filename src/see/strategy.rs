//! A schedule's strategy as the library takes it.

use crate::native;
use crate::schedule::{Score, Strategy, Thinning};

/// `tile` is the tile's number in its span. In the decoder, which draws alike for all spans, it is 0.
pub(super) fn native(strategy: Strategy, tile: usize) -> native::Strategy {
    match strategy {
        // A picture that is shown smaller loses nothing after that.
        // Nor does a span whose rows go from the cache once the prompt is computed.
        Strategy::Merge
        | Strategy::Downsample
        | Strategy::Crop
        | Strategy::FreeVideo
        | Strategy::LookM(_) => native::Strategy::Merge,
        Strategy::Prune | Strategy::FastV | Strategy::PyramidDrop | Strategy::ZipVl | Strategy::Hired => {
            native::Strategy::Prune
        }
        Strategy::Random(seed) => native::Strategy::Random(u64::from(seed) | (tile as u64) << 32),
        Strategy::Bipartite => native::Strategy::Bipartite,
        Strategy::Kmeans => native::Strategy::Kmeans,
        Strategy::Greedy => native::Strategy::Greedy,
        Strategy::Assign => native::Strategy::Assign,
        Strategy::Prumerge => native::Strategy::Prumerge,
        Strategy::VisionZip => native::Strategy::VisionZip,
        Strategy::SparseVlm => native::Strategy::SparseVlm,
    }
}

/// The decoder's score as the library takes it.
pub(crate) fn score(score: Score) -> native::Score {
    match score {
        Score::Image => native::Score::Image,
        Score::LastToken => native::Score::LastToken,
        Score::Question => native::Score::Question,
        Score::Raters => native::Score::Raters,
        Score::Prompt => native::Score::Prompt,
    }
}

/// In the decoder a strategy that acts once has nothing left to do.
pub(crate) fn in_decoder(strategy: Strategy) -> native::Strategy {
    if strategy.acts_once() { native::Strategy::Merge } else { native(strategy, 0) }
}

/// Way in which the decoder's cache is thinned after the prompt, as the library takes it.
pub(crate) fn thinning(strategy: Strategy) -> Option<native::Thinning> {
    strategy.thinning().map(|thinning| match thinning {
        Thinning::Pivotal => native::Thinning::Pivotal,
        Thinning::Averaged => native::Thinning::Averaged,
        Thinning::Weighted => native::Thinning::Weighted,
    })
}
