//! What a worker is told.

use clap::Args;

use super::flags::{MergeFlags, ModelFlags};
use super::slot_flags::SlotFlags;
use super::text_flags::TemplateFlags;

#[derive(Debug, Args)]
pub struct WorkerFlags {
    #[command(flatten)]
    pub model: ModelFlags,
    #[command(flatten)]
    pub merge: MergeFlags,
    #[command(flatten)]
    pub slots: SlotFlags,
    #[command(flatten)]
    pub template: TemplateFlags,
}
