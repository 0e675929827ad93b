//! `illava quantize`: a text model in a smaller type.

use std::path::PathBuf;

use clap::Args;

use crate::error::Result;
use crate::pair;

#[derive(Debug, Args)]
pub struct QuantizeFlags {
    /// Text model (GGUF) in F32, F16, BF16 or Q8_0
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// File to write
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Type of the weights: `Q4_K_M`, `Q5_K_M`, `Q6_K`, `Q8_0`, `IQ4_NL` ...
    #[arg(value_name = "TYPE")]
    mix: String,
    /// Threads; without, one for each processor
    #[arg(value_name = "THREADS")]
    threads: Option<u32>,
}

/// # Errors
/// As [`pair::quantize`].
pub(super) fn quantize(flags: &QuantizeFlags) -> Result<()> {
    pair::quantize(&flags.input, &flags.output, &flags.mix, flags.threads.unwrap_or(0))
}
