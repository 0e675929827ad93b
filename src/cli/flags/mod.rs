//! Command line as it is typed, with a file for each group of flags. `settings` works out its meaning.

mod batch;
mod cached;
mod commands;
mod device;
mod draw;
mod names;
mod rpc;
mod serve;
mod slot;
mod strategy;
pub(super) mod text;
mod video;
mod weight;
mod worker;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub use batch::BatchFlags;
pub use cached::{ListFlags, PullFlags};
pub use commands::{
    BenchFlags, EvalFlags, ExplainFlags, HubFlags, InspectFlags, MergeFlags, ModelFlags, RunFlags,
    SamplingFlags,
};
pub use rpc::RpcFlags;
pub use serve::ServeFlags;
#[cfg(unix)]
pub use serve::{AnswerFlags, LimitFlags, ThoughtFlags};
pub use video::FrameFlags;
pub(super) use weight::{kernels, weights};
pub use worker::WorkerFlags;

#[derive(Debug, Parser)]
#[command(name = "illava", version, long_version = VERSION, about, arg_required_else_help = true)]
// If a flag is given twice, the last one counts, as in llama.cpp.
#[command(args_override_self = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const RUN_EXAMPLES: &str = "\
Examples:
  illava run -hf ggml-org/Qwen2-VL-2B-Instruct-GGUF --image photo.jpg -p \"What is this?\"
  illava run -m text.gguf -mm mmproj.gguf --image photo.jpg          (a chat about it)
  illava run -m text.gguf -mm mmproj.gguf --image photo.jpg -p \"What is this?\" --merge off -v";

const BATCH_EXAMPLES: &str = "\
Examples:
  illava batch photos -p \"Describe the picture.\" --captions -m text.gguf -mm mmproj.gguf
  illava batch photos -p \"Describe the picture.\" -o answers.csv -m text.gguf -mm mmproj.gguf
  illava batch requests.jsonl -o answers.jsonl --resume -m text.gguf -mm mmproj.gguf";

const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\nllama.cpp ",
    env!("ILLAVA_LLAMA_CPP_VERSION"),
    " (",
    env!("ILLAVA_LLAMA_CPP_CRATE"),
    ")\npatches ",
    env!("ILLAVA_PATCHES_SHA256")
);

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer a prompt about pictures; without -p on a terminal, chat about them
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<RunFlags>),
    /// Show which visual tokens were kept: pictures, one HTML page, and the numbers behind them
    Explain(Box<ExplainFlags>),
    /// Time merging off against on, part by part, alternated
    Bench(Box<BenchFlags>),
    /// Mark answers to a question set under several schedules: accuracy, speed and memory side by side
    Eval(Box<EvalFlags>),
    /// Answer over HTTP, as OpenAI's and llama.cpp's clients ask
    Serve(Box<ServeFlags>),
    /// Say what a pair of GGUF files is and what merging would do to it
    Inspect(Box<InspectFlags>),
    /// Answer many requests from a file, or about a folder of pictures, into a file
    #[command(after_help = BATCH_EXAMPLES)]
    Batch(Box<BatchFlags>),
    /// Download a model and its projector by name, and print where they are
    Pull(PullFlags),
    /// List the models that were downloaded
    List(ListFlags),
    /// Write a text model in a smaller type
    Quantize(super::quantize::QuantizeFlags),
    /// Compute layers of a text model for another machine
    Rpc(RpcFlags),
    /// Compute the answers of `serve`
    #[command(hide = true)]
    Worker(Box<WorkerFlags>),
    /// Print shell completions
    Completions { shell: clap_complete::Shell },
    /// Print the manual page, or write the pages of all commands to a folder
    Man { folder: Option<PathBuf> },
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn clap_finds_no_contradiction() {
        Cli::command().debug_assert();
    }

    #[test]
    fn llama_cpp_names() {
        let args = [
            "illava",
            "run",
            "-m",
            "t",
            "-mm",
            "p",
            "-p",
            "hi",
            "-sys",
            "s",
            "-n",
            "-1",
            "-c",
            "4096",
            "-b",
            "64",
            "-ub",
            "32",
            "-t",
            "2",
            "-tb",
            "1",
            "-ngl",
            "99",
            "-fa",
            "on",
            "-ctk",
            "q8_0",
            "-ctv",
            "q4_0",
            "--image",
            "a.png,b.png",
            "--image",
            "c.png",
            "--temp",
            "0",
            "--top-k",
            "0",
            "--top-p",
            "1",
            "--min-p",
            "0",
            "-s",
            "7",
            "-j",
            "{}",
            "--chat-template",
            "vicuna",
            "--no-mmproj-offload",
            "--mmproj-repack",
            "--image-max-tokens",
            "9",
            "-vv",
        ];
        let args = super::super::argv::read(args.map(Into::into)).unwrap().args;
        let cli = Cli::try_parse_from(args).unwrap();
        let Command::Run(run) = cli.command else { panic!("not run") };
        assert_eq!(run.image, ["a.png,b.png", "c.png"].map(OsString::from));
        assert_eq!((run.sampling.predict, run.sampling.draw.seed, run.model.verbose), (-1, 7, 2));
        assert_eq!((run.model.ubatch_size, run.model.cache_type_v.as_str()), (32, "q4_0"));
        assert_eq!(run.model.devices.gpu_layers.as_deref(), Some("99"));
        assert!(run.model.devices.no_mmproj_offload && run.model.mmproj_repack);
    }
}
