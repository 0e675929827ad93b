#pragma once

// Nodes of a graph that follow one another and are computed together.
//
//   MUL_MAT, ADD of a bias, GELU, ADD of a residual     a product and its epilogue: each of the last three may be missing
//   several such chains of the same rows                their rows are packed once (queries, keys and values; gate and up)
//   NORM, MUL, ADD                                      layer normalisation in one pass

#include "ggml.h"

#ifdef __cplusplus
extern "C" {
#endif

struct ggml_cgraph;
struct ggml_compute_params;

// Computes node number `node` and some behind it; returns how many behind it, 0 if nothing was done.
int illava_fuse(const struct ggml_cgraph * graph, int node, const struct ggml_compute_params * params);

#ifdef __cplusplus
}
#endif
