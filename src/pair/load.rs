//! Loader from two paths to a pair: every check comes before the library sees weights.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::facts::family;
use super::{Facts, Pair, TextSide};
use crate::error::{Error, Field, Result};
use crate::native::{
    ChatSetup, FlashAttention, KvType, LoadOptions, Placement, TextModel, VisionInfo, VisionOptions, Weights,
    has_own_gpu,
};
use crate::prompt::{Detected, Template};
use crate::report::milliseconds;
use crate::schedule::Shape;
use crate::see::crop::RegionScorer;
use crate::see::{ComputeLock, Tower, TowerEncoder};
use crate::stop::Stop;

/// Settings of loading and running a pair.
#[derive(Debug, Clone)]
pub struct LoadSettings {
    pub text: PathBuf,
    /// Without one the model answers texts alone.
    pub projector: Option<PathBuf>,
    /// Text-image model that finds regions for a question.
    pub crop_model: Option<PathBuf>,
    pub threads: u32,
    /// Threads for prompts and pictures.
    pub threads_batch: u32,
    pub batch: u32,
    pub ubatch: u32,
    pub gpu_layers: Option<u32>,
    /// Devices for those layers.
    pub placement: Placement,
    pub projector_offload: bool,
    /// Whether the image encoder's weights are laid out anew for the CPU's fastest kernels, even where nothing is known
    /// to gain from it.
    pub projector_repack: bool,
    /// Layout in memory of the text model's weights that stay on the CPU.
    pub weights: Weights,
    pub flash_attention: FlashAttention,
    pub type_k: KvType,
    pub type_v: KvType,
    pub image_min_tokens: Option<u32>,
    pub image_max_tokens: Option<u32>,
    /// Jinja source or the name of a built-in template, instead of the model's own.
    pub chat_template: Option<String>,
    pub stop: Stop,
}

impl LoadSettings {
    fn options(&self) -> LoadOptions {
        LoadOptions { gpu_layers: self.gpu_layers, placement: self.placement.clone(), weights: self.weights }
    }
}

/// The part that is being loaded, for a progress display; shares go from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loading {
    Projector,
    Text(f32),
}

/// A loaded pair, taken apart: either side works without the other.
pub struct Loaded {
    pub text: TextSide,
    /// `None` for a text model alone.
    pub encoder: Option<TowerEncoder>,
    /// One line for each thing worth knowing.
    pub remarks: Vec<String>,
}

impl Loaded {
    /// Makes pictures be encoded in pieces from now on. Returns the lock, which every other computation takes
    /// too; `None` if a GPU computes, which shares itself out.
    pub fn share_processor(&mut self) -> Option<ComputeLock> {
        let on_cpu =
            self.text.facts.vision.backend == "CPU" && !self.text.settings.options().computes_elsewhere();
        let lock = on_cpu.then(ComputeLock::default)?;
        self.encoder.as_mut()?.share(lock.clone());
        Some(lock)
    }
}

