// One merge step as graph nodes against the same in plain C++: sorting, and float64 sums.

#include "graph-fixture.h"
#include "illava-graph.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

using fixture::graph;

namespace {

enum class ties { none, some, blocks, all, zeros };

struct step_case {
    int64_t n;
    int64_t r;
    int64_t d;
    ties    equal = ties::none;

    std::string name() const {
        static const char * const names[] = { "none", "some", "blocks", "all", "signed zeros" };
        char text[120];
        snprintf(text, sizeof(text), "n=%d r=%d d=%d ties=%s", int(n), int(r), int(d), names[int(equal)]);
        return text;
    }
};

std::vector<float> make_scores(const step_case & c) {
    std::vector<float> scores = fixture::normal(c.n, 1.0f, uint32_t(c.n * 31 + c.r));
    for (int64_t i = 0; i < c.n; i++) {
        float & s = scores[i];
        switch (c.equal) {
            case ties::none:   s = std::exp(s); break;
            case ties::some:   s = std::round(std::exp(s) * 16.0f) / 16.0f; break;
            case ties::blocks: s = 1.0f + float(i * 7 / c.n) * 1.1920929e-7f; break; // next to each other
            case ties::all:    s = 0.25f; break;
            case ties::zeros:  s = i % 2 ? 0.0f : -0.0f; break;
        }
    }
    return scores;
}

struct expected_step {
    std::vector<int32_t> kept, order;
};

expected_step plan_by_sorting(const std::vector<float> & scores, int64_t r) {
    std::vector<int32_t> all(scores.size());
    std::iota(all.begin(), all.end(), 0);
    std::stable_sort(all.begin(), all.end(), [&](int32_t a, int32_t b) { return scores[a] < scores[b]; });

    expected_step step;
    step.order.assign(all.begin(), all.begin() + r + 1);
    step.kept.assign(all.begin() + r, all.end());
    std::sort(step.kept.begin(), step.kept.end());
    return step;
}

void test_step(fixture::checks & t, const step_case & c) {
    graph g(4096);
    ggml_tensor * scores = g.input(GGML_TYPE_F32, c.n);
    ggml_tensor * x      = g.input(GGML_TYPE_F32, c.d, c.n);
    const illava_plan_tensors plan = illava_build_plan(g.ctx(), scores, c.r);
    ggml_tensor * kept   = ggml_cont(g.ctx(), plan.kept);
    ggml_tensor * order  = ggml_cont(g.ctx(), plan.order);
    ggml_tensor * merged = illava_build_merge(g.ctx(), x, plan);
    for (ggml_tensor * tensor : { kept, order, merged }) {
        g.output(tensor);
    }
    g.allocate();

    const std::vector<float> s  = fixture::write(scores, make_scores(c));
    const std::vector<float> in = fixture::write(x, fixture::normal(c.n * c.d, 3.0f, 5));
    g.run(1);

    const expected_step expected = plan_by_sorting(s, c.r);
    if (!t.expect(fixture::read<int32_t>(order) == expected.order, c.name() + ": order") ||
        !t.expect(fixture::read<int32_t>(kept) == expected.kept, c.name() + ": kept")) {
        return;
    }
    t.expect(fixture::read<float>(x) == in, c.name() + ": the input changed");
    t.expect(merged->ne[0] == c.d && merged->ne[1] == c.n - c.r, c.name() + ": shape");

    const std::vector<float> out = fixture::read<float>(merged);
    bool   copied = true;
    double worst  = 0.0;
    for (int64_t i = 0; i < c.n - c.r; i++) {
        const int32_t token = expected.kept[i];
        if (token != expected.order.back()) {
            copied = copied && memcmp(&out[i * c.d], &in[token * c.d], c.d * sizeof(float)) == 0;
            continue;
        }
        for (int64_t e = 0; e < c.d; e++) {
            double sum = 0.0, magnitude = 0.0, weights = 0.0;
            for (int64_t m = 0; m <= c.r; m++) {
                const double w     = double(c.r + 1 - m);
                const double value = in[expected.order[m] * c.d + e];
                sum       += w * value;
                magnitude += w * std::abs(value);
                weights   += w;
            }
            worst = std::max(worst, std::abs(out[i * c.d + e] - sum / weights) / (magnitude / weights));
        }
    }
    t.expect(copied, c.name() + ": a kept token changed");
    t.expect(worst <= 1e-6, c.name() + ": merged token off by " + std::to_string(worst));
}

// Linear in the tokens: nothing compares all pairs.
void test_size(fixture::checks & t, int64_t n) {
    graph g(4096);
    ggml_tensor * scores = g.input(GGML_TYPE_F32, n);
    const illava_plan_tensors plan = illava_build_plan(g.ctx(), scores, n / 8);
    g.output(ggml_cont(g.ctx(), plan.kept));
    g.output(ggml_cont(g.ctx(), plan.order));
    g.allocate();

    char text[100];
    snprintf(text, sizeof(text), "plan of %d: %zu bytes, %d nodes", int(n), g.compute_bytes(), ggml_graph_n_nodes(g.nodes()));
    t.expect(g.compute_bytes() <= size_t(64) * n + 4096, text);
    t.expect(ggml_graph_n_nodes(g.nodes()) <= 100, text);
}

// Scores that are no numbers must not take the process down: a plan of valid tokens comes out.
void test_nan(fixture::checks & t) {
    graph g;
    ggml_tensor * scores = g.input(GGML_TYPE_F32, 40);
    const illava_plan_tensors plan = illava_build_plan(g.ctx(), scores, 13);
    ggml_tensor * kept  = ggml_cont(g.ctx(), plan.kept);
    ggml_tensor * order = ggml_cont(g.ctx(), plan.order);
    g.output(kept);
    g.output(order);
    g.allocate();

    std::vector<float> values = fixture::normal(40, 1.0f, 1);
    for (int i = 0; i < 40; i += 3) {
        values[i] = NAN;
    }
    fixture::write(scores, values);
    g.run(1);
    bool valid = true;
    for (const ggml_tensor * tensor : { kept, order }) {
        for (int32_t i : fixture::read<int32_t>(tensor)) {
            valid = valid && i >= 0 && i < 40;
        }
    }
    t.expect(valid, "NaN scores: an index outside the tokens");
}

} // namespace

int main() {
    fixture::checks t;

    for (int64_t n : { 2, 3, 5, 17 }) {
        for (int64_t r = 1; r < n; r++) {
            for (ties equal : { ties::none, ties::some, ties::blocks, ties::all, ties::zeros }) {
                test_step(t, { n, r, 3, equal });
            }
        }
    }
    for (int64_t r : { 1, 2, 91, 92, 364, 727, 728 }) {
        for (ties equal : { ties::none, ties::some, ties::blocks, ties::all }) {
            test_step(t, { 729, r, 48, equal });
        }
    }
    test_step(t, { 729,  92,  1152 });
    test_step(t, { 637,  92,  1152 });
    test_step(t, { 1024, 163, 4 * 80, ties::some }); // whole groups of four patches
    test_step(t, { 2916, 368, 64 });
    test_step(t, { 2916, 368, 64, ties::all });
    for (int64_t n : { 4096, 4097, 5000, 70000 }) { // one, two and three digits of the index
        for (ties equal : { ties::none, ties::some, ties::blocks, ties::all }) {
            test_step(t, { n, n / 3, 2, equal });
        }
    }

    for (int64_t n : { 729, 2916, 4096, 16384, 100000 }) {
        test_size(t, n);
    }
    test_nan(t);

    return t.finish();
}
