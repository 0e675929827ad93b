#pragma once

// Products that are computed in one go, each with the operations behind it.

#include "illava-epilogue.h"

#include "ggml-cpu-impl.h"

namespace illava::product {

// A product, and what follows it. Without an `after.out` nothing does.
struct chain {
    const ggml_tensor * product;
    epilogue            after;
};

// Whether own kernels are on.
bool is_on();

// Whether they compute this node, a product.
bool computes(const ggml_tensor * node);

// Computes n products of the same rows by weights of one type and layout. False, and nothing done, if ggml has to.
bool run(const ggml_compute_params * params, const chain * chains, int n);

} // namespace illava::product
