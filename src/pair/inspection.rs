//! Facts of a pair and the effect of merging on it, without answering anything.

use std::path::Path;

use serde::Serialize;

use super::{CropFacts, Pair, TypeShare};
use crate::assembly::{self, Arrangement, Survivors};
use crate::error::Result;
use crate::media::Pixels;
use crate::native::{FlashAttention, KvType, TextOutline, Vision, VisionInfo, VisionOptions};
use crate::report;
use crate::schedule::{Choice, Grid, MergeFlag, Plan, Preset, Recommended, Shape, Strategy, select};
use crate::see::{LibraryCut, Marked, Prepared, Processor, Tower, Visual, cells, expected_rows};

/// Output of `inspect`.
#[derive(Debug, Serialize)]
pub struct Inspection {
    pub model: report::Model,
    pub text: TextFacts,
    /// None for a text model alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub projector: Option<ProjectorFacts>,
    /// Whether projector and text model are a pair.
    pub matches: bool,
    /// Reason why they are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mismatch: Option<String>,
    pub kv: KvFacts,
    pub recommended: Option<RecommendedFacts>,
    pub pictures: Vec<PictureFacts>,
    pub presets: Vec<PresetFacts>,
    /// A text-image model beside the pair, and what it chooses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop_model: Option<CropFacts>,
}

#[derive(Debug, Serialize)]
pub struct TextFacts {
    pub name: Option<String>,
    pub layers: u32,
    pub n_embd: u32,
    pub context_trained: u32,
    pub types: Vec<TypeShare>,
    /// Bytes of the weights that the CPU copies for its fastest kernels unless repacking is off.
    pub repacked_bytes: u64,
    pub has_chat_template: bool,
    /// Reason why the chat template cannot run, if it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_template_fault: Option<String>,
    pub can_merge: bool,
}

#[derive(Debug, Serialize)]
pub struct ProjectorFacts {
    pub kind: String,
    /// Blocks stored, and blocks the graph runs.
    pub layers: u32,
    pub layers_run: u32,
    pub width: u32,
    pub heads: u32,
    pub image_size: u32,
    pub patch_size: u32,
    pub n_embd_out: u32,
    pub patches_per_token: u32,
    pub class_token: bool,
    pub dynamic_size: bool,
    pub can_merge: bool,
    pub bytes: u64,
    /// Bytes among these in the layout of the CPU's fastest kernels, if the projector is repacked.
    pub repacked_bytes: u64,
    pub types: Vec<TypeShare>,
    /// Rule by which pictures are cut before the encoder.
    pub cuts: String,
    pub takes_videos: bool,
    /// Rule for the frames of a video, taken and encoded.
    pub videos: Option<String>,
    /// Facts that the file lacks and the model needs, one line each with the cost.
    pub missing: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct KvFacts {
    pub type_k: &'static str,
    pub type_v: &'static str,
    pub bytes_per_token: u64,
}

#[derive(Debug, Serialize)]
pub struct RecommendedFacts {
    pub vit_layers: Vec<u32>,
    pub vit_r: Vec<u32>,
    pub llm_layers: Vec<u32>,
    pub llm_keep: Vec<f64>,
    pub evaluated: Option<String>,
}

/// One picture size without merging.
#[derive(Debug, Clone, Serialize)]
pub struct PictureFacts {
    pub width: u32,
    pub height: u32,
    /// Frames, of a video.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frames: Option<usize>,
    /// Patches of each tile, across and down.
    pub tiles: Vec<[u32; 2]>,
    /// Tokens of the text model around and between them.
    pub marks: u32,
    pub tokens: u32,
    pub kv_bytes: u64,
    #[serde(skip)]
    arrangement: Arrangement,
}

/// Effect of a preset on this pair.
#[derive(Debug, Serialize)]
pub struct PresetFacts {
    pub name: &'static str,
    /// Name, with the strategy if it is not the preset's own.
    pub label: String,
    /// The rule for the tokens that go.
    pub strategy: &'static str,
    pub vit_layers: Vec<u32>,
    pub llm_layers: Vec<u32>,
    /// Positions of a merged picture's rows in the decoder: `own` or `closed`.
    pub positions: Option<&'static str>,
    /// Reason why this pair cannot take it.
    pub error: Option<String>,
    pub remark: Option<String>,
    /// In the order of `pictures`.
    pub pictures: Vec<MergedFacts>,
}

#[derive(Debug, Serialize)]
pub struct MergedFacts {
    pub vit_r: Vec<u32>,
    pub llm_r: Vec<u32>,
    /// Whether the numbers of tokens depend on the picture, and are those of survivors spread evenly.
    pub estimated: bool,
    pub tokens_after_encoder: u32,
    pub visual_kv: Vec<report::VisualKv>,
    pub kv_bytes: u64,
    /// Whether pooling or a cap keeps most of the rows that merging in the encoder could save.
    pub kept_by_pooling: bool,
}

/// Sizes that pictures commonly have; a fixed-size encoder shows the first only.
const SIZES: [(u32, u32); 5] = [(336, 336), (640, 480), (1024, 768), (1280, 720), (1920, 1080)];

/// Settings of an inspection.
#[derive(Debug, Clone, Copy)]
pub struct InspectOptions<'a> {
    pub type_k: KvType,
    pub type_v: KvType,
    pub image_max_tokens: Option<u32>,
    /// Whether the image encoder is loaded repacked.
    pub repack: bool,
    /// Sizes of pictures in pixels; without any, common ones.
    pub sizes: &'a [(u32, u32)],
    pub grid: Grid,
    /// `None`: each preset with its own.
    pub strategy: Option<Strategy>,
}

