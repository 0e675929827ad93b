//! What a worker is told.

use clap::Args;

use super::flags::{MergeFlags, ModelFlags};
use super::slot_flags::SlotFlags;

#[derive(Debug, Args)]
pub struct WorkerFlags {
    #[command(flatten)]
    pub model: ModelFlags,
    #[command(flatten)]
    pub merge: MergeFlags,
    #[command(flatten)]
    pub slots: SlotFlags,

    /// Jinja chat template, or vicuna or chatml, instead of the model's own
    #[arg(
        long,
        value_name = "TEMPLATE",
        env = "LLAMA_ARG_CHAT_TEMPLATE",
        hide_env_values = true,
        help_heading = "Model"
    )]
    pub chat_template: Option<String>,
}
