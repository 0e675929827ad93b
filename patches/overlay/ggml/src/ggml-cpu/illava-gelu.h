#pragma once

// GELU in its tanh and its quick form, in f32. ggml looks both up in a table of f16.

#include "illava-activation.h"

#include "ggml-cpu-impl.h"

namespace illava::gelu {

// The form that `node` computes, if these kernels compute it; `none` otherwise.
activation::kind form(const ggml_tensor * node);

void compute(const ggml_compute_params * params, ggml_tensor * node);

} // namespace illava::gelu