impl Inspection {
    /// # Errors
    /// Files that are missing, damaged or of the other kind; a KV type the heads cannot take.
    pub fn new(text: &Path, projector: Option<&Path>, asked: &InspectOptions<'_>) -> Result<Self> {
        let InspectOptions { type_k, type_v, image_max_tokens, repack, sizes, grid, strategy } = *asked;
        let pair = Pair::open(text, projector)?;
        let bytes_per_token = pair.kv.bytes(0, pair.n_layer, type_k, type_v)?;
        let options = VisionOptions {
            use_gpu: false,
            flash_attention: FlashAttention::Auto,
            threads: 1,
            min_tokens: None,
            max_tokens: image_max_tokens,
            repack,
        };
        let mut tower = projector.map(|path| Tower::load(path, options, |_| true)).transpose()?;
        let model = TextOutline::load(text)?;
        let can_merge = model.can_merge();
        let info = tower.as_ref().map_or_else(VisionInfo::none, |tower| tower.info().clone());
        // Counts of tokens need no model that finds regions.
        let shape = Shape { finds_regions: true, ..pair.shape(&info, can_merge) };
        let sizes = if sizes.is_empty() { &SIZES } else { sizes };
        let kv = |from: u32, to: u32| pair.kv.bytes(from, to, type_k, type_v);
        let (mut shown, mut planned, mut mismatch, mut encoder) = (Vec::new(), Vec::new(), None, None);
        if let Some(tower) = &mut tower {
            let mut missing = std::mem::take(&mut tower.missing);
            missing.extend(pair.doubt(&info));
            missing.extend(pair.merging_beside(&info, can_merge));
            let (vision, processor) = tower.parts();
            mismatch = pair.mismatch(&info);
            if info.by_library && mismatch.is_none() {
                mismatch = vision.set_outline(&model).err().map(|error| error.to_string());
            }
            shown = pictures(vision, processor, &shape, bytes_per_token, sizes)?;
            let newline = !processor.newline.is_empty();
            planned = presets(&pair, &shape, &shown, (grid, strategy), newline, &kv)?;
            encoder = Some(projector_facts(info.clone(), pair.projector_types.clone(), processor, missing));
        }
        let template_fault = super::load::template(&model.chat_setup(), None, text, &mut Vec::new())
            .and_then(|template| template.check(super::facts::family(&info), projector.is_some()))
            .err();
        Ok(Self {
            matches: mismatch.is_none(),
            mismatch,
            text: TextFacts {
                name: pair.text_name,
                layers: pair.n_layer,
                n_embd: pair.n_embd,
                context_trained: pair.n_ctx_train,
                types: pair.text_types,
                repacked_bytes: model.repacked_bytes(),
                has_chat_template: pair.has_chat_template,
                chat_template_fault: template_fault.map(|fault| fault.to_string()),
                can_merge,
            },
            projector: encoder,
            kv: KvFacts { type_k: type_k.name(), type_v: type_v.name(), bytes_per_token },
            recommended: pair.recommended.map(recommended_facts),
            model: pair.model,
            pictures: shown,
            presets: planned,
            crop_model: None,
        })
    }
}

