#pragma once

// Layer normalisation with its weight and bias in one pass.

#include "ggml-cpu-impl.h"

namespace illava::norm {

// Whether these kernels compute NORM, MUL by a weight, ADD of a bias, in this order. Each takes the one before.
bool takes(const ggml_tensor * norm, const ggml_tensor * mul, const ggml_tensor * add);

// out = (x - mean) / sqrt(variance + eps) * weight + bias for each row of x, [rows][width] in f32.
void compute(const ggml_compute_params * params, const ggml_tensor * norm, const ggml_tensor * mul, ggml_tensor * add);

} // namespace illava::norm
