//! How tokens are drawn, as `run`, `batch` and `serve` are told alike.

use clap::Args;

use crate::error::{Error, Result};
use crate::request::Sampling;

#[derive(Debug, Args)]
pub struct DrawFlags {
    /// Temperature; 0 takes the most likely token
    #[arg(
        long,
        visible_alias = "temperature",
        value_name = "T",
        default_value_t = 0.2,
        allow_negative_numbers = true,
        env = "LLAMA_ARG_TEMPERATURE",
        help_heading = "Sampling"
    )]
    pub temp: f32,
    /// Draw from the N most likely tokens; 0 from all
    #[arg(
        long,
        value_name = "N",
        default_value_t = 40,
        allow_negative_numbers = true,
        env = "LLAMA_ARG_TOP_K",
        help_heading = "Sampling"
    )]
    pub top_k: i32,
    /// Draw from the most likely tokens that together have this probability
    #[arg(
        long,
        value_name = "P",
        default_value_t = 0.95,
        env = "LLAMA_ARG_TOP_P",
        help_heading = "Sampling"
    )]
    pub top_p: f32,
    /// Leave out tokens less likely than this share of the most likely one
    #[arg(
        long,
        value_name = "P",
        default_value_t = 0.05,
        env = "LLAMA_ARG_MIN_P",
        help_heading = "Sampling"
    )]
    pub min_p: f32,
    /// Seed of the draw; -1 takes a new one each time
    #[arg(short, long, value_name = "N", default_value_t = -1, allow_negative_numbers = true, help_heading = "Sampling")]
    pub seed: i64,
}

impl DrawFlags {
    /// What was asked, checked. A seed of -1 is `None`: whoever draws takes a new one each time.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] naming the flag and what it takes.
    pub fn sampling(&self) -> Result<Sampling> {
        let share = |flag: &str, p: f32| {
            if (0.0..=1.0).contains(&p) {
                Ok(p)
            } else {
                Err(Error::usage(format!("{flag} {p}: give a share from 0 to 1")))
            }
        };
        if !self.temp.is_finite() || self.temp > 100.0 {
            return Err(Error::usage(format!("--temp {}: give a number up to 100", self.temp)));
        }
        let seed = match self.seed {
            -1 => None,
            n => Some(u32::try_from(n).map_err(|_| {
                Error::usage(format!("--seed {n}: give a number from 0 to {}, or -1", u32::MAX))
            })?),
        };
        Ok(Sampling {
            temperature: self.temp,
            top_k: self.top_k,
            top_p: share("--top-p", self.top_p)?,
            min_p: share("--min-p", self.min_p)?,
            seed,
            ..Sampling::default()
        })
    }
}
