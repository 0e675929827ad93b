//! Facts of a projector file, as the library tells them.

use llama_cpp_sys_2 as sys;

/// Facts of a projector file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisionInfo {
    /// As in the file: "mlp", "qwen2vl_merger".
    pub projector: String,
    /// Blocks stored.
    pub layers: u32,
    /// Blocks the graph runs.
    pub layers_run: u32,
    pub width: u32,
    pub heads: u32,
    /// Pixels per side; the largest where the size is dynamic.
    pub image_size: u32,
    pub patch_size: u32,
    /// Width of the embeddings it gives.
    pub n_embd_out: u32,
    /// Patches that make one output token.
    pub group: u32,
    pub class_token: bool,
    /// The number of tokens follows the picture's size.
    pub dynamic_size: bool,
    pub can_merge: bool,
    pub mrope: bool,
    pub weight_bytes: u64,
    /// Bytes among these in the layout of the CPU's fastest kernels.
    pub repacked_bytes: u64,
    pub backend: String,
    /// Whether a fixed-size encoder takes smaller squares of whole patches, too.
    pub takes_smaller: bool,
    /// llama.cpp cuts and marks its pictures.
    pub by_library: bool,
    /// Patches whose mean makes one output token.
    pub pooled: u32,
    /// The first block that may merge.
    pub first_layer: u32,
}

impl VisionInfo {
    /// The facts of a model without an image encoder: zeros and empty names.
    #[must_use]
    pub fn none() -> Self {
        Self {
            projector: String::new(),
            layers: 0,
            layers_run: 0,
            width: 0,
            heads: 0,
            image_size: 0,
            patch_size: 0,
            n_embd_out: 0,
            group: 1,
            class_token: false,
            dynamic_size: false,
            can_merge: false,
            mrope: false,
            weight_bytes: 0,
            repacked_bytes: 0,
            backend: "CPU".to_owned(),
            takes_smaller: false,
            by_library: false,
            pooled: 1,
            first_layer: 0,
        }
    }

    /// The library's numbers and names.
    pub(super) fn read(raw: &sys::illava_vision_info) -> Self {
        Self {
            projector: super::from_array(&raw.projector),
            layers: raw.n_layer.unsigned_abs(),
            layers_run: raw.n_layer_run.unsigned_abs(),
            width: raw.n_embd.unsigned_abs(),
            heads: raw.n_head.unsigned_abs(),
            image_size: raw.image_size.unsigned_abs(),
            patch_size: raw.patch_size.unsigned_abs(),
            n_embd_out: raw.n_embd_out.unsigned_abs(),
            group: raw.group.unsigned_abs().max(1),
            class_token: raw.class_token,
            dynamic_size: raw.dynamic_size,
            can_merge: raw.can_merge,
            mrope: raw.mrope,
            weight_bytes: raw.weight_bytes,
            repacked_bytes: raw.repacked_bytes,
            backend: super::from_array(&raw.backend),
            takes_smaller: raw.takes_smaller,
            by_library: raw.by_library,
            pooled: raw.pooled.unsigned_abs().max(1),
            first_layer: raw.first_layer.unsigned_abs(),
        }
    }
}
