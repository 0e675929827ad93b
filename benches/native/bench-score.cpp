// The score next to the attention it describes: one layer's flash attention, the fused score, the
// composed score, plan and merge, alternated in one run. Times are ratios to flash attention.
//
//   bench-score [threads = 1] [rounds = 9]
//
// One thread is timed by the processor time it took, which a busy machine disturbs less; several
// threads by the clock on the wall.

#include "../../tests/native/graph-fixture.h"
#include "ggml-illava.h"
#include "illava-graph.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <string>

using fixture::graph;

namespace {

struct shape {
    const char * what;
    int64_t   n_q, n_kv, n_head, n_head_kv, d;
    ggml_type score_k; // what the score reads; flash attention always takes f16
    int64_t   width, r;
    bool      causal;
};

const shape shapes[] = {
    { "SigLIP-so400m 729",      729,  729,  16, 16, 72,  GGML_TYPE_F32, 1152, 92,  false },
    { "SigLIP-so400m 453",      453,  453,  16, 16, 72,  GGML_TYPE_F32, 1152, 92,  false },
    { "CLIP-L 577",             577,  577,  16, 16, 64,  GGML_TYPE_F32, 1024, 73,  false },
    { "2,916 tokens",           2916, 2916, 16, 16, 72,  GGML_TYPE_F32, 1152, 368, false },
    { "Qwen2-7B, 361 of 400",   361,  512,  28, 4,  128, GGML_TYPE_F16, 3584, 108, true },
    { "Qwen2-7B, video ubatch", 512,  6400, 28, 4,  128, GGML_TYPE_F16, 3584, 108, true },
};

class timed_graph {
public:
    template <typename Build> explicit timed_graph(Build build) {
        build(graph_);
        graph_.allocate();
    }
    double run(int n_threads) {
        const auto   begin     = std::chrono::steady_clock::now();
        const double cpu_begin = double(std::clock());
        graph_.run(n_threads);
        if (n_threads == 1) {
            return 1e3 * (double(std::clock()) - cpu_begin) / CLOCKS_PER_SEC;
        }
        return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
    }
    size_t bytes() const { return graph_.compute_bytes(); }

private:
    graph graph_;
};

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

void measure(const shape & s, int n_threads, int rounds) {
    const float scale = 0.3f / float(s.d);
    std::vector<ggml_tensor *> inputs;

    const auto attention_inputs = [&](graph & g, ggml_type k_type, ggml_tensor *& q, ggml_tensor *& k, ggml_tensor *& mask) {
        q    = g.input(GGML_TYPE_F32, s.d, s.n_head, s.n_q);
        k    = g.input(k_type, s.d, s.n_head_kv, s.n_kv);
        mask = s.causal ? g.input(GGML_TYPE_F16, s.n_kv, s.n_q) : nullptr;
        inputs.insert(inputs.end(), { q, k });
        if (mask) {
            inputs.push_back(mask);
        }
        q = ggml_permute(g.ctx(), q, 0, 2, 1, 3);
        k = ggml_permute(g.ctx(), k, 0, 2, 1, 3);
    };
    const auto scored = [&](auto score) {
        return [&, score](graph & g) {
            ggml_tensor *q, *k, *mask;
            attention_inputs(g, s.score_k, q, k, mask);
            g.output(score(g.ctx(), q, k, mask, scale));
        };
    };

    timed_graph flash([&](graph & g) {
        ggml_tensor *q, *k, *mask;
        attention_inputs(g, GGML_TYPE_F16, q, k, mask);
        ggml_tensor * v = g.input(GGML_TYPE_F16, s.d, s.n_head_kv, s.n_kv);
        inputs.push_back(v);
        ggml_tensor * out = ggml_flash_attn_ext(g.ctx(), q, k, ggml_permute(g.ctx(), v, 0, 2, 1, 3), mask, scale, 0.0f, 0.0f);
        ggml_prec_set_acc(out, GGML_PREC_F32);
        g.output(out);
    });
    timed_graph fused(scored(ggml_attn_score));
    timed_graph composed(scored(ggml_attn_score_composed));
    timed_graph step([&](graph & g) {
        ggml_tensor * scores = g.input(GGML_TYPE_F32, s.n_q);
        ggml_tensor * x      = g.input(GGML_TYPE_F32, s.width, s.n_q);
        inputs.insert(inputs.end(), { scores, x });
        g.output(illava_build_merge(g.ctx(), x, illava_build_plan(g.ctx(), scores, s.r)));
    });

    for (ggml_tensor * x : inputs) {
        std::vector<float> values = fixture::normal(ggml_nelements(x), 1.0f, 1);
        if (s.causal && x->ne[0] == s.n_kv && x->ne[1] == s.n_q) {
            for (int64_t i = 0; i < ggml_nelements(x); i++) {
                values[i] = i % s.n_kv > i / s.n_kv + (s.n_kv - s.n_q) ? -INFINITY : 0.0f;
            }
        }
        fixture::write(x, values);
    }

    timed_graph * const graphs[] = { &flash, &fused, &composed, &step };
    std::vector<double> times[4], ratios[4];
    for (int round = -1; round < rounds; round++) {
        double ms[4];
        for (int i = 0; i < 4; i++) {
            ms[i] = graphs[i]->run(n_threads);
        }
        for (int i = 0; i < 4 && round >= 0; i++) {
            times[i].push_back(ms[i]);
            ratios[i].push_back(ms[i] / ms[0]);
        }
    }

    printf("%-24s flash %8.2f ms", s.what, median(times[0]));
    const char * const names[] = { "", "fused", "composed", "plan+merge" };
    for (int i = 1; i < 4; i++) {
        const auto [low, high] = std::minmax_element(ratios[i].begin(), ratios[i].end());
        printf("  %s %.3f (%.3f to %.3f)", names[i], median(ratios[i]), *low, *high);
    }
    printf("  bytes composed %zu, plan+merge %zu\n", composed.bytes(), step.bytes());
}

} // namespace

int main(int argc, char ** argv) {
    const int n_threads = argc > 1 ? std::max(1, atoi(argv[1])) : 1;
    const int rounds    = argc > 2 ? std::max(1, atoi(argv[2])) : 9;

    printf("threads %d, rounds %d; ratios to flash attention: median (range)\n", n_threads, rounds);
    for (const shape & s : shapes) {
        measure(s, n_threads, rounds);
    }
}
