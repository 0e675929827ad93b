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

// Whether ggml's own flash attention of few queries sums values of f16 in f32, by add(): in f16 a sum over a thousand of
// them is wrong by some 1e-3 of it.
bool sums_in_f32();

// sum[i] += share * values[i], i < n
void add(float * sum, const ggml_fp16_t * values, float share, int64_t n);

} // namespace illava::attention
