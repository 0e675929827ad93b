// This library's own attention of many queries against float64: with and without a mask, head sizes that are no multiple
// of a vector, grouped heads, threads, queries that see nothing.

#include "graph-fixture.h"
#include "illava-kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace {

using namespace fixture;

enum class masking { none, causal, padded };

struct shape {
    int64_t d_k, d_v, n_q, n_kv, n_head, n_head_kv;
    masking mask;
};

// The encoder's, and decoders' with a cache longer than what is seen.
const shape shapes[] = {
    { 72, 72, 101, 101, 3, 3, masking::none },    { 64, 64, 130, 130, 4, 2, masking::causal },  { 80, 80, 65, 300, 2, 1, masking::padded },
    { 128, 128, 64, 1100, 2, 2, masking::causal }, { 40, 24, 97, 97, 2, 2, masking::none },      { 32, 200, 70, 64, 2, 2, masking::padded },
};

struct attention {
    explicit attention(const shape & s) : s(s) {
        ggml_tensor * q = g.input(GGML_TYPE_F32, s.d_k, s.n_head, s.n_q);
        ggml_tensor * k = g.input(GGML_TYPE_F16, s.d_k, s.n_head_kv, s.n_kv);
        ggml_tensor * v = g.input(GGML_TYPE_F16, s.d_v, s.n_head_kv, s.n_kv);
        ggml_tensor * m = s.mask == masking::none ? nullptr : g.input(GGML_TYPE_F16, s.n_kv, s.n_q);
        const auto turned = [&](ggml_tensor * x) { return ggml_permute(g.ctx(), x, 0, 2, 1, 3); };
        result = ggml_flash_attn_ext(g.ctx(), turned(q), turned(k), turned(v), m, scale(), 0.0f, 0.0f);
        ggml_prec_set_acc(result, GGML_PREC_F32);
        g.output(result);
        g.allocate();
        values_q = write(q, normal(size_t(ggml_nelements(q)), 2.0f, 1));
        values_k = write(k, normal(size_t(ggml_nelements(k)), 1.0f, 2));
        values_v = write(v, normal(size_t(ggml_nelements(v)), 1.0f, 3));
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

} // namespace

int main() {
    checks t;
    for (const shape & s : shapes) {
        const auto name = std::to_string(s.d_k) + "/" + std::to_string(s.d_v) + " x " + std::to_string(s.n_q) + " x " + std::to_string(s.n_kv);
        attention a(s);
        illava_use_own_kernels(false);
        const auto stock = a.run(1);
        illava_use_own_kernels(true);
        const auto got = a.run(1);
        const double worst = a.error(got);
        t.expect(worst < 1e-5, name + ": off by " + std::to_string(1e6 * worst) + "e-6, ggml's by " + std::to_string(1e6 * a.error(stock)) + "e-6");
        for (int threads : { 2, 5 }) {
            t.expect(a.run(threads) == got, name + ": the same with " + std::to_string(threads) + " threads");
        }
        if (std::strcmp(illava_kernels(), "stock") == 0) {
            t.expect(got == stock, name + ": ggml's own");
        }
        illava_use_own_kernels(false);
        t.expect(a.run(1) == stock, name + ": off is what it was");
    }
    return t.finish();
}
