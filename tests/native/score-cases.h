#pragma once

// Cases of the attention-received score for every implementation, with their operands and the result in
// float64.

#include "graph-fixture.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace score {

enum class mask_kind { none, causal, random, blind_rows };

struct score_case {
    int64_t   n_q;
    int64_t   n_kv;
    int64_t   d;
    int64_t   n_head;
    int64_t   n_head_kv;
    ggml_type k_type     = GGML_TYPE_F32;
    mask_kind mask       = mask_kind::none;
    ggml_type mask_type  = GGML_TYPE_F16;
    bool      permuted   = true;  // q and k as views of [d, n_head, n], as the graphs hand them over
    bool      equal_keys = false; // every key three times

    std::string name() const {
        static const char * const masks[] = { "none", "causal", "random", "blind rows" };
        char text[160];
        snprintf(text, sizeof(text), "n_q=%d n_kv=%d d=%d heads=%d/%d k=%s mask=%s(%s)%s%s",
                int(n_q), int(n_kv), int(d), int(n_head), int(n_head_kv), ggml_type_name(k_type),
                masks[int(mask)], ggml_type_name(mask_type), permuted ? "" : " contiguous", equal_keys ? " equal keys" : "");
        return text;
    }
};

constexpr float hidden = -std::numeric_limits<float>::infinity();

inline std::vector<float> make_mask(const score_case & c) {
    std::vector<float> mask(c.n_kv * c.n_q, 0.0f);
    std::mt19937 random(7);
    for (int64_t j = 0; j < c.n_q; j++) {
        for (int64_t i = 0; i < c.n_kv; i++) {
            float & m = mask[j * c.n_kv + i];
            switch (c.mask) {
                case mask_kind::none:       break;
                case mask_kind::causal:     m = i > j + (c.n_kv - c.n_q) ? hidden : 0.0f; break;
                case mask_kind::random:     m = random() % 3 == 0 ? hidden : float(random() % 8) * -0.25f; break;
                case mask_kind::blind_rows: m = j % 3 == 1 || random() % 4 == 0 ? hidden : 0.0f; break;
            }
        }
    }
    return mask;
}

struct operands {
    std::vector<float> q, k, mask; // as stored; q [n_q][n_head][d] or [n_head][n_q][d], k alike
};

inline std::vector<double> reference(const score_case & c, const operands & x, double scale) {
    const int64_t group = c.n_head / c.n_head_kv;
    std::vector<double> scores(c.n_kv, 0.0), row(c.n_kv);
    for (int64_t h = 0; h < c.n_head; h++) {
        for (int64_t j = 0; j < c.n_q; j++) {
            const float * q = x.q.data() + (c.permuted ? j * c.n_head + h : h * c.n_q + j) * c.d;
            double max = -std::numeric_limits<double>::infinity();
            for (int64_t i = 0; i < c.n_kv; i++) {
                const float * k = x.k.data() + (c.permuted ? i * c.n_head_kv + h / group : h / group * c.n_kv + i) * c.d;
                double dot = 0.0;
                for (int64_t e = 0; e < c.d; e++) {
                    dot += double(q[e]) * double(k[e]);
                }
                row[i] = dot * scale + (x.mask.empty() ? 0.0 : double(x.mask[j * c.n_kv + i]));
                max = std::max(max, row[i]);
            }
            if (std::isinf(max)) {
                continue;
            }
            double sum = 0.0;
            for (double & value : row) {
                value = std::exp(value - max);
                sum += value;
            }
            for (int64_t i = 0; i < c.n_kv; i++) {
                scores[i] += row[i] / sum;
            }
        }
    }
    return scores;
}

// Fills the operands of a graph; mask may be null. Returns them as they were stored.
inline operands fill(const score_case & c, ggml_tensor * q, ggml_tensor * k, ggml_tensor * mask) {
    operands stored;
    stored.q = fixture::write(q, fixture::normal(ggml_nelements(q), 1.5f, 1));

    std::vector<float> keys = fixture::normal(ggml_nelements(k), 1.0f, 2);
    if (c.equal_keys) {
        const int64_t width = c.d * c.n_head_kv, third = c.n_kv / 3;
        for (int64_t i = third; i < c.n_kv; i++) {
            std::copy_n(keys.begin() + i % third * width, width, keys.begin() + i * width);
        }
    }
    stored.k = fixture::write(k, keys);

    if (mask) {
        std::vector<float> values = make_mask(c);
        values.resize(ggml_nelements(mask), hidden);
        stored.mask = fixture::write(mask, values);
    }
    return stored;
}

