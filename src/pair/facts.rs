//! Facts of a pair of files, of which plans, reports and `inspect` are made.

use std::path::Path;

use serde::Serialize;

use super::generation::{Fit, Generation, Told};
use super::{KvShape, header};
use crate::error::{Error, Field, Kind, Result};
use crate::media::video::Sampling;
use crate::native::{Gguf, VisionInfo};
use crate::prompt::Family;
use crate::report;
use crate::schedule::{Choice, MergeFlag, Preset, Recommended, Schedule, Shape, Strategy, select};

/// Facts in the two headers, before any weight is loaded.
#[derive(Debug)]
pub struct Pair {
    pub arch: String,
    pub model: report::Model,
    pub text_name: Option<String>,
    pub n_embd: u32,
    pub n_layer: u32,
    /// First layers of the text model that add image features.
    pub n_deepstack: u32,
    /// Tokens of a picture have a line and a column in the text model.
    pub has_axes: bool,
    pub n_ctx_train: u32,
    pub kv: KvShape,
    pub has_chat_template: bool,
    pub text_types: Vec<TypeShare>,
    pub projector_types: Vec<TypeShare>,
    pub recommended: Option<Recommended>,
    pub(super) generation: Told,
}

/// Bytes of one tensor type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TypeShare {
    #[serde(rename = "type")]
    pub name: String,
    pub bytes: u64,
}

/// A pair once it is loaded.
#[derive(Debug)]
pub struct Facts {
    pub pair: Pair,
    pub vision: VisionInfo,
    pub shape: Shape,
    pub family: Family,
    /// Values of an embedding that enters the decoder.
    pub n_embd_in: u32,
    pub n_pos: usize,
    pub weight_bytes: u64,
    pub threads: u32,
    pub load_ms: f64,
    /// Whether a picture among others is encoded otherwise than a single one.
    pub counts_pictures: bool,
    /// The rule for the frames of a video; `None` for a model that takes no videos.
    pub video_sampling: Option<Sampling>,
}

impl Facts {
    #[must_use]
    pub fn takes_videos(&self) -> bool {
        self.video_sampling.is_some()
    }

    /// The schedule that `choice` means for this pair.
    ///
    /// # Errors
    /// A choice that this pair cannot take.
    pub fn schedule(&self, choice: &Choice) -> Result<Schedule> {
        let open =
            choice.merge.is_none() && choice.keep.is_none() && choice.vit.is_none() && choice.llm.is_none();
        if self.vision.by_library && open && self.pair.recommended.is_none() {
            // The cost of merging in these models is not known: it is only for requests that name it.
            let off = Choice { merge: Some(MergeFlag::Off), ..choice.clone() };
            return select(&off, &self.shape, None);
        }
        select(choice, &self.shape, self.pair.recommended.as_ref())
    }
}

/// Returns the choice for a conversation that shows a video as one span. If no schedule was asked for, it is the video's.
/// A model or a method with a schedule of its own keeps that one. A pair that merges nothing unless asked to stays so.
#[must_use]
pub fn usual_choice(asked: &Choice, facts: &Facts) -> Choice {
    let open = asked.merge.is_none() && asked.vit.is_none() && asked.llm.is_none();
    let method = asked.strategy.is_some_and(Strategy::is_method);
    let own = method || facts.pair.recommended.is_some() || facts.n_pos > 1;
    let merges = facts.shape.vit_can_merge || facts.shape.llm_can_merge;
    let own = own || facts.vision.by_library || !merges;
    let merge = if open && !own { Some(MergeFlag::Preset(Preset::Video)) } else { asked.merge };
    Choice { merge, ..asked.clone() }
}

