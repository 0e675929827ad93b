#pragma once

// Flash attention of many queries, in f32: as two products (illava-product-tile.h) with a softmax between them.

#include "ggml-cpu-impl.h"

#include <cstddef>

namespace illava::attention {

// Whether these kernels compute `node`.
bool takes(const ggml_tensor * node);

// Bytes of the work buffer for n_threads.
size_t work_size(const ggml_tensor * node, int n_threads);

void compute(const ggml_compute_params * params, ggml_tensor * node);

} // namespace illava::attention
