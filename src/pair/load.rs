//! From two paths to a loaded pair: every check before the library sees weights.

use std::path::{Path, PathBuf};

use super::Pair;
use crate::error::{Error, Result};
use crate::native::{ChatSetup, FlashAttention, KvType, Weights};
use crate::prompt::{Detected, Template};
use crate::stop::Stop;

/// How a pair is loaded and run.
#[derive(Debug, Clone)]
pub struct LoadSettings {
    pub text: PathBuf,
    /// Without one the model answers texts alone.
    pub projector: Option<PathBuf>,
    pub threads: u32,
    /// Threads for prompts and pictures.
    pub threads_batch: u32,
    pub batch: u32,
    pub ubatch: u32,
    pub gpu_layers: Option<u32>,
    pub projector_offload: bool,
    /// Whether the image encoder's weights are laid out anew for the CPU's fastest kernels.
    pub projector_repack: bool,
    /// Where the text model's weights lie, as far as they stay on the CPU.
    pub weights: Weights,
    pub flash_attention: FlashAttention,
    pub type_k: KvType,
    pub type_v: KvType,
    pub image_max_tokens: Option<u32>,
    /// Jinja source or the name of a built-in template, instead of the model's own.
    pub chat_template: Option<String>,
    pub stop: Stop,
}

/// What is being loaded, for a progress display; shares go from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loading {
    Projector,
    Text(f32),
}

pub(crate) fn check_cache_types(pair: &Pair, settings: &LoadSettings) -> Result<()> {
    pair.kv.bytes(0, pair.n_layer, settings.type_k, settings.type_v)?;
    if settings.type_v.is_quantised() && settings.flash_attention == FlashAttention::Off {
        return Err(Error::usage(format!(
            "-ctv {}: a quantised V cache needs flash attention; leave out -fa off",
            settings.type_v.name()
        )));
    }
    Ok(())
}

pub(crate) fn template(
    chat: &ChatSetup,
    given: Option<&str>,
    path: &Path,
    remarks: &mut Vec<String>,
) -> Result<Template> {
    let source = match (given, &chat.template) {
        (Some(given), _) => given,
        (None, Some(own)) => own,
        (None, None) => {
            let detected = Detected::of(|_| chat.has_chatml_marks, chat.grouped_queries);
            remarks.push(format!("{}: no chat template in the file, using {} by its vocabulary; --chat-template chooses another", path.display(), detected.name()));
            detected.name()
        }
    };
    Template::new(source, &chat.bos, &chat.eos)
}