/// Loads a pair.
///
/// # Errors
/// [`crate::error::Kind::File`] for damaged files, [`crate::error::Kind::Model`] for files that are no
/// pair, [`crate::error::Kind::Prompt`] for an unusable chat template, [`crate::error::Kind::Interrupted`]
/// if `settings.stop` is asked for meanwhile.
pub fn load(settings: &LoadSettings, progress: impl Fn(Loading) + 'static) -> Result<Loaded> {
    let start = Instant::now();
    settings.weights.kernels.choose();
    tracing::info!(kernels = crate::native::kernels_used(), "products of many rows on the CPU");
    let pair = Pair::open(&settings.text, settings.projector.as_deref())?;
    check_cache_types(&pair, settings)?;
    let stop = settings.stop;
    let mut tower = None;
    if let Some(file) = &settings.projector {
        progress(Loading::Projector);
        let options = VisionOptions {
            // Encoding stays here: what it computes with cannot be sent to another machine.
            use_gpu: settings.projector_offload && (settings.placement.rpc.is_empty() || has_own_gpu()),
            flash_attention: settings.flash_attention,
            threads: settings.threads_batch,
            min_tokens: settings.image_min_tokens,
            max_tokens: settings.image_max_tokens,
            repack: settings.projector_repack || settings.weights.kernels.wants_repacking(),
        };
        let loaded = Tower::load(file, options, |_| !stop.is_asked())?;
        pair.check(loaded.info())?;
        tower = Some(loaded);
    }
    let scorer = scorer(settings)?;
    let model = TextModel::load(&settings.text, &settings.options(), move |share| {
        progress(Loading::Text(share));
        !stop.is_asked()
    })?;
    let mut remarks: Vec<String> = Vec::new();
    let wants_devices = settings.gpu_layers.is_some_and(|layers| layers > 0)
        && settings.placement.devices.as_ref().is_none_or(|devices| !devices.is_empty());
    if wants_devices && !settings.options().computes_elsewhere() {
        remarks.push(format!(
            "{}: this build has no GPU backend, so every layer is on the CPU; build it with the cargo feature cuda, metal or vulkan",
            Field::GpuLayers
        ));
    }
    if let Some(tower) = &mut tower {
        tower.set_text(&model)?;
        remarks.extend(pair.merging_beside(tower.info(), model.can_merge()));
        if tower.info().by_library && settings.projector_repack {
            remarks.push("this projector is not repacked: llama.cpp loads it".to_owned());
        }
        remarks.extend(pair.doubt(tower.info()));
        remarks.append(&mut tower.missing);
    }
    let given = settings.chat_template.as_deref();
    let template = template(&model.chat_setup(), given, &settings.text, &mut remarks)?;
    let info = tower.as_ref().map_or_else(VisionInfo::none, |tower| tower.info().clone());
    template.check(family(&info), tower.is_some())?;
    let facts = Facts {
        shape: Shape {
            finds_regions: scorer.is_some(),
            // Without pictures there is nothing to merge.
            ..pair.shape(&info, model.can_merge() && tower.is_some())
        },
        family: family(&info),
        n_embd_in: model.n_embd_in(),
        n_pos: model.n_pos(),
        weight_bytes: model.bytes()
            + info.weight_bytes
            + scorer.as_ref().map_or(0, |scorer| scorer.info().weight_bytes),
        threads: settings.threads,
        load_ms: milliseconds(start),
        vision: info,
        counts_pictures: tower.as_ref().is_some_and(Tower::counts_pictures),
        video_sampling: tower.as_ref().and_then(Tower::video_sampling),
        pair,
    };
    let encoder = tower.map(|tower| {
        let mut encoder = TowerEncoder::new(tower, facts.shape.clone(), facts.n_pos, stop);
        encoder.scorer = scorer;
        encoder
    });
    let text = TextSide::new(Arc::new(facts), model, template, settings.clone());
    Ok(Loaded { text, encoder, remarks })
}

/// The text-image model, if one is given: it computes where the image encoder does.
fn scorer(settings: &LoadSettings) -> Result<Option<RegionScorer>> {
    let Some(file) = &settings.crop_model else { return Ok(None) };
    if settings.projector.is_none() {
        return Err(Error::usage(format!(
            "{}: it finds regions of pictures, which need an image projector; give one with {}",
            Field::CropModel,
            Field::Projector
        )));
    }
    let use_gpu = settings.projector_offload && (settings.placement.rpc.is_empty() || has_own_gpu());
    RegionScorer::load(file, use_gpu, settings.threads_batch).map(Some)
}

fn check_cache_types(pair: &Pair, settings: &LoadSettings) -> Result<()> {
    pair.kv.bytes(0, pair.n_layer, settings.type_k, settings.type_v)?;
    if settings.type_v.is_quantised() && settings.flash_attention == FlashAttention::Off {
        return Err(Error::usage(format!(
            "{} {}: a quantised V cache needs flash attention; do not switch off {}",
            Field::CacheTypeV,
            settings.type_v.name(),
            Field::FlashAttention
        )));
    }
    Ok(())
}

pub(super) fn template(
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
            remarks.push(format!(
                "{}: no chat template in the file, using {} by its vocabulary; another can be given",
                path.display(),
                detected.name()
            ));
            detected.name()
        }
    };
    Template::new(source, &chat.bos, &chat.eos)
}