fn projector_facts(
    info: VisionInfo,
    types: Vec<TypeShare>,
    processor: &Processor,
    missing: Vec<String>,
) -> ProjectorFacts {
    ProjectorFacts {
        kind: info.projector,
        layers: info.layers,
        layers_run: info.layers_run,
        width: info.width,
        heads: info.heads,
        image_size: info.image_size,
        patch_size: info.patch_size,
        n_embd_out: info.n_embd_out,
        patches_per_token: info.group,
        class_token: info.class_token,
        dynamic_size: info.dynamic_size,
        can_merge: info.can_merge,
        bytes: info.weight_bytes,
        repacked_bytes: info.repacked_bytes,
        types,
        cuts: processor.describe(),
        takes_videos: processor.video_sampling().is_some(),
        videos: processor.describe_videos(),
        missing,
    }
}

fn recommended_facts(own: Recommended) -> RecommendedFacts {
    RecommendedFacts {
        vit_layers: own.vit_layers,
        vit_r: own.vit_r,
        llm_layers: own.llm_layers,
        llm_keep: own.llm_keep,
        evaluated: own.evaluated,
    }
}

fn pictures(
    vision: &mut Vision,
    processor: &Processor,
    shape: &Shape,
    bytes_per_token: u64,
    sizes: &[(u32, u32)],
) -> Result<Vec<PictureFacts>> {
    let mut out: Vec<PictureFacts> = Vec::new();
    for &(width, height) in sizes {
        // Only the size matters to the choice of tiles.
        let blank = blank(width, height);
        let (mut marks, mut breaks) = (0, 0);
        let shown = Visual::Image(&blank);
        // Without its text model the library cannot mark a picture.
        if vision.info().by_library && vision.text().is_none() {
            return Ok(out);
        }
        let prepared = if vision.info().by_library { None } else { processor.prepare(&shown)? };
        let (tiles, arrangement) = match prepared {
            Some(prepared) => (patches(vision, &prepared), prepared.arrangement),
            None => {
                let picture = Marked::new(vision, processor, &shown)?;
                let cut = LibraryCut::new(&picture.parts, &picture.tiles(vision)?, shape);
                (marks, breaks) = (cut.marks, cut.breaks);
                (cut.tiles, Arrangement::Plain)
            }
        };
        let known = |other: &PictureFacts| other.tiles == tiles && other.arrangement == arrangement;
        if !out.first().is_some_and(known) {
            out.push(picture_facts(
                (width, height),
                None,
                (tiles, marks, breaks),
                arrangement,
                processor,
                shape,
                bytes_per_token,
            ));
        }
    }
    if let Some(frames) = processor.usual_frames() {
        let (width, height) = sizes.first().copied().unwrap_or(SIZES[0]);
        let blank = blank(width, height);
        let shown = Visual::Video(vec![&blank; frames]);
        let by_library = vision.info().by_library;
        let marks = if by_library { Marked::new(vision, processor, &shown)?.marks() } else { 0 };
        if let Some(prepared) = processor.prepare(&shown)? {
            let (tiles, arrangement) = (patches(vision, &prepared), prepared.arrangement);
            let size = (width, height);
            out.push(picture_facts(
                size,
                Some(frames),
                (tiles, marks, 0),
                arrangement,
                processor,
                shape,
                bytes_per_token,
            ));
        }
    }
    Ok(out)
}

fn blank(width: u32, height: u32) -> Pixels {
    Pixels { width, height, rgb: vec![0; width as usize * height as usize * 3], remark: None, moment: None }
}

/// Patches of each tile, across and down.
fn patches(vision: &Vision, prepared: &Prepared) -> Vec<[u32; 2]> {
    let patch = vision.info().patch_size.max(1);
    prepared.cuts.iter().map(|cut| [cut.first.width / patch, cut.first.height / patch]).collect()
}

