// Matrix products as a picture or a prompt needs them: ggml's and this library's own, alternated, next to what the
// processor's instructions reach on registers alone.
//
//   bench-products [threads = 1] [rounds = 9] [outputs = 4304] [inputs = 1152] [rows = 729]
//
// Prints one JSON object a line. One thread is timed by the processor time it took, several by the clock on the wall.

#include "../../tests/native/products.h"
#include "peaks.h"

#include <algorithm>
#include <cstdlib>

namespace {

using namespace fixture;

using peaks::seconds;

void print_peaks() {
    const auto peak = [](const std::vector<peaks::loop> & loops) {
        double best = 0;
        for (const peaks::loop & loop : loops) {
            if (loop.runs()) {
                const double begin = seconds(1);
                loop.run();
                best = std::max(best, loop.giga_operations / (seconds(1) - begin));
            }
        }
        return best;
    };
    printf("{\"peak\": \"one thread\", \"f32\": %.0f, \"bf16\": %.0f, \"int16\": %.0f, \"int8\": %.0f}\n", peak(peaks::f32()),
        peak(peaks::bf16()), peak(peaks::int16()), peak(peaks::int8()));
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

void time_type(ggml_type type, bool repacked, bool from_bf16, int64_t inputs, int64_t outputs, int64_t rows, int n_threads, int rounds) {
    ggml_backend_buffer_type_t layout = repacked ? repacking(type, inputs, outputs) : nullptr;
    if ((repacked && !layout) || inputs % ggml_blck_size(type) != 0) {
        return;
    }
    auto weights = normal(size_t(inputs * outputs), 0.02f, 1);
    for (float & w : weights) {
        w = from_bf16 ? ggml_bf16_to_fp32(ggml_fp32_to_bf16(w)) : w;
    }
    product p(type, inputs, outputs, rows, layout, weights);
    p.set(normal(size_t(inputs * rows), 1.0f, 2));

    std::vector<double> stock, own, ratio;
    for (int i = -1; i < rounds; i++) {
        double took[2];
        for (int k = 0; k < 2; k++) {
            illava_use_own_kernels(k == 1);
            const int repeat = std::max(1, int(4e8 / double(inputs * outputs * rows)));
            const double begin = seconds(n_threads);
            for (int j = 0; j < repeat; j++) {
                p.compute(n_threads);
            }
            took[k] = (seconds(n_threads) - begin) / repeat;
        }
        if (i >= 0) {
            stock.push_back(took[0]);
            own.push_back(took[1]);
            ratio.push_back(took[0] / took[1]);
        }
    }
    const double flop = 2e-9 * double(inputs) * double(outputs) * double(rows);
    printf("{\"type\": \"%s%s\", \"rows\": %d, \"outputs\": %d, \"inputs\": %d, \"threads\": %d, \"stock_gflops\": %.0f, \"own_gflops\": %.0f, "
           "\"faster\": %.2f, \"range\": [%.2f, %.2f]}\n",
        ggml_type_name(type), repacked ? " repacked" : from_bf16 ? " from bf16" : "", int(rows), int(outputs), int(inputs), n_threads, flop / median(stock), flop / median(own),
        median(ratio), *std::min_element(ratio.begin(), ratio.end()), *std::max_element(ratio.begin(), ratio.end()));
    fflush(stdout);
}

} // namespace

int main(int argc, char ** argv) {
    const auto number = [&](int i, int fallback) { return argc > i ? std::max(1, atoi(argv[i])) : fallback; };
    const int threads = number(1, 1), rounds = number(2, 9), outputs = number(3, 4304), inputs = number(4, 1152), rows = number(5, 729);
    illava_use_own_kernels(true);
    printf("{\"kernels\": \"%s\"}\n", illava_kernels());
    print_peaks();
    for (ggml_type type : { GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0, GGML_TYPE_Q4_K, GGML_TYPE_Q6_K, GGML_TYPE_Q5_K,
             GGML_TYPE_Q3_K, GGML_TYPE_Q2_K, GGML_TYPE_IQ4_XS, GGML_TYPE_Q5_0, GGML_TYPE_IQ4_NL }) {
        time_type(type, false, false, inputs, outputs, rows, threads, rounds);
        if (type == GGML_TYPE_F16) {
            time_type(type, false, true, inputs, outputs, rows, threads, rounds);
        }
        time_type(type, true, false, inputs, outputs, rows, threads, rounds);
    }
    return 0;
}
