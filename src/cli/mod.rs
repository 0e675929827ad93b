//! Command line: flags, the settings made of them, and one module for each command.

mod answering;
mod argv;
mod batch;
mod bench;
mod cached;
mod chat;
mod eval;
mod explain;
mod flags;
#[cfg(unix)]
mod handed_on;
mod images;
mod inspect;
mod interrupt;
mod logging;
mod model_files;
#[cfg(unix)]
mod models_file;
mod output;
mod place;
mod progress;
mod quantize;
mod rpc;
mod run;
#[cfg(unix)]
mod serve;
mod settings;
mod shell;
mod subjects;
mod threads;
mod video;
mod words;
mod worker;

use std::process::ExitCode;

use clap::Parser;

use crate::error::{Kind, Result};
use flags::{Cli, Command};

/// Parses the process's arguments, runs the command, and prints one line if it fails.
#[must_use]
pub fn main() -> ExitCode {
    threads::sleep_soon();
    let read = argv::read(std::env::args_os());
    let result = read.and_then(|read| {
        // clap returns help and version as errors of status 0.
        let cli = Cli::try_parse_from(read.args).unwrap_or_else(|error| error.exit());
        for line in &read.notes {
            eprintln!("note: {line}");
        }
        dispatch(cli)
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The reader closed the pipe because it has read enough.
            if error.kind() != Kind::Closed {
                eprintln!("error: {}", error.worded(words::flag));
            }
            ExitCode::from(error.kind().exit_code())
        }
    }
}

fn dispatch(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Run(flags) => {
            logging::start(flags.model.verbose);
            run::run(&settings::Run::new(&flags)?)
        }
        Command::Explain(flags) => {
            logging::start(flags.run.model.verbose);
            explain::explain(&flags)
        }
        Command::Bench(flags) => {
            logging::start(flags.model.verbose);
            bench::bench(&flags)
        }
        Command::Eval(flags) => {
            logging::start(flags.model.verbose);
            eval::eval(&flags)
        }
        Command::Inspect(flags) => {
            logging::start(flags.verbose);
            inspect::inspect(&flags)
        }
        Command::Batch(flags) => {
            logging::start(flags.worker.model.verbose);
            batch::batch(&flags)
        }
        Command::Worker(flags) => {
            logging::start(flags.model.verbose);
            worker::worker(&flags)
        }
        #[cfg(unix)]
        Command::Serve(flags) => {
            logging::start(flags.worker.model.verbose);
            serve::serve(&flags)
        }
        #[cfg(not(unix))]
        Command::Serve(_) => Err(crate::error::Error::usage(
            "serve: its worker speaks over a Unix socket, which this system has not; use batch",
        )),
        Command::Quantize(flags) => {
            logging::start(0);
            quantize::quantize(&flags)
        }
        Command::Rpc(flags) => {
            logging::start(flags.verbose);
            rpc::rpc(&flags)
        }
        Command::Pull(flags) => cached::pull(&flags),
        Command::List(flags) => cached::list(&flags),
        Command::Completions { shell } => shell::completions(shell),
        Command::Man { folder } => shell::man(folder.as_deref()),
    }
}