impl Pair {
    /// Reads both headers, or that of the text model alone.
    ///
    /// # Errors
    /// [`Kind::File`] for a file that is missing, damaged or of the other kind.
    pub fn open(text: &Path, projector: Option<&Path>) -> Result<Self> {
        let text_file = Gguf::open(text)?;
        let projector = projector.map(|path| Ok((path, Gguf::open(path)?))).transpose()?;
        let arch = text_file.string("general.architecture").unwrap_or_default();
        if arch == "clip" {
            return Err(kind_of_file(
                text,
                &format!(
                    "an image projector, not a text model; give it as {}, and the text model as {}",
                    Field::Projector,
                    Field::TextModel
                ),
            ));
        }
        if arch.is_empty() {
            return Err(kind_of_file(text, "no text model: it names no architecture"));
        }
        if let Some((path, file)) = &projector {
            check_kind(path, file)?;
        }
        let number = |key: &str| {
            text_file.u32(&format!("{arch}.{key}")).ok_or_else(|| {
                kind_of_file(text, &format!("no usable text model: it does not say {arch}.{key}"))
            })
        };
        let (n_embd, stored) = (number("embedding_length")?, number("block_count")?);
        let damaged = |path: &Path, fault: &str| {
            Error::new(Kind::File, format!("{}: damaged header ({fault}); fetch it again", path.display()))
        };
        let heads = text_file.u32(&format!("{arch}.attention.head_count")).filter(|&n| n > 0).unwrap_or(1);
        let length = text_file.u32(&format!("{arch}.attention.key_length")).unwrap_or(n_embd / heads);
        if let Some(fault) = header::text_fault(&text_file, &arch, stored, u64::from(length)) {
            return Err(damaged(text, &fault));
        }
        if let Some((path, file)) = &projector
            && let Some(fault) = header::projector_fault(file)
        {
            return Err(damaged(path, &fault));
        }
        // The last ones may guess further tokens, and take no part in a prompt.
        let n_layer = stored - header::guessing_layers(&text_file, &arch);
        let kv = KvShape::read(&text_file, &arch, n_embd, n_layer, stored).ok_or_else(|| {
            kind_of_file(text, "no usable text model: its number of attention heads is missing")
        })?;
        Ok(Self {
            model: report::Model {
                text: file_name(text),
                projector: projector.as_ref().map_or_else(String::new, |(path, _)| file_name(path)),
                arch: arch.clone(),
                text_type: file_type(&text_file),
                projector_type: projector.as_ref().map_or_else(String::new, |(_, file)| file_type(file)),
            },
            text_name: text_file.string("general.name"),
            n_embd,
            n_layer,
            n_deepstack: text_file.u32(&format!("{arch}.n_deepstack_layers")).unwrap_or(0),
            has_axes: text_file.integers(&format!("{arch}.rope.dimension_sections")).is_some(),
            n_ctx_train: number("context_length")?,
            kv,
            has_chat_template: text_file.string("tokenizer.chat_template").is_some(),
            text_types: shares(&text_file),
            projector_types: projector.as_ref().map_or_else(Vec::new, |(_, file)| shares(file)),
            recommended: match &projector {
                Some((path, file)) => recommended(file, path)?,
                None => None,
            },
            generation: if arch == QWEN2VL { Told::read(&text_file) } else { Told::default() },
            arch,
        })
    }

    /// Checks that projector and text model belong together, for which the projector has to be loaded.
    ///
    /// # Errors
    /// [`Kind::Model`] with the reason.
    pub fn check(&self, vision: &VisionInfo) -> Result<()> {
        match self.mismatch(vision) {
            None => Ok(()),
            Some(reason) => Err(Error::new(
                Kind::Model,
                format!("{reason}: they are not a pair; give the mmproj file made for this text model"),
            )),
        }
    }

    /// Returns the reason why projector and text model are no pair, if they are none. Equal widths do not
    /// make one: Qwen2-VL's text model reads positions of three axes, and no other reads its projector's
    /// output.
    #[must_use]
    pub fn mismatch(&self, vision: &VisionInfo) -> Option<String> {
        let (projector, text) = (&self.model.projector, &self.model.text);
        // Rows with features for several layers are several times as wide; the library compares them once both are loaded.
        let fits = vision.n_embd_out == self.n_embd
            || (vision.by_library && vision.n_embd_out.is_multiple_of(self.n_embd.max(1)));
        if !fits {
            return Some(format!(
                "{projector} gives embeddings {} wide, {text} takes {}",
                vision.n_embd_out, self.n_embd
            ));
        }
        match (is_qwen2vl(vision), self.arch == QWEN2VL) {
            (true, false) => Some(format!(
                "{projector} is a projector of the Qwen2-VL family ({}), {text} is a model of architecture {}",
                vision.projector, self.arch
            )),
            (false, true) if !vision.by_library => Some(format!(
                "{text} is a text model of the Qwen2-VL family, {projector} is a projector of another ({})",
                vision.projector
            )),
            _ => self.other_generation(vision, Fit::Not),
        }
    }

    /// A line about a projector that the text model's vocabulary says is of the other generation of Qwen-VL.
    #[must_use]
    pub fn doubt(&self, vision: &VisionInfo) -> Option<String> {
        let reason = self.other_generation(vision, Fit::Doubtful)?;
        Some(format!(
            "{reason} by its vocabulary: if answers make no sense, give the mmproj file made for it"
        ))
    }

    /// The two generations, if projector and text model go together as badly as `fit` says.
    fn other_generation(&self, vision: &VisionInfo, fit: Fit) -> Option<String> {
        let of = Generation::of_projector(&vision.projector).filter(|of| self.generation.fit(*of) == fit)?;
        let (projector, text) = (&self.model.projector, &self.model.text);
        Some(format!(
            "{projector} is a projector of {}, {text} is a text model of {}",
            of.name(),
            of.other().name()
        ))
    }
}

