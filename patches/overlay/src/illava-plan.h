// One merge step decided and carried out on the host: which tokens stay, and the vector the others become.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

struct illava_plan {
    std::vector<int32_t> order; // [r + 1] least attended first; the last is the slot of the merged vector
    std::vector<int32_t> kept;  // [n - r] ascending, with that slot
};

// Tokens are ordered by (score, index); NaN counts as the lowest score, so that a broken model still gives a plan.
// 0 <= r < n. r = 0 keeps everything and merges nothing.
illava_plan illava_make_plan(const float * scores, size_t n, size_t r);

// How many of the highest scores hold `share` of their sum, at least one. Scores that are no number, or below 0, count
// as 0; without any sum all are needed.
int32_t illava_smallest_share(const float * scores, size_t n, double share);

// y = sum_k w_k x[order[k]] / sum_k w_k with w_k = r + 1 - k. x: [n, n_embd]; y: [n_embd], may be a row of x.
void illava_merge_rows(const float * x, size_t n_embd, const std::vector<int32_t> & order, float * y);
