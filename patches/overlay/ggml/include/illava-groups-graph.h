#pragma once

// The strategies of illava-groups.h as graph nodes. They are custom operations, which only a CPU computes: on another
// backend the scheduler takes the operands to the CPU and the result back.

#include "illava-groups.h"

// Parameters of a node beside its operands. They must outlive the graph's computation.
struct illava_group_request {
    enum illava_strategy strategy;
    int64_t              r; // tokens that go
};

// features: f32, rows contiguous, any other strides: [d, n], or [d, n_rows, n_head] with n_rows >= n, of which the mean
// over the heads is taken. scores: f32 [n], for prumerge and visionzip, else NULL. sizes: f32 [n], or NULL for one each.
// -> f32 [n, 2]: the survivor that each token goes to (-1: none), and its weight there.
GGML_API ggml_tensor * illava_build_groups(
        ggml_context * ctx, const illava_group_request * request, ggml_tensor * features, int64_t n,
        ggml_tensor * scores, ggml_tensor * sizes);

// groups: as above -> i32 [n_out], the survivors, ascending.
GGML_API ggml_tensor * illava_build_survivors(ggml_context * ctx, ggml_tensor * groups, int64_t n_out);

// -> f32 [n_out], the tokens that each survivor stands for; sizes as above.
GGML_API ggml_tensor * illava_build_group_sizes(ggml_context * ctx, ggml_tensor * groups, ggml_tensor * sizes, int64_t n_out);

// x: f32 [d, n], contiguous -> f32 [d, n_out], the weighted means of the groups, or their sums by a strategy that sums.
GGML_API ggml_tensor * illava_build_group_means(
        ggml_context * ctx, const illava_group_request * request, ggml_tensor * x, ggml_tensor * groups, int64_t n_out);

// Reads the first half of a node of groups.
GGML_API std::vector<int32_t> illava_read_into(const float * groups, size_t n);
