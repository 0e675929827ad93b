//! Completions and manual pages, made from the flags themselves.

use std::path::Path;

use clap::CommandFactory;

use super::flags::Cli;
use super::output;
use crate::error::{Error, Kind, Result};

pub(super) fn completions(shell: clap_complete::Shell) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "illava", &mut text);
    output::say(&String::from_utf8_lossy(&text))
}

pub(super) fn man(folder: Option<&Path>) -> Result<()> {
    let failed = |error: std::io::Error| Error::new(Kind::File, format!("manual page: {error}"));
    match folder {
        Some(folder) => {
            std::fs::create_dir_all(folder).map_err(failed)?;
            clap_mangen::generate_to(Cli::command(), folder).map_err(failed)
        }
        None => {
            let mut text = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut text).map_err(failed)?;
            output::say(&String::from_utf8_lossy(&text))
        }
    }
}
