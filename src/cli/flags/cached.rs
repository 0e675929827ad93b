//! Flags of `pull` and `list`.

use clap::Args;

#[derive(Debug, Args)]
pub struct PullFlags {
    /// Repository of the text model and its projector; QUANT is Q4_K_M, or what there is
    #[arg(value_name = "USER/REPO[:QUANT]")]
    pub repo: String,
    /// The text model's file in that repository, instead of QUANT (short: -hff)
    #[arg(long, value_name = "FILE")]
    pub hf_file: Option<String>,
    /// Leave the repository's projector out: text alone
    #[arg(long)]
    pub no_mmproj: bool,
}

#[derive(Debug, Args)]
pub struct ListFlags {
    /// Print JSON instead of lines
    #[arg(long)]
    pub json: bool,
}
