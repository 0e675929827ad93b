//! Flags of sampling, the same for `run`, `batch` and `serve`.

use clap::Args;

use super::text::unescaped;
use crate::error::{Error, Field, Result};
use crate::request::{Limits, Sampling};

#[derive(Debug, Args)]
pub struct DrawFlags {
    /// Temperature; 0 takes the most likely token [default: 0.2, for batch 0]
    #[arg(
        long,
        visible_alias = "temperature",
        value_name = "T",
        allow_negative_numbers = true,
        env = "LLAMA_ARG_TEMPERATURE",
        help_heading = "Sampling"
    )]
    pub temp: Option<f32>,
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
        allow_negative_numbers = true,
        env = "LLAMA_ARG_TOP_P",
        help_heading = "Sampling"
    )]
    pub top_p: f32,
    /// Leave out tokens less likely than this share of the most likely one
    #[arg(
        long,
        value_name = "P",
        default_value_t = 0.05,
        allow_negative_numbers = true,
        env = "LLAMA_ARG_MIN_P",
        help_heading = "Sampling"
    )]
    pub min_p: f32,
    /// Seed of the draw; -1 takes a new one each time
    #[arg(short, long, value_name = "N", default_value_t = -1, allow_negative_numbers = true, help_heading = "Sampling")]
    pub seed: i64,
    #[command(flatten)]
    pub penalties: PenaltyFlags,
}

/// Flags that change the logits before a token is drawn, the same for `run`, `batch`, `serve` and `eval`.
#[derive(Debug, Args)]
pub struct PenaltyFlags {
    /// Divide the logits of tokens that came lately by this; 1 is none
    #[arg(
        long,
        value_name = "X",
        default_value_t = 1.0,
        allow_negative_numbers = true,
        help_heading = "Sampling"
    )]
    pub repeat_penalty: f32,
    /// Tokens that the penalties look back on; 0 none, -1 the whole context
    #[arg(
        long,
        value_name = "N",
        default_value_t = 64,
        allow_negative_numbers = true,
        help_heading = "Sampling"
    )]
    pub repeat_last_n: i32,
    /// Take this from the logits of tokens that came lately; 0 is none
    #[arg(
        long,
        value_name = "X",
        default_value_t = 0.0,
        allow_negative_numbers = true,
        help_heading = "Sampling"
    )]
    pub presence_penalty: f32,
    /// Take this from the logit of a token for each time it came lately; 0 is none
    #[arg(
        long,
        value_name = "X",
        default_value_t = 0.0,
        allow_negative_numbers = true,
        help_heading = "Sampling"
    )]
    pub frequency_penalty: f32,
    /// Add to the logit of a token: 15043+1, 15043-1 or 15043-inf; repeat it for several
    #[arg(short, long, value_name = "TOKEN(+/-)BIAS", help_heading = "Sampling")]
    pub logit_bias: Vec<String>,
}

/// Flags that end an answer early, and those of its log-probabilities.
#[derive(Debug, Args)]
pub struct StopFlags {
    /// End the answer before this text, which is not shown; repeat it for several
    #[arg(
        short = 'r',
        long,
        visible_alias = "reverse-prompt",
        value_name = "TEXT",
        allow_hyphen_values = true,
        help_heading = "Sampling"
    )]
    pub stop: Vec<String>,
    /// Go on after the model's own end
    #[arg(long, help_heading = "Sampling")]
    pub ignore_eos: bool,
}

impl DrawFlags {
    /// Returns checked sampling, of `temperature` if the flags name none. A seed of -1 becomes `None`, for which each
    /// draw takes a new seed.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] naming the flag and what it takes.
    pub fn sampling(&self, temperature: f32) -> Result<Sampling> {
        let seed = match self.seed {
            -1 => None,
            n => Some(u32::try_from(n).map_err(|_| {
                Error::usage(format!("{} {n}: give a number from 0 to {}, or -1", Field::Seed, u32::MAX))
            })?),
        };
        self.penalties.over(Sampling {
            temperature: self.temp.unwrap_or(temperature),
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            seed,
            ..Sampling::default()
        })
    }
}

impl PenaltyFlags {
    /// `sampling` with these penalties, checked.
    ///
    /// # Errors
    /// As [`DrawFlags::sampling`].
    pub fn over(&self, sampling: Sampling) -> Result<Sampling> {
        Sampling {
            repeat_penalty: self.repeat_penalty,
            repeat_last_n: self.repeat_last_n,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            logit_bias: self.logit_bias.iter().map(|text| bias(text)).collect::<Result<_>>()?,
            ..sampling
        }
        .checked()
    }
}

impl StopFlags {
    /// The limits of an answer of `max_tokens`, checked.
    ///
    /// # Errors
    /// As [`DrawFlags::sampling`].
    pub fn limits(&self, max_tokens: Option<u32>) -> Result<Limits> {
        let stop = self.stop.iter().map(|text| unescaped(text)).collect();
        Limits { max_tokens, stop, ignore_eos: self.ignore_eos }.checked()
    }
}

/// Reads llama.cpp's form of a bias: a token's id, a sign, a number.
fn bias(text: &str) -> Result<(i32, f32)> {
    let read = || {
        let (id, bias) = text.split_at(text.find(['+', '-'])?);
        Some((id.trim().parse().ok()?, bias.trim().parse().ok()?))
    };
    read().ok_or_else(|| {
        Error::usage(format!(
            "{} {text}: give a token and what is added, as 15043+1 or 15043-inf",
            Field::LogitBias
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn biases() {
        assert_eq!(bias("15043+1").unwrap(), (15043, 1.0));
        assert_eq!(bias("5-2.5").unwrap(), (5, -2.5));
        assert_eq!(bias("5-inf").unwrap(), (5, f32::NEG_INFINITY));
        for text in ["5", "+1", "x+1", "5+x", "-5", ""] {
            assert!(
                bias(text).unwrap_err().worded(crate::cli::words::flag).contains("--logit-bias"),
                "{text}"
            );
        }
    }
}
