#pragma once

// Flash attention of few queries, such as the one of a token that is generated, in f32.

#include "ggml-cpu-impl.h"

#include <cstddef>

namespace illava::attention::few {

// Whether these kernels compute `node`, an attention whose types and layout illava-attention.h takes, on `n_threads`.
bool takes(const ggml_tensor * node, int n_threads);

// Bytes of the work buffer for n_threads.
size_t work_size(const ggml_tensor * node, int n_threads);

void compute(const ggml_compute_params * params, ggml_tensor * node);

} // namespace illava::attention::few
