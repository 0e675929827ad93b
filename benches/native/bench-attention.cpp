// Attention of many queries: ggml's and this library's own, alternated.
//
//   bench-attention [threads = 1] [rounds = 5] [tokens = 729] [width of a head = 72] [heads = 16]
//
// Prints one JSON object a line: without a mask, as in an encoder, and with a causal one, as in a prompt. One thread is
// timed by the processor time it took, several by the clock on the wall. Operations are those of all pairs of tokens,
// also of those that a mask hides.

#include "../../tests/native/graph-fixture.h"
#include "illava-kernels.h"
#include "peaks.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

namespace {

using namespace fixture;

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

void time_attention(int64_t tokens, int64_t width, int64_t heads, bool causal, int n_threads, int rounds) {
    graph g;
    ggml_tensor * q = g.input(GGML_TYPE_F32, width, tokens, heads), * mask = causal ? g.input(GGML_TYPE_F16, tokens, tokens) : nullptr;
    ggml_tensor * k = g.input(GGML_TYPE_F16, width, tokens, heads), * v = g.input(GGML_TYPE_F16, width, tokens, heads);
    ggml_tensor * out = ggml_flash_attn_ext(g.ctx(), q, k, v, mask, 1.0f / std::sqrt(float(width)), 0.0f, 0.0f);
    ggml_prec_set_acc(out, GGML_PREC_F32);
    g.output(out);
    g.allocate();
    uint32_t seed = 1;
    for (ggml_tensor * x : { q, k, v }) {
        write(x, normal(size_t(ggml_nelements(x)), 1.0f, seed++));
    }
    if (mask) {
        std::vector<float> hidden(size_t(tokens * tokens));
        for (int64_t i = 0; i < tokens; i++) {
            std::fill_n(hidden.begin() + i * tokens + i + 1, tokens - i - 1, -INFINITY);
        }
        write(mask, hidden);
    }

    std::vector<double> stock, own, ratio;
    for (int i = -1; i < rounds; i++) {
        double took[2];
        for (int of = 0; of < 2; of++) {
            illava_use_own_kernels(of == 1);
            const double begin = peaks::seconds(n_threads);
            g.run(n_threads);
            took[of] = peaks::seconds(n_threads) - begin;
        }
        if (i >= 0) { // the first is a warm-up
            stock.push_back(took[0]);
            own.push_back(took[1]);
            ratio.push_back(took[0] / took[1]);
        }
    }
    const double flop = 4e-9 * double(tokens) * double(tokens) * double(width) * double(heads);
    printf("{\"tokens\": %d, \"width\": %d, \"heads\": %d, \"causal\": %s, \"threads\": %d, \"stock_gflops\": %.0f, \"own_gflops\": %.0f, "
           "\"faster\": %.2f, \"range\": [%.2f, %.2f]}\n",
        int(tokens), int(width), int(heads), causal ? "true" : "false", n_threads, flop / median(stock), flop / median(own), median(ratio),
        *std::min_element(ratio.begin(), ratio.end()), *std::max_element(ratio.begin(), ratio.end()));
    fflush(stdout);
}

} // namespace

int main(int argc, char ** argv) {
    const auto number = [&](int i, int fallback) { return argc > i ? std::max(1, atoi(argv[i])) : fallback; };
    const int threads = number(1, 1), rounds = number(2, 5), tokens = number(3, 729), width = number(4, 72), heads = number(5, 16);
    illava_use_own_kernels(true);
    printf("{\"kernels\": \"%s\"}\n", illava_kernels());
    time_attention(tokens, width, heads, false, threads, rounds);
    time_attention(tokens, width, heads, true, threads, rounds);
    return 0;
}
