#pragma once

// The comparison strategies on the host: which tokens form a group, and the mean that a group becomes. One plain
// thread computes the groups, in double precision, so that they do not depend on anything but the values given.
//
// Similar means: a large cosine. A group's direction is the sum of its tokens' directions, each a unit vector times
// the number of original tokens it stands for (its size).

#include "ggml.h"
#include "illava-strategy.h"

#include <cstddef>
#include <cstdint>
#include <vector>

struct illava_tokens {
    size_t n;
    size_t d;
    const float * features;         // [n, d], what similarity is taken from
    const float * sizes  = nullptr; // [n] original tokens each stands for; null: one each
    const float * scores = nullptr; // [n] attention received; prumerge and assign read it
    const uint8_t * held = nullptr; // [n] 1 for a token that bipartite leaves out while two others are there
};

// Every token goes to a survivor, a survivor to itself, and one that is dropped to -1.
struct illava_groups {
    std::vector<int32_t> into;    // [n]
    std::vector<float>   weights; // [n] in the mean of its group; above 0
};

// Whether the strategy ranks tokens by the attention they receive.
GGML_API bool illava_strategy_scores(enum illava_strategy strategy);
// Whether it merges by groups.
GGML_API bool illava_strategy_groups(enum illava_strategy strategy);
// Whether it keeps count, between the layers, of how many original tokens each token stands for.
GGML_API bool illava_strategy_counts(enum illava_strategy strategy);

// Whether a group becomes the weighted sum of its tokens, not their mean.
GGML_API bool illava_strategy_sums(enum illava_strategy strategy);

// n - r groups by a strategy that merges by groups; 0 <= r < n. A value that is no number is similar to nothing.
GGML_API illava_groups illava_make_groups(enum illava_strategy strategy, const illava_tokens & tokens, size_t r);

// A token that goes to one that goes itself, goes where that one goes.
GGML_API void illava_follow(std::vector<int32_t> & into);

// Those that go to themselves, ascending.
GGML_API std::vector<int32_t> illava_survivors(const std::vector<int32_t> & into);

// [survivors] original tokens that each stands for afterwards. sizes: [n] or null.
GGML_API std::vector<float> illava_group_sizes(
        const std::vector<int32_t> & into, const float * sizes, const std::vector<int32_t> & survivors);

// Groups of two and more, one after another in the order of their survivors; in each the ones that went, ascending,
// then the survivor.
struct illava_group_lists {
    std::vector<int32_t> lengths;
    std::vector<int32_t> members; // indices as in `names`, which has one for every token
};
GGML_API illava_group_lists illava_list_groups(const std::vector<int32_t> & into, const std::vector<int32_t> & names);

// The weighted means, or with `sums` the weighted sums, of the groups of survivors `begin` to `end`. x: [n, d]; y:
// [survivors, d], apart from x. A token alone in its group is copied. Sums are in token order, in double precision.
GGML_API void illava_merge_groups(
        const float * x, size_t d, const std::vector<int32_t> & into, const float * weights, bool sums,
        const std::vector<int32_t> & survivors, size_t begin, size_t end, float * y);

// The n tokens of a step in the order in which chance takes them: the first r go. The keys are numbers of the
// SplitMix64 generator, begun anew from the seed, the half (0 encoder, 1 decoder) and the layer.
GGML_API std::vector<int32_t> illava_random_order(uint64_t seed, uint32_t half, uint32_t layer, size_t n);
