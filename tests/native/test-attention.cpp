// This library's own attention, of many queries and of few, against float64: with and without a mask, head sizes that are
// no multiple of a vector, grouped heads, threads, queries that see nothing.

#include "graph-fixture.h"
#include "ggml-illava.h"
#include "illava-kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace {

using namespace fixture;

enum class masking { none, causal, padded, late, windows };

struct shape {
    int64_t d_k, d_v, n_q, n_kv, n_head, n_head_kv;
    masking mask;
};

// The encoder's, and decoders' with a cache longer than what is seen.
const shape shapes[] = {
    { 72, 72, 101, 101, 3, 3, masking::none },    { 64, 64, 130, 130, 4, 2, masking::causal },  { 80, 80, 65, 300, 2, 1, masking::padded },
    { 128, 128, 64, 1100, 2, 2, masking::causal }, { 40, 24, 97, 97, 2, 2, masking::none },      { 32, 200, 70, 64, 2, 2, masking::padded },
    // keys in several stretches
    { 72, 72, 97, 4133, 2, 2, masking::none },     { 64, 64, 130, 6200, 2, 1, masking::causal }, { 64, 80, 70, 2049, 2, 2, masking::none },
    { 64, 64, 66, 6145, 1, 1, masking::padded },   { 64, 64, 66, 6145, 1, 1, masking::late },
    { 80, 80, 777, 777, 2, 2, masking::windows },  { 64, 80, 2500, 2500, 1, 1, masking::windows },
};

std::vector<float> to_bf16(std::vector<float> values) {
    for (float & value : values) {
        value = ggml_bf16_to_fp32(ggml_fp32_to_bf16(value));
    }
    return values;
}

struct attention {
    // With `bf16` all values are such that bf16 holds them, and the attention is that of a layer in bf16.
    attention(const shape & s, bool bf16) : s(s) {
        ggml_tensor * q = g.input(GGML_TYPE_F32, s.d_k, s.n_head, s.n_q);
        ggml_tensor * k = g.input(GGML_TYPE_F16, s.d_k, s.n_head_kv, s.n_kv);
        ggml_tensor * v = g.input(GGML_TYPE_F16, s.d_v, s.n_head_kv, s.n_kv);
        ggml_tensor * m = s.mask == masking::none ? nullptr : g.input(GGML_TYPE_F16, s.n_kv, s.n_q);
        const auto turned = [&](ggml_tensor * x) { return ggml_permute(g.ctx(), x, 0, 2, 1, 3); };
        result = ggml_flash_attn_ext(g.ctx(), turned(q), turned(k), turned(v), m, scale(), 0.0f, 0.0f);
        ggml_prec_set_acc(result, GGML_PREC_F32);
        if (bf16) {
            illava_attention_like(result, g.input(GGML_TYPE_BF16, 32));
        }
        g.output(result);
        g.allocate();
        const auto fill = [&](ggml_tensor * x, float size, uint32_t seed) {
            const auto drawn = normal(size_t(ggml_nelements(x)), size, seed);
            return write(x, bf16 ? to_bf16(drawn) : drawn);
        };
        values_q = fill(q, 2.0f, 1);
        values_k = fill(k, 1.0f, 2);
        values_v = fill(v, 1.0f, 3);
        if (m) {
            std::vector<float> hidden(size_t(s.n_kv * s.n_q));
            for (int64_t i = 0; i < s.n_q; i++) {
                for (int64_t j = 0; j < s.n_kv; j++) {
                    hidden[size_t(i * s.n_kv + j)] = sees(i, j) ? 0.0f : -INFINITY;
                }
            }
            write(m, hidden);
        }
    }

    float scale() const { return 1.0f / std::sqrt(float(s.d_k)); }

    bool sees(int64_t query, int64_t key) const {
        switch (s.mask) {
            case masking::none:   return true;
            case masking::causal: return key <= query + s.n_kv / 3;
            case masking::windows: return key / 40 == query / 40;
            case masking::late:   return query != 5 && key >= s.n_kv / 2 + query;
            default:              return query != 5 && key < s.n_kv / 2; // query 5 sees nothing
        }
    }

    // The largest difference from float64 of a value, whose size is about one.
    double error(const std::vector<float> & got) const {
        double worst = 0;
        std::vector<double> p(size_t(s.n_kv));
        for (int64_t h = 0; h < s.n_head; h++) {
            const int64_t hk = h / (s.n_head / s.n_head_kv);
            for (int64_t i = 0; i < s.n_q; i++) {
                double largest = -INFINITY, sum = 0;
                for (int64_t j = 0; j < s.n_kv; j++) {
                    double x = 0;
                    for (int64_t d = 0; d < s.d_k; d++) {
                        x += double(values_q[size_t((i * s.n_head + h) * s.d_k + d)]) * values_k[size_t((j * s.n_head_kv + hk) * s.d_k + d)];
                    }
                    p[size_t(j)] = sees(i, j) ? x * scale() : -INFINITY;
                    largest = std::max(largest, p[size_t(j)]);
                }
                for (double & x : p) {
                    x = largest == -INFINITY ? 0 : std::exp(x - largest);
                    sum += x;
                }
                for (int64_t d = 0; d < s.d_v; d++) {
                    double value = 0;
                    for (int64_t j = 0; j < s.n_kv; j++) {
                        value += p[size_t(j)] * values_v[size_t((j * s.n_head_kv + hk) * s.d_v + d)];
                    }
                    const double x = got[size_t((i * s.n_head + h) * s.d_v + d)];
                    const double off = std::fabs(x - (sum > 0 ? value / sum : 0));
                    worst = std::isfinite(x) ? std::max(worst, off) : INFINITY;
                }
            }
        }
        return worst;
    }

