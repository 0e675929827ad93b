//! Flags of `batch`.

use std::path::PathBuf;

use clap::Args;

use super::commands::SamplingFlags;
use super::text::PromptFlags;
use super::worker::WorkerFlags;

#[derive(Debug, Args)]
pub struct BatchFlags {
    /// JSONL of requests, - for stdin, or pictures and folders of them that are all asked the prompt
    #[arg(value_name = "INPUT", required = true)]
    pub inputs: Vec<PathBuf>,
    /// Take the pictures of a folder's folders too
    #[arg(long)]
    pub recursive: bool,
    #[command(flatten)]
    pub worker: WorkerFlags,
    #[command(flatten)]
    pub sampling: SamplingFlags,

    // Settings of pictures, and of requests that lack them.
    #[command(flatten)]
    pub text: PromptFlags,

    /// Output file, one JSON object a line; - is stdout
    #[arg(short, long, value_name = "FILE", default_value = "-", help_heading = "Output")]
    pub output: PathBuf,
    /// Continue an earlier run of the same input, whose answers are in the output
    #[arg(long, help_heading = "Output")]
    pub resume: bool,
    /// Put the trace of every merge step into each answer
    #[arg(long, help_heading = "Output")]
    pub traces: bool,
}
