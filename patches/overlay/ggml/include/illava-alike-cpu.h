#pragma once

// A matching's inner steps for a graph that a processor computes; illava-alike.cpp has them out of stock operations.

#include "ggml.h"

struct illava_best_match {
    ggml_tensor * index;      // i32 [n_a], of the most alike row of b
    ggml_tensor * similarity; // f32 [n_a], their products
};

// For every row of a, f32 [d, n_a], the most alike row of b, f32 [d, n_b], the lowest of equals. Rows have one length.
illava_best_match illava_most_alike_cpu(ggml_context * ctx, ggml_tensor * a, ggml_tensor * b);

// z, f32 [w, n], plus, in row into[k], row gone[k] of z; no row of `into` is one of `gone`.
ggml_tensor * illava_fold_cpu(ggml_context * ctx, ggml_tensor * z, ggml_tensor * gone, ggml_tensor * into);
