#pragma once

// One merge step as graph nodes: which tokens go (plan) and what takes their place (merge).
// Only stock operations, so that every backend of ggml can run it.

#include "ggml.h"
#include "ggml-backend.h"

struct illava_plan_tensors {
    ggml_tensor * kept;  // i32 [n - r], ascending; the slot of the merged token is among them
    ggml_tensor * order; // i32 [r + 1], the tokens that merge, least attended first; the last one's
                         // slot takes the result
};

// i32 [n]: the tokens in ascending (score, index) order, as below.
GGML_API ggml_tensor * illava_build_order(ggml_context * ctx, ggml_tensor * scores);

// i32 [n - r], ascending: those of n tokens that are not among the r different ones of `gone`, i32 [r].
GGML_API ggml_tensor * illava_build_kept(ggml_context * ctx, ggml_tensor * gone, int64_t n);

// scores: f32 [n], contiguous. 1 <= r < n.
// Tokens are ordered by (score, index): equal scores go by index, whatever the backend's sort does
// with ties. Scores must not be NaN (a NaN gives a plan that is valid but means nothing).
GGML_API illava_plan_tensors illava_build_plan(ggml_context * ctx, ggml_tensor * scores, int64_t r);

// x: f32 [D, n], contiguous -> f32 [D, n - r].
// The r + 1 tokens of plan.order are averaged with weights r+1, r, ..., 1 into the slot of the last
// of them; the kept slots remain, in order.
GGML_API ggml_tensor * illava_build_merge(ggml_context * ctx, ggml_tensor * x, illava_plan_tensors plan);

// Whether ggml_attn_score of operands like these can stand in a graph for this backend without leaving
// it for the CPU; if not, ggml_attn_score_composed can. A kernel may take some types and head sizes
// and not others. Ask every backend of a scheduler.
GGML_API bool illava_backend_has_score(
        ggml_backend_t backend, const ggml_tensor * q, const ggml_tensor * k, const ggml_tensor * mask);
GGML_API bool illava_backend_has_score(
        ggml_backend_dev_t device, const ggml_tensor * q, const ggml_tensor * k, const ggml_tensor * mask);
