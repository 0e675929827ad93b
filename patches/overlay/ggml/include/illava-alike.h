#pragma once

// Tokens that merge into those they are most alike, as graph nodes: stock operations, so that every backend of ggml can
// run them without leaving its device, or fewer nodes that a processor alone computes.
//
// Alike means a large cosine of two tokens' features. The direction of a merged token is the sum of its
// tokens' directions. Each has as its length the number of original tokens it stands for (its size). Ties go
// to the lower index. A token's weight in a mean is its size.

#include "illava-graph.h"

#include <vector>

enum illava_place {
    ILLAVA_PLACE_ANY, // stock operations
    ILLAVA_PLACE_CPU, // nodes of ours, in memory that the processor reads
};

// ILLAVA_PLACE_CPU for the processor's own backend; for null and every other one ILLAVA_PLACE_ANY.
GGML_API illava_place illava_place_of(ggml_backend_t backend);

// Decisions of one matching. All are outputs of the graph that reading back needs.
struct illava_match_tensors {
    ggml_tensor * gone; // i32 [r], tokens that merge away, indices among those that entered the matching
    ggml_tensor * into; // f32 [r], the tokens that they merge into, whole numbers
};

// Tokens that merge last: a matching leaves them out while two others are there.
struct illava_held_tensors {
    ggml_tensor * flags;  // f32 [n], contiguous: 1 for a token that is held, 0 for a free one
    int64_t       n_free; // number of zeros among them
};

struct illava_alike_tensors {
    ggml_tensor * x;     // f32 [d, n - r], the means, in the order of the tokens that stay
    ggml_tensor * sizes; // f32 [n - r], original tokens that each stands for
    ggml_tensor * kept;  // i32 [n - r], ascending
    std::vector<illava_match_tensors> matches; // one after another, each among the tokens that the last one left
};

// Features of tokens from one layer's keys, f32 [d, n_rows >= n, n_head] as attention takes them: the sum over the
// heads, f32 [d, n]. Only directions count, so the sum serves as well as the mean.
GGML_API ggml_tensor * illava_build_key_features(ggml_context * ctx, ggml_tensor * keys, int64_t n);

// ToMe (Bolya et al., 2023): the tokens are dealt to A and B in turn. Each of A finds the most alike of B,
// and the r pairs most alike merge into their token of B. One matching takes at most half of the tokens. If
// more go, there is another among those left.
//
// x: f32 [d, n], contiguous; features: f32 [d', n], contiguous; sizes: f32 [n], or null for one each. 1 <= r < n.
// held: null if all are free; becomes that of the tokens left.
// A feature that is no number gives a matching that is valid but means nothing.
GGML_API illava_alike_tensors illava_build_bipartite(
        ggml_context * ctx, illava_place place, ggml_tensor * x, ggml_tensor * features, ggml_tensor * sizes, int64_t r,
        illava_held_tensors * held = nullptr);

// The r tokens with the lowest scores, by (score, index), merge into the most alike of the others. scores: f32 [n],
// contiguous; the rest as above.
GGML_API illava_alike_tensors illava_build_assign(
        ggml_context * ctx, illava_place place, ggml_tensor * x, ggml_tensor * features, ggml_tensor * sizes, ggml_tensor * scores,
        int64_t r);
