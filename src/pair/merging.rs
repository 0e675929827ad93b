//! The halves of a pair that merge.

use super::facts::Pair;
use crate::native::VisionInfo;
use crate::schedule::Shape;

impl Pair {
    /// One line on what merges beside a projector that llama.cpp runs; `llm` if the text model can.
    pub(super) fn merging_beside(&self, vision: &VisionInfo, llm: bool) -> Option<String> {
        let (file, projector, arch) = (&self.model.projector, &vision.projector, &self.arch);
        let merges = match (vision.can_merge, llm) {
            (true, true) => format!("it and the language model ({arch}) merge"),
            (true, false) => format!("it merges and the language model ({arch}) does not"),
            (false, true) => format!("it merges nothing and the language model ({arch}) merges"),
            (false, false) => format!("neither it nor the language model ({arch}) merges"),
        };
        let asked = if vision.can_merge || llm {
            " if asked to, as by the schedule balanced".to_owned()
        } else {
            String::new()
        };
        vision.by_library.then(|| {
            format!("{file}: llama.cpp marks the pictures of its image encoder ({projector}) in the prompt; {merges}{asked}")
        })
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
            pooled: vision.pooled,
            vit_can_merge: vision.can_merge,
            vit_first: vision.first_layer,
            llm_layers: self.n_layer,
            llm_can_merge,
            llm_first: self.n_deepstack.max(1),
            has_axes: self.has_axes,
            is_qwen2vl: !vision.by_library && vision.projector.starts_with("qwen2vl"),
            widths: (vision.width, self.n_embd),
            class_token: vision.class_token,
            finds_regions: false,
            pools_frames: !vision.by_library && !vision.mrope && !self.has_axes,
        }
    }
}
