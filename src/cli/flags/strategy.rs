//! Flags of the strategy that takes tokens away.

use clap::Args;

use super::names;

use crate::error::{Error, Field, Result};
use crate::schedule::Strategy;

#[derive(Debug, Args)]
pub struct StrategyFlags {
    /// Strategy for the tokens that go: merge, prune, random, bipartite, kmeans, greedy, assign, prumerge,
    /// downsample or crop (with --crop-model), or a method with amounts of its own: free-videollm (with
    /// --crop-model), fastv, pyramiddrop, visionzip, hired, sparsevlm, zipvl, look-m, look-m-averaged or
    /// look-m-weighted; without it, that of the preset
    #[arg(long, value_name = "NAME", value_parser = names::STRATEGIES, hide_possible_values = true, help_heading = "Merging")]
    pub strategy: Option<String>,
    /// Whether a token that stands for several counts as often in the encoder's attention: on or off; without
    /// it, as the strategy does
    #[arg(long, value_name = "on|off", value_parser = names::ON_OFF, hide_possible_values = true, help_heading = "Merging")]
    pub vit_sizes: Option<String>,
    /// Seed of the random strategy
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Merging")]
    pub strategy_seed: u32,
}

impl StrategyFlags {
    /// # Errors
    /// [`crate::error::Kind::Usage`] with the names there are.
    pub fn strategy(&self) -> Result<Option<Strategy>> {
        self.strategy.as_deref().map(|name| Strategy::parse(name, self.strategy_seed)).transpose()
    }

    /// # Errors
    /// [`crate::error::Kind::Usage`] for anything but `on` and `off`.
    pub fn vit_sizes(&self) -> Result<Option<bool>> {
        match self.vit_sizes.as_deref() {
            None => Ok(None),
            Some("on") => Ok(Some(true)),
            Some("off") => Ok(Some(false)),
            Some(other) => Err(Error::usage(format!("{} {other}: choose on or off", Field::VitSizes))),
        }
    }
}
