//! Flags of the commands that answer several requests at once.

use std::path::PathBuf;

use clap::Args;

use crate::answer::{MAX_SEQUENCES, Sizes};
use crate::error::{Error, Result};

#[derive(Debug, Args)]
pub struct SlotFlags {
    /// Answers under way at once; each has its share of the context (short: -np)
    #[arg(long, value_name = "N", default_value_t = 4, env = "LLAMA_ARG_N_PARALLEL", help_heading = "Slots")]
    pub parallel: u32,
    /// Pictures that each slot is taken to hold: what merging takes away from them, the deeper KV segments do without
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Slots")]
    pub kv_pictures: u32,
    /// Decoder layers that requests may merge at: those of every preset and method, or of the default schedule alone
    #[arg(long, value_name = "WHOSE", value_parser = ["all", "default"], default_value = "all", help_heading = "Slots")]
    pub cuts: String,
    /// Encoded pictures kept in memory, MiB; 0 keeps none
    #[arg(long, value_name = "MIB", default_value_t = 512, help_heading = "Slots")]
    pub picture_cache: u32,
    /// Folder where encoded pictures are kept too
    #[arg(long, value_name = "FOLDER", help_heading = "Slots")]
    pub picture_folder: Option<PathBuf>,
    /// Size of that folder at most, MiB
    #[arg(long, value_name = "MIB", default_value_t = 4096, help_heading = "Slots")]
    pub picture_folder_size: u32,
}

impl SlotFlags {
    /// # Errors
    /// [`crate::error::Kind::Usage`] for a number of slots that llama.cpp does not take.
    pub(in crate::cli) fn sizes(&self, cells: Option<u32>) -> Result<Sizes> {
        if !(1..=MAX_SEQUENCES).contains(&self.parallel) {
            return Err(Error::usage(format!(
                "-np {}: give a number from 1 to {MAX_SEQUENCES}",
                self.parallel
            )));
        }
        Ok(Sizes {
            slots: self.parallel,
            // llama.cpp takes 0 for the model's own size. Here 0 means the size that a slot usually needs.
            cells: cells.filter(|&n| n > 0),
            pictures: self.kv_pictures,
            own_cuts: self.cuts == "default",
        })
    }

    pub(in crate::cli) fn picture_bytes(&self) -> u64 {
        u64::from(self.picture_cache) << 20
    }

    pub(in crate::cli) fn picture_folder(&self) -> Option<(PathBuf, u64)> {
        self.picture_folder.clone().map(|folder| (folder, u64::from(self.picture_folder_size) << 20))
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};

    use super::*;

    #[test]
    fn numbers_of_slots() {
        for (n, fits) in [("0", false), ("1", true), ("256", true), ("257", false)] {
            let command = SlotFlags::augment_args(Command::new("test"));
            let matches = command.get_matches_from(["test", "--parallel", n]);
            let flags = SlotFlags::from_arg_matches(&matches).unwrap();
            assert_eq!(flags.sizes(Some(0)).map(|sizes| sizes.cells).ok(), fits.then_some(None), "{n}");
            assert_eq!((flags.picture_bytes(), flags.picture_folder()), (512 << 20, None));
        }
    }
}