pub(super) fn family(vision: &VisionInfo) -> Family {
    match vision {
        VisionInfo { by_library: true, .. } => Family::Library,
        _ if is_qwen2vl(vision) => Family::Qwen2Vl,
        _ => Family::Llava,
    }
}

/// The architecture of Qwen2-VL's and Qwen2.5-VL's text models.
const QWEN2VL: &str = "qwen2vl";

fn is_qwen2vl(vision: &VisionInfo) -> bool {
    !vision.by_library
        && (vision.projector.starts_with("qwen2vl") || vision.projector.starts_with("qwen2.5vl"))
}

/// Refuses a file that is no projector, and one of the first converters, which does not say of which kind it is.
fn check_kind(path: &Path, file: &Gguf) -> Result<()> {
    if file.string("general.architecture").unwrap_or_default() != "clip" {
        return Err(kind_of_file(
            path,
            &format!(
                "no image projector; give the mmproj file as {}, and the text model as {}",
                Field::Projector,
                Field::TextModel
            ),
        ));
    }
    if file.string("clip.projector_type").is_none() && file.string("clip.vision.projector_type").is_none() {
        return Err(kind_of_file(
            path,
            "an image projector without the key clip.projector_type, as the first converters wrote them; add the key (`mlp` for LLaVA-1.5 and LLaVA-NeXT) with gguf's gguf_new_metadata.py, or convert the model again with tools/convert.py",
        ));
    }
    Ok(())
}

