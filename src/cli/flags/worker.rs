//! What a worker is told.

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
    #[command(flatten)]
    pub template: TemplateFlags,
}
