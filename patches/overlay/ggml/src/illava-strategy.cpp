// Parts that the strategies have in common: their features, their survivors, and the means.

#include "illava-groups.h"

#include <algorithm>
#include <cstring>
#include <numeric>

bool illava_strategy_scores(enum illava_strategy strategy) {
    return strategy == ILLAVA_STRATEGY_MERGE || strategy == ILLAVA_STRATEGY_PRUNE || strategy == ILLAVA_STRATEGY_PRUMERGE ||
        strategy == ILLAVA_STRATEGY_ASSIGN || strategy == ILLAVA_STRATEGY_VISIONZIP || strategy == ILLAVA_STRATEGY_SPARSEVLM;
}

bool illava_strategy_groups(enum illava_strategy strategy) {
    return strategy >= ILLAVA_STRATEGY_BIPARTITE;
}

bool illava_strategy_counts(enum illava_strategy strategy) {
    return strategy == ILLAVA_STRATEGY_BIPARTITE || strategy == ILLAVA_STRATEGY_KMEANS || strategy == ILLAVA_STRATEGY_GREEDY ||
        strategy == ILLAVA_STRATEGY_ASSIGN;
}

bool illava_strategy_sums(enum illava_strategy strategy) {
    return strategy == ILLAVA_STRATEGY_VISIONZIP;
}

void illava_follow(std::vector<int32_t> & into) {
    for (int32_t & to : into) {
        while (into[to] != to) {
            to = into[to];
        }
    }
}

std::vector<int32_t> illava_survivors(const std::vector<int32_t> & into) {
    std::vector<int32_t> survivors;
    for (size_t i = 0; i < into.size(); i++) {
        if (into[i] == int32_t(i)) {
            survivors.push_back(into[i]);
        }
    }
    return survivors;
}

// The place of every token's survivor among the survivors; -1 for one that is dropped.
static std::vector<int32_t> places(const std::vector<int32_t> & into, const std::vector<int32_t> & survivors) {
    std::vector<int32_t> place(into.size(), -1);
    for (size_t g = 0; g < survivors.size(); g++) {
        place[survivors[g]] = int32_t(g);
    }
    for (size_t i = 0; i < into.size(); i++) {
        place[i] = into[i] < 0 ? -1 : place[into[i]];
    }
    return place;
}

std::vector<float> illava_group_sizes(
        const std::vector<int32_t> & into, const float * sizes, const std::vector<int32_t> & survivors) {
    const std::vector<int32_t> place = places(into, survivors);
    std::vector<float> sums(survivors.size(), 0.0f);
    for (size_t i = 0; i < into.size(); i++) {
        if (place[i] >= 0) {
            sums[place[i]] += sizes ? sizes[i] : 1.0f;
        }
    }
    return sums;
}

illava_group_lists illava_list_groups(const std::vector<int32_t> & into, const std::vector<int32_t> & names) {
    const std::vector<int32_t> survivors = illava_survivors(into);
    const std::vector<int32_t> place     = places(into, survivors);

    std::vector<std::vector<int32_t>> went(survivors.size());
    for (size_t i = 0; i < into.size(); i++) {
        if (place[i] >= 0 && into[i] != int32_t(i)) {
            went[place[i]].push_back(names[i]);
        }
    }
    illava_group_lists lists;
    for (size_t g = 0; g < survivors.size(); g++) {
        if (went[g].empty()) {
            continue;
        }
        lists.lengths.push_back(int32_t(went[g].size()) + 1);
        lists.members.insert(lists.members.end(), went[g].begin(), went[g].end());
        lists.members.push_back(names[survivors[g]]);
    }
    return lists;
}

void illava_merge_groups(
        const float * x, size_t d, const std::vector<int32_t> & into, const float * weights, bool sums,
        const std::vector<int32_t> & survivors, size_t begin, size_t end, float * y) {
    const std::vector<int32_t> place = places(into, survivors);

    std::vector<std::vector<int32_t>> members(survivors.size());
    for (size_t i = 0; i < into.size(); i++) {
        if (place[i] >= 0) {
            members[place[i]].push_back(int32_t(i));
        }
    }
    std::vector<double> sum(d);
    for (size_t g = begin; g < end; g++) {
        if (members[g].size() == 1) {
            std::memcpy(y + g * d, x + size_t(survivors[g]) * d, d * sizeof(float));
            continue;
        }
        std::fill(sum.begin(), sum.end(), 0.0);
        double total = 0.0;
        for (int32_t i : members[g]) {
            const double  weight = weights[i];
            const float * row    = x + size_t(i) * d;
            for (size_t e = 0; e < d; e++) {
                sum[e] += weight * row[e];
            }
            total += weight;
        }
        for (size_t e = 0; e < d; e++) {
            y[g * d + e] = float(sums ? sum[e] : sum[e] / total);
        }
    }
}

// The output function of SplitMix64 (Steele, Lea and Flood, 2014).
static uint64_t mixed(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

std::vector<int32_t> illava_random_order(uint64_t seed, uint32_t half, uint32_t layer, size_t n) {
    constexpr uint64_t gamma = 0x9e3779b97f4a7c15ull;

    const uint64_t state = mixed(mixed(seed + gamma) ^ (uint64_t(half) << 32 | layer));
    std::vector<uint64_t> keys(n);
    for (size_t i = 0; i < n; i++) {
        keys[i] = mixed(state + (i + 1) * gamma);
    }
    std::vector<int32_t> order(n);
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return keys[a] != keys[b] ? keys[a] < keys[b] : a < b; });
    return order;
}