fn picture_facts(
    (width, height): (u32, u32),
    frames: Option<usize>,
    (tiles, marks, breaks): (Vec<[u32; 2]>, u32, u32),
    arrangement: Arrangement,
    processor: &Processor,
    shape: &Shape,
    bytes_per_token: u64,
) -> PictureFacts {
    let full: Vec<Survivors> =
        tiles.iter().map(|tile| Survivors::all(cells(tile, shape.group * shape.pooled))).collect();
    let tokens =
        marks + breaks + count(assembly::rows(arrangement, &full, !processor.newline.is_empty()).len());
    PictureFacts {
        width,
        height,
        frames,
        tiles,
        marks,
        tokens,
        kv_bytes: bytes_per_token * u64::from(tokens),
        arrangement,
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn presets(
    pair: &Pair,
    shape: &Shape,
    pictures: &[PictureFacts],
    (grid, strategy): (Grid, Option<Strategy>),
    newline: bool,
    kv: &dyn Fn(u32, u32) -> Result<u64>,
) -> Result<Vec<PresetFacts>> {
    let own = pair.recommended.iter().map(|_| MergeFlag::Model);
    // A method has a schedule of its own, too.
    let method = strategy.filter(|strategy| strategy.is_method());
    own.chain(Preset::ALL.into_iter().map(MergeFlag::Preset))
        .chain([MergeFlag::Auto])
        .map(Some)
        .chain(method.map(|_| None))
        .map(|flag| {
            let choice = Choice { merge: flag, grid, strategy, ..Choice::default() };
            let name = flag.map_or(strategy.unwrap_or_default().name(), MergeFlag::name);
            let mut facts = PresetFacts {
                name,
                label: name.to_owned(),
                strategy: "",
                vit_layers: Vec::new(),
                llm_layers: Vec::new(),
                positions: None,
                error: None,
                remark: None,
                pictures: Vec::new(),
            };
            let schedule = match select(&choice, shape, pair.recommended.as_ref()) {
                Ok(schedule) => schedule,
                Err(error) => {
                    facts.error = Some(error.to_string());
                    return Ok(facts);
                }
            };
            facts.label = schedule.label();
            if flag == Some(MergeFlag::Auto) {
                facts.label += ", at most";
            }
            facts.strategy = schedule.strategy.name();
            facts.vit_layers = match schedule.strategy {
                Strategy::Prumerge | Strategy::VisionZip | Strategy::Hired => vec![shape.vit_layers_run],
                _ => schedule.encoder.steps.iter().map(|(layer, _)| *layer).collect(),
            };
            facts.llm_layers = schedule.merge_layers();
            facts.positions = Some(schedule.positions.name());
            facts.remark.clone_from(&schedule.remark);
            for picture in pictures {
                let patches: Vec<u32> = picture.tiles.iter().map(|[x, y]| x * y).collect();
                let planned = Plan::encoder(&schedule, shape, &patches).and_then(|tiles| {
                    let cells: Vec<(u32, u32)> =
                        picture.tiles.iter().map(|tile| cells(tile, shape.group * shape.pooled)).collect();
                    let (tokens, estimated) =
                        expected_rows(&cells, &tiles, picture.arrangement, grid, newline)?;
                    // Breaks between lines, of which those behind a line without a token go.
                    let full: u32 = cells.iter().map(|(across, down)| across * down).sum();
                    let breaks = match picture.arrangement {
                        Arrangement::Plain => picture.tokens.saturating_sub(full + picture.marks),
                        _ => 0,
                    };
                    let tokens = tokens + breaks + picture.marks;
                    // Which patches stay decides which pooled cells, and which lines, are empty.
                    let emptied = (shape.pooled > 1 || breaks > 0) && !schedule.encoder.steps.is_empty();
                    let estimated = estimated || emptied;
                    let plan = Plan::of_marked_span(
                        &schedule,
                        shape,
                        tiles,
                        (picture.tokens, tokens),
                        picture.marks,
                    )?;
                    Ok((plan, estimated))
                });
                match planned {
                    Ok((plan, estimated)) => {
                        let figures = merged(&plan, kv)?;
                        // No grid of the authors' code has such cells.
                        let kept_by_pooling = figures.kept_by_pooling && shape.pooled <= 1;
                        facts.pictures.push(MergedFacts { estimated, kept_by_pooling, ..figures });
                    }
                    Err(error) => facts.error = Some(error.to_string()),
                }
            }
            Ok(facts)
        })
        .collect()
}

fn merged(plan: &Plan, kv: &dyn Fn(u32, u32) -> Result<u64>) -> Result<MergedFacts> {
    let mut kv_bytes = 0;
    for segment in &plan.segments {
        kv_bytes += kv(segment.layers.0, segment.layers.1)? * u64::from(segment.tokens);
    }
    Ok(MergedFacts {
        vit_r: plan
            .tiles
            .first()
            .map(|tile| tile.steps.iter().map(|step| step.r).collect())
            .unwrap_or_default(),
        llm_r: plan.decoder_r(),
        kept_by_pooling: plan.kept_by_pooling().is_some(),
        estimated: false,
        tokens_after_encoder: plan.tokens,
        visual_kv: plan
            .segments
            .iter()
            .map(|segment| report::VisualKv {
                layers: [segment.layers.0, segment.layers.1],
                tokens: segment.tokens,
            })
            .collect(),
        kv_bytes,
    })
}
