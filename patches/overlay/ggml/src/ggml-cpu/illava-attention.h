#pragma once

// Flash attention in f32. That of many queries is two products (illava-product-tile.h) with a softmax between them, that of
// few is illava-attention-few.h.

#include "ggml-cpu-impl.h"

#include <cstddef>

namespace illava::attention {

// Whether these kernels compute `node` on n_threads.
bool takes(const ggml_tensor * node, int n_threads);

// Bytes of the work buffer for n_threads.
size_t work_size(const ggml_tensor * node, int n_threads);

void compute(const ggml_compute_params * params, ggml_tensor * node);

} // namespace illava::attention
