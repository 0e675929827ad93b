//! What becomes of the tokens that merging takes away.

use clap::Args;

#[derive(Debug, Args)]
pub struct StrategyFlags {
    /// What becomes of the tokens that go: merge; or, to compare with, prune, random, bipartite, kmeans, greedy, prumerge or downsample
    #[arg(long, value_name = "NAME", default_value = "merge", help_heading = "Merging")]
    pub strategy: String,
    /// Seed of what random drops
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Merging")]
    pub strategy_seed: u32,
}
