//! Flags of the text model's weights and of the kernels that compute with them.

use clap::Args;

use super::names;

use crate::error::{Error, Result};
use crate::pair::{Kernels, LoadMode, Weights};

#[derive(Debug, Clone, Args)]
pub struct WeightFlags {
    /// Leave the text model's weights as they are stored: mapped from the file, where the system can drop and reread them, instead of a copy for the CPU's fastest kernels (short: -nr)
    #[arg(long, env = "LLAMA_ARG_NO_REPACK", value_parser = clap::builder::FalseyValueParser::new(), help_heading = "Model")]
    pub no_repack: bool,
    /// How the text model comes into memory: mmap (mapped), none (read), or auto (mapped, unless the CPU makes a copy of it) (short: -lm)
    #[arg(
        long,
        value_name = "MODE",
        default_value = "auto",
        env = "LLAMA_ARG_LOAD_MODE",
        value_parser = names::LOAD_MODES, hide_possible_values = true, help_heading = "Model"
    )]
    pub load_mode: String,
    /// Kernels for pictures and prompts on the CPU: auto (this program's, if it has some for the processor)
    /// or stock (llama.cpp's, with its results to the last bit)
    #[arg(long, value_name = "WHOSE", default_value = "auto", value_parser = names::KERNELS, hide_possible_values = true, help_heading = "Model")]
    pub kernels: String,
}

/// # Errors
/// [`crate::error::Kind::Usage`] with the modes there are.
pub(in crate::cli) fn weights(flags: &WeightFlags) -> Result<Weights> {
    let mode = match flags.load_mode.as_str() {
        "auto" => LoadMode::Auto,
        "none" => LoadMode::Read,
        "mmap" => LoadMode::Map,
        other => return Err(Error::usage(format!("--load-mode {other}: choose auto, none or mmap"))),
    };
    Ok(Weights { no_repack: flags.no_repack, mode, kernels: kernels(&flags.kernels)? })
}

/// # Errors
/// [`crate::error::Kind::Usage`] with the kernels there are.
pub(in crate::cli) fn kernels(whose: &str) -> Result<Kernels> {
    match whose {
        "auto" => Ok(Kernels::Auto),
        "stock" => Ok(Kernels::Stock),
        other => Err(Error::usage(format!("--kernels {other}: choose auto or stock"))),
    }
}
