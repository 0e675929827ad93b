//! What a pair of files is: the facts that plans, reports and `inspect` are made of.

use std::path::Path;

use serde::Serialize;

use super::{KvShape, header};
use crate::error::{Error, Kind, Result};
use crate::native::{Gguf, VisionInfo};
use crate::prompt::Family;
use crate::report;
use crate::schedule::{Recommended, Shape};

/// What the two headers say, before any weight is loaded.
#[derive(Debug)]
pub struct Pair {
    pub arch: String,
    pub model: report::Model,
    pub text_name: Option<String>,
    pub n_embd: u32,
    pub n_layer: u32,
    pub n_ctx_train: u32,
    pub kv: KvShape,
    pub has_chat_template: bool,
    pub text_types: Vec<TypeShare>,
    pub projector_types: Vec<TypeShare>,
    pub recommended: Option<Recommended>,
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
    pub n_pos: usize,
    pub weight_bytes: u64,
    pub threads: u32,
    pub load_ms: f64,
}

impl Pair {
    /// Reads both headers.
    ///
    /// # Errors
    /// [`Kind::File`] for a file that is missing, damaged or of the other kind.
    pub fn open(text: &Path, projector: &Path) -> Result<Self> {
        let text_file = Gguf::open(text)?;
        let projector_file = Gguf::open(projector)?;
        let arch = text_file.string("general.architecture").unwrap_or_default();
        if arch == "clip" {
            return Err(kind_of_file(
                text,
                "an image projector, not a text model; give it with -mm, and the text model with -m",
            ));
        }
        if arch.is_empty() {
            return Err(kind_of_file(text, "no text model: it names no architecture"));
        }
        let other = projector_file.string("general.architecture").unwrap_or_default();
        if other != "clip" {
            return Err(kind_of_file(
                projector,
                "no image projector; give the mmproj file with -mm, and the text model with -m",
            ));
        }
        let number = |key: &str| {
            text_file.u32(&format!("{arch}.{key}")).ok_or_else(|| {
                kind_of_file(text, &format!("no usable text model: it does not say {arch}.{key}"))
            })
        };
        let (n_embd, n_layer) = (number("embedding_length")?, number("block_count")?);
        let damaged = |path: &Path, fault: &str| {
            Error::new(Kind::File, format!("{}: damaged header ({fault}); fetch it again", path.display()))
        };
        let heads = text_file.u32(&format!("{arch}.attention.head_count")).filter(|&n| n > 0).unwrap_or(1);
        if let Some(fault) = header::text_fault(&text_file, &arch, n_layer, u64::from(n_embd / heads)) {
            return Err(damaged(text, &fault));
        }
        if let Some(fault) = header::projector_fault(&projector_file) {
            return Err(damaged(projector, &fault));
        }
        let kv = KvShape::read(&text_file, &arch, n_embd, n_layer).ok_or_else(|| {
            kind_of_file(text, "no usable text model: its number of attention heads is missing")
        })?;
        Ok(Self {
            model: report::Model {
                text: file_name(text),
                projector: file_name(projector),
                arch: arch.clone(),
                text_type: file_type(&text_file),
                projector_type: file_type(&projector_file),
            },
            text_name: text_file.string("general.name"),
            n_embd,
            n_layer,
            n_ctx_train: number("context_length")?,
            kv,
            has_chat_template: text_file.string("tokenizer.chat_template").is_some(),
            text_types: shares(&text_file),
            projector_types: shares(&projector_file),
            recommended: recommended(&projector_file, projector)?,
            arch,
        })
    }

    /// The width check, which needs the projector loaded.
    ///
    /// # Errors
    /// [`Kind::Model`] with both widths.
    pub fn check_widths(&self, vision: &VisionInfo) -> Result<()> {
        if vision.n_embd_out == self.n_embd {
            return Ok(());
        }
        Err(Error::new(
            Kind::Model,
            format!(
                "{} gives embeddings {} wide, {} takes {}: they are not a pair; give the mmproj file made for this text model",
                self.model.projector, vision.n_embd_out, self.model.text, self.n_embd
            ),
        ))
    }

    /// The numbers a schedule depends on.
    #[must_use]
    pub fn shape(&self, vision: &VisionInfo, llm_can_merge: bool) -> Shape {
        let side = vision.image_size / vision.patch_size.max(1);
        Shape {
            vit_layers: vision.layers,
            vit_layers_run: vision.layers_run,
            vit_tokens: side * side,
            group: vision.group,
            vit_can_merge: vision.can_merge,
            llm_layers: self.n_layer,
            llm_can_merge,
            is_qwen2vl: is_qwen2vl(vision),
        }
    }
}

pub(crate) fn family(vision: &VisionInfo) -> Family {
    if is_qwen2vl(vision) { Family::Qwen2Vl } else { Family::Llava }
}

fn is_qwen2vl(vision: &VisionInfo) -> bool {
    vision.projector.starts_with("qwen2vl") || vision.projector.starts_with("qwen2.5vl")
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
        evaluated: file.string("illava.merge.evaluated"),
    };
    Ok((!found.vit_layers.is_empty() || !found.llm_layers.is_empty()).then_some(found))
}
