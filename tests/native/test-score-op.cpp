// The attention-received score, fused and composed, against a float64 reference.

#include "ggml-illava.h"
#include "graph-fixture.h"
#include "illava-graph.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

using fixture::graph;

namespace {

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

std::vector<float> make_mask(const score_case & c) {
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

std::vector<double> reference(const score_case & c, const operands & x, double scale) {
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

struct score_graph {
    graph         g;
    ggml_tensor * q;
    ggml_tensor * k;
    ggml_tensor * mask = nullptr;
    ggml_tensor * fused;
    ggml_tensor * composed = nullptr;
    operands      stored;

    score_graph(const score_case & c, float scale, bool with_composed) {
        const auto place = [&](ggml_type type, int64_t n, int64_t heads) {
            return c.permuted ? g.input(type, c.d, heads, n) : g.input(type, c.d, n, heads);
        };
        const auto view = [&](ggml_tensor * x) {
            return c.permuted ? ggml_permute(g.ctx(), x, 0, 2, 1, 3) : x;
        };
        q = place(GGML_TYPE_F32, c.n_q, c.n_head);
        k = place(c.k_type, c.n_kv, c.n_head_kv);
        if (c.mask != mask_kind::none) {
            mask = g.input(c.mask_type, c.n_kv, c.n_q + 3); // caches pad the mask's rows
        }
        fused    = ggml_attn_score(g.ctx(), view(q), view(k), mask, scale);
        g.output(fused);
        if (with_composed) {
            composed = ggml_attn_score_composed(g.ctx(), view(q), view(k), mask, scale);
            g.output(composed);
        }
        g.allocate();
        fill(c);
    }

    void fill(const score_case & c) {
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
    }
};

// Largest error over all keys, relative to the key's own score or the mean score, the larger.
double error(const std::vector<float> & scores, const std::vector<double> & expected) {
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

// What ggml_mul_mat on the CPU does to q before it multiplies: it rounds it to the type its dot
// product with k works in. The fused kernel does not.
double composed_tolerance(ggml_type k_type) {
    switch (k_type) {
        case GGML_TYPE_F32:  return 1e-5;
        case GGML_TYPE_F16:  return 5e-3;
        default:             return 5e-2;
    }
}

bool same_bits(const std::vector<float> & a, const std::vector<float> & b) {
    return a.size() == b.size() && memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// The fused node alone: threads wait for each other at every node by spinning, and the composition
// has hundreds.
void test_threads(fixture::checks & t, const score_case & c, std::initializer_list<int> counts, const std::vector<float> & expected) {
    score_graph s(c, 1.0f / std::sqrt(float(c.d)), false);
    for (int n_threads : counts) {
        s.g.run(n_threads);
        t.expect(same_bits(fixture::read<float>(s.fused), expected),
                c.name() + ": another result with " + std::to_string(n_threads) + " threads");
    }
}

void test_all_threads(fixture::checks & t, const score_case & c) {
    score_graph s(c, 1.0f / std::sqrt(float(c.d)), false);
    s.g.run(1);
    test_threads(t, c, { 1, 2, 3, 4, 5, 6, 7, 8 }, fixture::read<float>(s.fused));
}

void test_score(fixture::checks & t, const score_case & c) {
    const float scale = 1.0f / std::sqrt(float(c.d));
    score_graph s(c, scale, true);
    s.g.run(1);
    const std::vector<double> expected = reference(c, s.stored, scale);
    const std::vector<float>  fused    = fixture::read<float>(s.fused);
    const double fused_error    = error(fused, expected);
    const double composed_error = error(fixture::read<float>(s.composed), expected);

    t.expect(fused_error    <= 1e-5,                         c.name() + ": fused error "    + std::to_string(fused_error));
    t.expect(composed_error <= composed_tolerance(c.k_type), c.name() + ": composed error " + std::to_string(composed_error));

    if (c.equal_keys) {
        const int64_t third = c.n_kv / 3;
        bool equal = true;
        for (int64_t i = third; i < c.n_kv; i++) {
            equal = equal && fused[i] == fused[i % third];
        }
        t.expect(equal, c.name() + ": equal keys, different scores");
    }
    test_threads(t, c, { 2, 5 }, fused);
}

// The composition's memory stays near that of one piece of the map.
void test_memory(fixture::checks & t, int64_t n_q, int64_t n_kv, int64_t n_head) {
    graph g;
    ggml_tensor * q = g.input(GGML_TYPE_F32, 64, n_q, n_head);
    ggml_tensor * k = g.input(GGML_TYPE_F32, 64, n_kv, n_head);
    g.output(ggml_attn_score_composed(g.ctx(), q, k, nullptr, 0.125f));
    g.allocate();

    const size_t map   = sizeof(float) * n_q * n_kv * n_head;
    const size_t limit = 2 * (size_t(16) << 20); // a piece and what it is turned into
    char text[120];
    snprintf(text, sizeof(text), "composition of %d x %d x %d: %zu bytes, the map has %zu", int(n_q), int(n_kv), int(n_head), g.compute_bytes(), map);
    t.expect(g.compute_bytes() <= limit, text);
    t.expect(ggml_graph_n_nodes(g.nodes()) <= 1200, std::string(text) + ", too many nodes");

    graph f;
    q = f.input(GGML_TYPE_F32, 64, n_q, n_head);
    k = f.input(GGML_TYPE_F32, 64, n_kv, n_head);
    f.output(ggml_attn_score(f.ctx(), q, k, nullptr, 0.125f));
    const size_t work = ggml_graph_plan(f.nodes(), 2, nullptr).work_size;
    snprintf(text, sizeof(text), "fused work buffer of %d x %d x %d: %zu bytes", int(n_q), int(n_kv), int(n_head), work);
    t.expect(work <= (size_t(16) << 20), text);
}

} // namespace

int main() {
    fixture::checks t;

    for (int64_t n : { 1, 2, 7, 31, 32, 33, 100, 257, 729 }) {
        test_score(t, { n, n, 72, 2, 2 });
    }
    test_score(t, { 1568, 1568, 64, 1, 1 });
    test_score(t, { 2916, 2916, 72, 1, 1 });
    test_score(t, { 2916, 2916, 72, 1, 1, GGML_TYPE_F16 });

    for (int64_t d : { 1, 24, 50, 64, 72, 80, 96, 128 }) {
        for (ggml_type type : { GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16 }) {
            test_score(t, { 61, 150, d, 4, 2, type });
        }
    }
    for (ggml_type type : { GGML_TYPE_Q8_0, GGML_TYPE_Q4_0 }) {
        test_score(t, { 61, 150, 64,  4, 2, type, mask_kind::causal });
        test_score(t, { 61, 150, 128, 4, 2, type });
    }
    for (int64_t heads : { 1, 2, 3, 12, 16, 25, 64 }) {
        test_score(t, { 80, 90, 64, heads, heads, GGML_TYPE_F16 });
    }
    for (int64_t group : { 1, 2, 3, 4, 6, 7, 8 }) {
        test_score(t, { 120, 333, 64, 2 * group, 2, GGML_TYPE_F16, mask_kind::causal });
    }
    // The composition cuts here inside a group of heads, with a rest of queries.
    test_score(t, { 300, 2916, 8, 7, 1, GGML_TYPE_F32, mask_kind::causal });
    test_score(t, { 300, 2916, 8, 8, 4, GGML_TYPE_F32, mask_kind::random });

    for (mask_kind mask : { mask_kind::causal, mask_kind::random, mask_kind::blind_rows }) {
        for (ggml_type mask_type : { GGML_TYPE_F16, GGML_TYPE_F32 }) {
            for (bool permuted : { true, false }) {
                test_score(t, { 100, 145, 80, 4, 2, GGML_TYPE_F16, mask, mask_type, permuted });
            }
        }
    }
    test_score(t, { 1, 6272, 128, 4, 1, GGML_TYPE_F16, mask_kind::causal });
    test_score(t, { 1, 1, 64, 1, 1, GGML_TYPE_F32, mask_kind::causal });
    test_score(t, { 4, 1, 64, 1, 1, GGML_TYPE_F32, mask_kind::blind_rows });

    for (int64_t third : { 1, 11, 67, 243 }) {
        test_score(t, { 50, 3 * third, 72, 3, 3, GGML_TYPE_F32, mask_kind::none, GGML_TYPE_F16, true, true });
    }

    test_all_threads(t, { 729, 729, 72, 16, 16 });
    test_all_threads(t, { 100, 512, 128, 28, 4, GGML_TYPE_F16, mask_kind::causal });
    test_all_threads(t, { 33, 35, 64, 1, 1, GGML_TYPE_F16, mask_kind::random });

    test_memory(t, 729,  729,  16);
    test_memory(t, 2916, 2916, 16);
    test_memory(t, 512,  6272, 28);

    fixture::backend_ptr cpu(ggml_backend_cpu_init());
    graph any;
    ggml_tensor * q = any.input(GGML_TYPE_F32, 64, 32, 2);
    ggml_tensor * k = any.input(GGML_TYPE_Q8_0, 64, 32, 2);
    t.expect(illava_backend_has_score(cpu.get(), q, k, nullptr), "the CPU backend has the score");
    t.expect(illava_backend_has_score(ggml_backend_get_device(cpu.get()), q, k, nullptr), "the CPU device has the score");

    return t.finish();
}
