#include "illava-plan.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <numeric>

illava_plan illava_make_plan(const float * scores, size_t n, size_t r) {
    assert(r < n);

    const auto key = [&](int32_t i) {
        return std::isnan(scores[i]) ? -std::numeric_limits<float>::infinity() : scores[i];
    };

    std::vector<int32_t> by_score(n);
    std::iota(by_score.begin(), by_score.end(), 0);
    std::partial_sort(by_score.begin(), by_score.begin() + r + 1, by_score.end(), [&](int32_t a, int32_t b) {
        const float ka = key(a);
        const float kb = key(b);
        return ka != kb ? ka < kb : a < b;
    });

    illava_plan plan;
    plan.order.assign(by_score.begin(), by_score.begin() + r + 1);
    plan.kept .assign(by_score.begin() + r, by_score.end());
    std::sort(plan.kept.begin(), plan.kept.end());
    return plan;
}

int32_t illava_smallest_share(const float * scores, size_t n, double share) {
    std::vector<double> sorted(n);
    double total = 0.0;
    for (size_t i = 0; i < n; ++i) {
        sorted[i] = scores[i] > 0.0f ? scores[i] : 0.0;
        total += sorted[i];
    }
    std::sort(sorted.begin(), sorted.end(), [](double a, double b) { return a > b; });

    double sum = 0.0;
    for (size_t i = 0; i < n && total > 0.0; ++i) {
        sum += sorted[i];
        if (sum >= share*total) {
            return int32_t(i + 1);
        }
    }
    return int32_t(n);
}

void illava_merge_rows(const float * x, size_t n_embd, const std::vector<int32_t> & order, float * y) {
    std::vector<float> sum(n_embd, 0.0f);
    float weights = 0.0f;

    for (size_t k = 0; k < order.size(); ++k) {
        const float   w   = float(order.size() - k);
        const float * row = x + size_t(order[k])*n_embd;
        for (size_t j = 0; j < n_embd; ++j) {
            sum[j] += w*row[j];
        }
        weights += w;
    }

    for (size_t j = 0; j < n_embd; ++j) {
        y[j] = sum[j]/weights;
    }
}
