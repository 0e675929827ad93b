// How long the score takes next to the flash attention of the same layer and to the composition.

#include "checks.h"

#include "ggml-illava.h"
#include "graph-fixture.h"
#include "illava-graph.h"

#include <array>
#include <cmath>

namespace gpu {
namespace {

struct shape {
    const char * name;
    int64_t      n, n_head, n_head_kv, d;
    ggml_type    k_type; // as the graph hands them to the score
    bool         mask;   // causal
};

// Operands of one layer's attention, and the three graphs over them.
struct layer {
    device_graph  fused, flash, composed;

    layer(machine & m, const shape & s) : fused(m.backend()), flash(m.backend()), composed(m.backend(), 32768) {
        const float scale = 1.0f / std::sqrt(float(s.d));
        const auto operands = [&](device_graph & g, ggml_type k_type) {
            ggml_tensor * q    = g.input(GGML_TYPE_F32, s.d, s.n_head, s.n);
            ggml_tensor * k    = g.input(k_type, s.d, s.n_head_kv, s.n);
            ggml_tensor * v    = g.input(GGML_TYPE_F16, s.d, s.n_head_kv, s.n);
            ggml_tensor * mask = s.mask ? g.input(GGML_TYPE_F16, s.n, s.n) : nullptr;
            return std::array<ggml_tensor *, 4>{ q, k, v, mask };
        };
        const auto turned = [](device_graph & g, ggml_tensor * x) { return ggml_permute(g.ctx(), x, 0, 2, 1, 3); };
        const auto fill = [&](const std::array<ggml_tensor *, 4> & x) {
            fixture::write(x[0], fixture::normal(ggml_nelements(x[0]), 1.5f, 1));
            fixture::write(x[1], fixture::normal(ggml_nelements(x[1]), 1.0f, 2));
            fixture::write(x[2], fixture::normal(ggml_nelements(x[2]), 1.0f, 3));
            if (x[3]) {
                std::vector<float> mask(size_t(s.n) * s.n, 0.0f);
                for (int64_t j = 0; j < s.n; j++) {
                    for (int64_t i = j + 1; i < s.n; i++) {
                        mask[j * s.n + i] = -INFINITY;
                    }
                }
                fixture::write(x[3], mask);
            }
        };
        const auto a = operands(fused, s.k_type);
        fused.output(ggml_attn_score(fused.ctx(), turned(fused, a[0]), turned(fused, a[1]), a[3], scale));
        fused.allocate();
        fill(a);

        const auto b = operands(composed, s.k_type);
        composed.output(ggml_attn_score_composed(composed.ctx(), turned(composed, b[0]), turned(composed, b[1]), b[3], scale));
        composed.allocate();
        fill(b);

        const auto c = operands(flash, GGML_TYPE_F16);
        flash.output(ggml_flash_attn_ext(flash.ctx(), turned(flash, c[0]), turned(flash, c[1]), turned(flash, c[2]), c[3], scale, 0.0f, 0.0f));
        flash.allocate();
        fill(c);
    }
};

json measure(machine & m, const shape & s, double peak, int rounds) {
    layer l(m, s);

    const size_t free_before = m.free_bytes();
    const times  fused       = m.time(l.fused.graph(), rounds);
    const size_t free_after  = m.free_bytes();
    const times  flash       = m.time(l.flash.graph(), rounds);
    const times  composed    = m.time(l.composed.graph(), rounds);

    const double product = 2.0 * double(s.n) * double(s.n) * double(s.d) * double(s.n_head);
    json out = { { "tokens", s.n }, { "heads", s.n_head }, { "key_heads", s.n_head_kv }, { "head_size", s.d },
                 { "keys", ggml_type_name(s.k_type) }, { "causal_mask", s.mask },
                 { "score", fused.to_json() }, { "flash_attention", flash.to_json() }, { "composed_score", composed.to_json() },
                 { "score_over_flash_attention", fused.median() / flash.median() },
                 { "composed_over_score", composed.median() / fused.median() },
                 { "composed_bytes", l.composed.compute_bytes() },
                 // one q k^T each way is what the score needs at least once, and flash attention twice
                 { "share_of_peak_score", product / (fused.median() * 1e-3) / peak },
                 { "share_of_peak_flash_attention", 2.0 * product / (flash.median() * 1e-3) / peak } };
    if (m.is_gpu()) {
        // the pool grows with the first run and keeps what it has
        out["score_pool_growth_bytes"] = free_before > free_after ? free_before - free_after : 0;
    }
    return out;
}

} // namespace

double matrix_peak(machine & m, bool small, int rounds) {
    const int64_t n = small ? 256 : 8192;
    device_graph  g(m.backend());
    ggml_tensor * a = g.input(GGML_TYPE_F16, n, n);
    ggml_tensor * b = g.input(GGML_TYPE_F32, n, n);
    g.output(ggml_mul_mat(g.ctx(), a, b));
    g.allocate();
    const std::vector<float> values = fixture::normal(size_t(n) * n, 0.1f, 5);
    fixture::write(a, values);
    fixture::write(b, values);
    return 2.0 * double(n) * double(n) * double(n) / (m.time(g.graph(), rounds).median() * 1e-3);
}

json measure_ops(machine & m, bool small, double peak, int rounds) {
    std::vector<shape> shapes = {
        { "encoder, 729 tokens",  729,  16, 16, 72,  GGML_TYPE_F32, false },
        { "decoder, 6272 tokens", 6272, 28, 4,  128, GGML_TYPE_F16, true  },
        { "decoder, 6272 tokens, no mask", 6272, 28, 28, 128, GGML_TYPE_F16, false },
    };
    if (small) {
        shapes = { { "small encoder", 96, 2, 2, 72, GGML_TYPE_F32, false }, { "small decoder", 128, 4, 2, 128, GGML_TYPE_F16, true } };
    }
    json out;
    for (const shape & s : shapes) {
        fprintf(stderr, "score: %s\n", s.name);
        out[s.name] = measure(m, s, peak, rounds);
    }
    return out;
}

} // namespace gpu
