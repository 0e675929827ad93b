//! Flags of `batch`.

use std::path::PathBuf;

use clap::Args;

use super::commands::SamplingFlags;
use super::names;
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
    // For pictures and requests that come without.
    #[command(flatten)]
    pub text: PromptFlags,

    /// Output file, one JSON object a line, or a row if the name ends in .csv; - is stdout [default: -, or nowhere with --captions]
    #[arg(short, long, value_name = "FILE", help_heading = "Output")]
    pub output: Option<PathBuf>,
    /// Form of the output, jsonl or csv, whatever its name
    #[arg(long, value_name = "FORM", value_parser = names::FORMS, hide_possible_values = true, help_heading = "Output")]
    pub format: Option<String>,
    /// Leave the report of each answer out: id, text and finish stay
    #[arg(long, help_heading = "Output")]
    pub no_report: bool,
    /// Write the answer about photo.jpg to photo.txt beside it
    #[arg(long, help_heading = "Output")]
    pub captions: bool,
    /// Leave out pictures that have their caption
    #[arg(long, requires = "captions", conflicts_with_all = ["overwrite", "resume"], help_heading = "Output")]
    pub skip_done: bool,
    /// Write captions anew that are there
    #[arg(long, requires = "captions", help_heading = "Output")]
    pub overwrite: bool,
    /// Go on where an earlier run of the same input stopped writing to the output, and ask again what failed there
    #[arg(long, help_heading = "Output")]
    pub resume: bool,
    /// Put the trace of every merge step into each answer
    #[arg(long, help_heading = "Output")]
    pub traces: bool,

    #[command(flatten)]
    pub worker: WorkerFlags,
    #[command(flatten)]
    pub sampling: SamplingFlags,
}