// Largest error over all keys, relative to the key's own score or the mean score, the larger.
inline double error(const std::vector<float> & scores, const std::vector<double> & expected) {
    double mean = 0.0;
    for (double value : expected) {
        mean += value / double(expected.size());
    }
    double worst = 0.0;
    for (size_t i = 0; i < scores.size(); i++) {
        const double e = std::abs(double(scores[i]) - expected[i]) / std::max({ expected[i], mean, 1e-30 });
        worst = std::isnan(e) ? std::numeric_limits<double>::infinity() : std::max(worst, e);
    }
    return worst;
}

// Whether every key has the score of its first occurrence, bit for bit, where every key stands three times.
inline bool equal_keys_have_equal_scores(const score_case & c, const std::vector<float> & scores) {
    const int64_t third = c.n_kv / 3;
    for (int64_t i = third; i < c.n_kv; i++) {
        if (scores[i] != scores[i % third]) {
            return false;
        }
    }
    return true;
}

inline std::vector<score_case> all_cases() {
    std::vector<score_case> cases;
    for (int64_t n : { 1, 2, 7, 31, 32, 33, 100, 257, 729 }) {
        cases.push_back({ n, n, 72, 2, 2 });
    }
    cases.push_back({ 1568, 1568, 64, 1, 1 });
    cases.push_back({ 2916, 2916, 72, 1, 1 });
    cases.push_back({ 2916, 2916, 72, 1, 1, GGML_TYPE_F16 });

    for (int64_t d : { 1, 24, 50, 64, 72, 80, 96, 128 }) {
        for (ggml_type type : { GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16 }) {
            cases.push_back({ 61, 150, d, 4, 2, type });
        }
    }
    for (ggml_type type : { GGML_TYPE_Q8_0, GGML_TYPE_Q4_0 }) {
        cases.push_back({ 61, 150, 64,  4, 2, type, mask_kind::causal });
        cases.push_back({ 61, 150, 128, 4, 2, type });
    }
    for (int64_t heads : { 1, 2, 3, 12, 16, 25, 64 }) {
        cases.push_back({ 80, 90, 64, heads, heads, GGML_TYPE_F16 });
    }
    for (int64_t group : { 1, 2, 3, 4, 6, 7, 8 }) {
        cases.push_back({ 120, 333, 64, 2 * group, 2, GGML_TYPE_F16, mask_kind::causal });
    }
    // The composition cuts the queries here, and takes one head of a group, or whole groups, at a time.
    cases.push_back({ 300, 2916, 8, 7, 1, GGML_TYPE_F32, mask_kind::causal });
    cases.push_back({ 32, 20000, 8, 7, 1, GGML_TYPE_F16 });
    cases.push_back({ 32, 20000, 8, 8, 4, GGML_TYPE_F32, mask_kind::random });

    for (mask_kind mask : { mask_kind::causal, mask_kind::random, mask_kind::blind_rows }) {
        for (ggml_type mask_type : { GGML_TYPE_F16, GGML_TYPE_F32 }) {
            for (bool permuted : { true, false }) {
                cases.push_back({ 100, 145, 80, 4, 2, GGML_TYPE_F16, mask, mask_type, permuted });
            }
        }
    }
    cases.push_back({ 1, 6272, 128, 4, 1, GGML_TYPE_F16, mask_kind::causal });
    cases.push_back({ 1, 1, 64, 1, 1, GGML_TYPE_F32, mask_kind::causal });
    cases.push_back({ 4, 1, 64, 1, 1, GGML_TYPE_F32, mask_kind::blind_rows });

    for (int64_t third : { 1, 11, 67, 243 }) {
        cases.push_back({ 50, 3 * third, 72, 3, 3, GGML_TYPE_F32, mask_kind::none, GGML_TYPE_F16, true, true });
    }
    return cases;
}

} // namespace score
