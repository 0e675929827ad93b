#pragma once

#include "clip-impl.h"
#include "ggml.h"

// The patches of `pixels` times `kernel`, laid out as ggml_conv_2d() does. That rounds pixels and kernel to f16; an f32
// kernel of InternVL, Idefics 3, Gemma 3, Pixtral or Qwen3-VL is computed in f32 here, as its models were published.
ggml_tensor * illava_build_patches(ggml_context * ctx, projector_type type, ggml_tensor * kernel, ggml_tensor * pixels, int patch_size);