    std::vector<float> run(int n_threads) {
        g.run(n_threads);
        return read<float>(result);
    }

    shape              s;
    graph              g;
    ggml_tensor *      result;
    std::vector<float> values_q, values_k, values_v;
};

void check(checks & t, const shape & s, bool bf16) {
    const auto name = std::to_string(s.d_k) + "/" + std::to_string(s.d_v) + " x " + std::to_string(s.n_q) + " x " + std::to_string(s.n_kv)
        + (bf16 ? " in bf16" : "");
    attention a(s, bf16);
    illava_use_own_kernels(false);
    const auto stock = a.run(1);
    illava_use_own_kernels(true);
    const auto got = a.run(1);
    const double worst = a.error(got);
    // Only the shares of the keys are rounded then, to eight bits.
    const bool rounds = bf16 && std::strstr(illava_kernels(), "bf16");
    t.expect(worst < (rounds ? 6e-3 : 1e-5), name + ": off by " + std::to_string(1e6 * worst) + "e-6, ggml's by " + std::to_string(1e6 * a.error(stock)) + "e-6");
    t.expect(!rounds || worst > 1e-5, name + ": computed in bf16");
    for (int threads : { 2, 5 }) {
        t.expect(a.run(threads) == got, name + ": the same with " + std::to_string(threads) + " threads");
    }
    if (std::strcmp(illava_kernels(), "stock") == 0) {
        t.expect(got == stock, name + ": ggml's own");
    }
    illava_use_own_kernels(false);
    t.expect(a.run(1) == stock, name + ": off is what it was");
}

// Few queries, as of a token that is generated. ggml sums their values in f16.
void check_few(checks & t, const shape & s) {
    const auto name = std::to_string(s.d_k) + "/" + std::to_string(s.d_v) + " x " + std::to_string(s.n_q) + " of few x " + std::to_string(s.n_kv);
    attention a(s, false);
    illava_use_own_kernels(false);
    const auto   stock = a.run(1);
    const double ggmls = a.error(stock);
    illava_use_own_kernels(true);
    const bool own = std::strcmp(illava_kernels(), "stock") != 0;
    const auto got = a.run(1);
    const double worst = a.error(got);
    t.expect(worst < (own ? 1e-5 : 3e-3), name + ": off by " + std::to_string(1e6 * worst) + "e-6, ggml's by " + std::to_string(1e6 * ggmls) + "e-6");
    t.expect(!own || ggmls > 10 * worst, name + ": not ggml's");
    for (int threads : { 2, 3 }) {
        t.expect(!own || a.run(threads) == got, name + ": the same with " + std::to_string(threads) + " threads");
    }
    t.expect(a.error(a.run(40)) < 3e-3, name + ": more threads than heads");
    illava_use_own_kernels(false);
    t.expect(a.run(1) == stock, name + ": off is what it was");
}

// F16 tells by its values whether the layer is in bf16, F32 never is.
void check_likeness(checks & t) {
    graph g;
    ggml_tensor * q = g.input(GGML_TYPE_F32, 64, 64), * kv = g.input(GGML_TYPE_F16, 64, 64);
    ggml_tensor * weights[] = { g.input(GGML_TYPE_F16, 64, 64), g.input(GGML_TYPE_F16, 64, 64), g.input(GGML_TYPE_F32, 64, 64) };
    ggml_tensor * out = ggml_flash_attn_ext(g.ctx(), q, kv, kv, nullptr, 1.0f, 0.0f, 0.0f);
    g.output(out);
    g.allocate();
    const auto drawn = normal(64 * 64, 0.02f, 4);
    write(weights[0], to_bf16(drawn));
    write(weights[1], drawn);
    write(weights[2], to_bf16(drawn));
    for (int i = 0; i < 3; i++) {
        illava_attention_like(out, weights[i]);
        t.expect(illava_attention_in_bf16(out) == (i == 0), "weights number " + std::to_string(i) + " say whether the layer is in bf16");
    }
}

} // namespace

int main() {
    checks t;
    for (const shape & s : shapes) {
        check(t, s, false);
        check(t, s, true);
    }
    const shape few[] = {
        { 64, 64, 1, 3000, 14, 2, masking::none },  { 16, 16, 1, 400, 4, 4, masking::none },     { 128, 128, 20, 1001, 3, 1, masking::causal },
        { 72, 40, 7, 257, 11, 1, masking::padded }, { 256, 256, 1, 600, 9, 1, masking::causal }, { 8, 8, 63, 40, 1, 1, masking::none },
    };
    for (const shape & s : few) {
        check_few(t, s);
    }
    check_likeness(t);
    return t.finish();
}
