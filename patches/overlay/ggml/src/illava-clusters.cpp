// Clusters by density peaks, as SparseVLM recycles the tokens that it takes away.

#include "illava-clusters.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace {

// How many of `n` tokens that do not stay are recycled, and into how many clusters.
size_t n_recycled(size_t n) { return std::min(n, n * 3 / 10 + 1); }
size_t n_clusters(size_t n) { return n_recycled(n) / 10 + 1; }

// Tokens in the order of their scores, the highest first; no number counts as the lowest, and of equals the lower index
// is the lower score.
std::vector<int32_t> by_score(const float * scores, size_t n) {
    const auto key = [&](int32_t i) { return std::isnan(scores[i]) ? -INFINITY : scores[i]; };
    std::vector<int32_t> order(n);
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return key(a) != key(b) ? key(a) > key(b) : a > b; });
    return order;
}

// Density peaks (Rodriguez and Laio, 2014) over m points x[at], d values each: of every point the centre it goes to.
// A point's density is e to the minus mean square of the distances to its k nearest, itself included; centres are far
// from every denser point and dense themselves.
std::vector<int32_t> density_peaks(const float * x, size_t d, const std::vector<int32_t> & at, size_t k) {
    const size_t m = at.size();
    std::vector<double> distance(m * m, 0.0);
    double longest = 0.0;
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < i; j++) {
            const float * a = x + size_t(at[i]) * d;
            const float * b = x + size_t(at[j]) * d;
            double square = 0.0;
            for (size_t e = 0; e < d; e++) {
                square += (double(a[e]) - b[e]) * (double(a[e]) - b[e]);
            }
            const double length = std::sqrt(square / double(d));
            distance[i * m + j] = distance[j * m + i] = std::isnan(length) ? INFINITY : length;
            longest = std::max(longest, distance[i * m + j]);
        }
    }
    std::vector<double> density(m), peak(m), near(m);
    for (size_t i = 0; i < m; i++) {
        near.assign(distance.begin() + i * m, distance.begin() + (i + 1) * m);
        std::partial_sort(near.begin(), near.begin() + k, near.end());
        double square = 0.0;
        for (size_t j = 0; j < k; j++) {
            square += near[j] * near[j];
        }
        density[i] = std::exp(-square / double(k));
    }
    for (size_t i = 0; i < m; i++) {
        double apart = longest;
        for (size_t j = 0; j < m; j++) {
            if (density[j] > density[i]) {
                apart = std::min(apart, distance[i * m + j]);
            }
        }
        peak[i] = apart * density[i];
    }
    std::vector<int32_t> centres(m);
    std::iota(centres.begin(), centres.end(), 0);
    std::stable_sort(centres.begin(), centres.end(), [&](int32_t a, int32_t b) { return peak[a] > peak[b]; });
    centres.resize(k);

    std::vector<int32_t> into(m);
    for (size_t i = 0; i < m; i++) {
        into[i] = *std::min_element(centres.begin(), centres.end(),
            [&](int32_t a, int32_t b) { return distance[i * m + a] < distance[i * m + b]; });
    }
    for (int32_t centre : centres) {
        into[centre] = centre;
    }
    return into;
}

} // namespace

illava_groups illava_make_clusters(const illava_tokens & tokens, size_t r) {
    const size_t n = tokens.n, n_out = n - r;

    illava_groups groups;
    groups.weights.assign(n, 1.0f);
    groups.into.resize(n);
    std::iota(groups.into.begin(), groups.into.end(), 0);
    if (r == 0) {
        return groups;
    }
    // fewer that stay leave as many or more clusters, so that some number meets n_out
    size_t stay = n_out;
    while (stay > 0 && stay + n_clusters(n - stay) > n_out) {
        stay--;
    }
    const auto   order    = by_score(tokens.scores, n);
    const size_t recycled = n_recycled(n - stay);

    std::vector<int32_t> at(order.begin() + stay, order.begin() + stay + recycled);
    std::sort(at.begin(), at.end());
    for (size_t i = stay; i < n; i++) {
        groups.into[order[i]] = -1;
    }
    const auto into = density_peaks(tokens.features, tokens.d, at, std::min(n_out - stay, recycled));
    for (size_t i = 0; i < recycled; i++) {
        groups.into[at[i]] = at[into[i]];
    }
    return groups;
}
