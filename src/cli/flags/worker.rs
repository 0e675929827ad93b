//! Flags of a worker.

use std::path::PathBuf;

use clap::Args;

use super::commands::{MergeFlags, ModelFlags};
use super::slot::SlotFlags;
use super::text::TemplateFlags;

#[derive(Debug, Args)]
pub struct WorkerFlags {
    #[command(flatten)]
    pub model: ModelFlags,
    #[command(flatten)]
    pub merge: MergeFlags,
    #[command(flatten)]
    pub slots: SlotFlags,
    /// Folder where POST /slots/N?action=save keeps a slot's cache; without it, none is kept
    #[arg(long, value_name = "FOLDER", env = "LLAMA_ARG_SLOT_SAVE_PATH", help_heading = "Slots")]
    pub slot_save_path: Option<PathBuf>,
    #[command(flatten)]
    pub template: TemplateFlags,
}
