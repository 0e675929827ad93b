#pragma once

// GELU in its tanh form, in f32: 16 values at once, where ggml looks each up in a table of f16.

#include "ggml-cpu-impl.h"

namespace illava::gelu {

// Whether these kernels compute `node`.
bool takes(const ggml_tensor * node);

void compute(const ggml_compute_params * params, ggml_tensor * node);

} // namespace illava::gelu
