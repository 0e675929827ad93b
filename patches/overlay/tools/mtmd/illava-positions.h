// Learned positions for a picture with fewer patches than the encoder was made for.

#pragma once

#include "ggml.h"

// table: [n_embd, n_side^2 + class row] -> [n_embd, n_x * n_y + class row], f32; the table itself where nothing changes.
// The grid of patches is interpolated (bicubic, pixel centres aligned), as transformers does where it is asked to
// interpolate positions. The class token's row, the first or the last, stays as it is.
ggml_tensor * illava_position_table(
        ggml_context * ctx, ggml_tensor * table, int64_t n_x, int64_t n_y, bool class_token, bool class_first);