fn kind_of_file(path: &Path, text: &str) -> Error {
    Error::new(Kind::File, format!("{} is {text}", path.display()))
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn shares(file: &Gguf) -> Vec<TypeShare> {
    file.types().into_iter().map(|t| TypeShare { name: t.name, bytes: t.bytes }).collect()
}

/// The file's type as llama.cpp names it (`general.file_type`), else its commonest tensor type.
fn file_type(file: &Gguf) -> String {
    let named = file.u32("general.file_type").and_then(|number| {
        Some(match number {
            0 => "F32",
            1 => "F16",
            2 => "Q4_0",
            3 => "Q4_1",
            7 => "Q8_0",
            8 => "Q5_0",
            9 => "Q5_1",
            10 => "Q2_K",
            11 => "Q3_K_S",
            12 => "Q3_K_M",
            13 => "Q3_K_L",
            14 => "Q4_K_S",
            15 => "Q4_K_M",
            16 => "Q5_K_S",
            17 => "Q5_K_M",
            18 => "Q6_K",
            32 => "BF16",
            _ => return None,
        })
    });
    named.map(str::to_owned).or_else(|| file.types().into_iter().next().map(|t| t.name)).unwrap_or_default()
}

fn recommended_strategy(file: &Gguf, path: &Path) -> Result<Strategy> {
    let Some(name) = file.string("illava.merge.strategy") else { return Ok(Strategy::default()) };
    // A method has layers of its own, and the file has others; a question asks for a further model.
    let rules = || Strategy::ALL.into_iter().filter(|rule| !rule.is_method() && !rule.needs_question());
    rules().find(|strategy| strategy.name() == name).ok_or_else(|| {
        let names: Vec<&str> = rules().map(Strategy::name).collect();
        Error::new(
            Kind::File,
            format!(
                "{}: illava.merge.strategy has the value {name}; it must be one of {}",
                path.display(),
                names.join(", ")
            ),
        )
    })
}

fn recommended(file: &Gguf, path: &Path) -> Result<Option<Recommended>> {
    let integers = |key: &str| -> Result<Vec<u32>> {
        let key = format!("illava.merge.{key}");
        file.integers(&key)
            .unwrap_or_default()
            .into_iter()
            .map(|n| {
                u32::try_from(n).map_err(|_| {
                    Error::new(
                        Kind::File,
                        format!("{}: {key} has the value {n}; it must not be below 0", path.display()),
                    )
                })
            })
            .collect()
    };
    let found = Recommended {
        vit_layers: integers("vit_layers")?,
        vit_r: integers("vit_r")?,
        llm_layers: integers("llm_layers")?,
        llm_keep: file.floats("illava.merge.llm_keep").unwrap_or_default(),
        strategy: recommended_strategy(file, path)?,
        evaluated: file.string("illava.merge.evaluated"),
    };
    Ok((!found.vit_layers.is_empty() || !found.llm_layers.is_empty()).then_some(found))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A pair of four decoder layers that was never loaded.
    pub fn facts() -> Facts {
        Facts {
            pair: Pair {
                arch: "fake".into(),
                model: report::Model::default(),
                text_name: None,
                n_embd: 2,
                n_layer: 4,
                n_deepstack: 0,
                has_axes: false,
                n_ctx_train: 256,
                kv: KvShape::new(vec![1; 4], 2, 2),
                has_chat_template: true,
                text_types: Vec::new(),
                projector_types: Vec::new(),
                recommended: None,
                generation: Told::default(),
            },
            vision: VisionInfo {
                projector: "mlp".into(),
                layers: 4,
                layers_run: 4,
                width: 8,
                heads: 1,
                image_size: 8,
                patch_size: 2,
                n_embd_out: 2,
                group: 1,
                class_token: false,
                dynamic_size: false,
                can_merge: true,
                mrope: false,
                weight_bytes: 10,
                repacked_bytes: 0,
                backend: "CPU".into(),
                takes_smaller: false,
                by_library: false,
                pooled: 1,
                first_layer: 0,
            },
            shape: Shape {
                vit_layers: 4,
                vit_layers_run: 4,
                vit_tokens: 16,
                group: 1,
                pooled: 1,
                vit_can_merge: true,
                vit_first: 0,
                llm_layers: 4,
                llm_can_merge: true,
                llm_first: 1,
                has_axes: false,
                is_qwen2vl: false,
                widths: (1152, 896),
                class_token: false,
                finds_regions: false,
                pools_frames: true,
            },
            family: Family::Llava,
            n_embd_in: 2,
            n_pos: 1,
            weight_bytes: 20,
            threads: 1,
            load_ms: 3.0,
            counts_pictures: false,
            video_sampling: None,
        }
    }

    #[test]
    fn a_video_has_a_usual_schedule() {
        let plain = facts();
        assert_eq!(usual_choice(&Choice::default(), &plain).merge, Some(MergeFlag::Preset(Preset::Video)));
        let asked = Choice { merge: Some(MergeFlag::Off), ..Choice::default() };
        assert_eq!(usual_choice(&asked, &plain), asked);
        let vision = |by_library| VisionInfo { by_library, ..facts().vision };
        let shape = |vit_can_merge, llm_can_merge| Shape { vit_can_merge, llm_can_merge, ..facts().shape };
        let video = Some(MergeFlag::Preset(Preset::Video));
        for (other, merge, off) in [
            (Facts { n_pos: 4, ..facts() }, None, false),
            // The cost of merging is not known: no preset is chosen for a person.
            (Facts { vision: vision(true), ..facts() }, None, true),
            (Facts { vision: vision(true), shape: shape(false, true), ..facts() }, None, true),
            (Facts { shape: shape(false, true), ..facts() }, video, false),
            (Facts { shape: shape(true, false), ..facts() }, video, false),
            (Facts { shape: shape(false, false), ..facts() }, None, true),
        ] {
            let usual = usual_choice(&Choice::default(), &other);
            assert_eq!(usual.merge, merge, "{:?}", other.shape);
            assert_eq!(other.schedule(&usual).unwrap().is_off(), off, "{:?}", other.shape);
        }
    }

    fn pair(arch: &str) -> Pair {
        Pair {
            arch: arch.into(),
            model: report::Model {
                text: "t.gguf".into(),
                projector: "p.gguf".into(),
                ..report::Model::default()
            },
            text_name: None,
            n_embd: 64,
            n_layer: 2,
            n_deepstack: 0,
            has_axes: false,
            n_ctx_train: 64,
            kv: KvShape::new(vec![1, 1], 32, 32),
            has_chat_template: false,
            text_types: Vec::new(),
            projector_types: Vec::new(),
            recommended: None,
            generation: Told::default(),
        }
    }

    #[test]
    fn widths_and_families_have_to_agree() {
        for (arch, projector, width, fault) in [
            ("llama", "mlp", 64, None),
            ("qwen2", "mlp", 64, None),
            ("qwen2vl", "qwen2vl_merger", 64, None),
            ("qwen2vl", "qwen2.5vl_merger", 64, None),
            ("llama", "mlp", 32, Some("p.gguf gives embeddings 32 wide, t.gguf takes 64")),
            ("qwen2", "qwen2vl_merger", 64, Some("p.gguf is a projector of the Qwen2-VL family")),
            ("llama", "qwen2.5vl_merger", 64, Some("of architecture llama")),
            ("qwen2vl", "mlp", 64, Some("t.gguf is a text model of the Qwen2-VL family")),
        ] {
            let vision = VisionInfo { projector: projector.into(), n_embd_out: width, ..VisionInfo::none() };
            let found = pair(arch).mismatch(&vision);
            match fault {
                None => assert_eq!(found, None, "{arch} {projector}"),
                Some(part) => assert!(found.is_some_and(|text| text.contains(part)), "{arch} {projector}"),
            }
        }
    }
}
