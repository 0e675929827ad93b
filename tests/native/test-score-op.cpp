// The attention-received score, fused and composed, against a float64 reference.

#include "ggml-illava.h"
#include "graph-fixture.h"
#include "illava-graph.h"
#include "score-cases.h"

#include <cmath>
#include <cstring>

using fixture::graph;
using score::error;
using score::mask_kind;
using score::operands;
using score::score_case;

namespace {

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
        stored = score::fill(c, q, k, mask);
    }
};

// Tolerance against the composed graph. ggml_mul_mat on the CPU rounds q before it multiplies, to the type
// that its dot product with k works in. The fused kernel does not.
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
        t.expect(score::equal_keys_have_equal_scores(c, fused), c.name() + ": equal keys, different scores");
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

    for (const score_case & c : score::all_cases()) {
        test_score(t, c);
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
