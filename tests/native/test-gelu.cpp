// This library's own GELU, in both forms, against float64: the range in which it bends, its ends, values that are not
// finite, a number of values that is no multiple of a vector, threads.

#include "graph-fixture.h"
#include "illava-kernels.h"

#include <cmath>
#include <cstring>
#include <limits>

using namespace fixture;

namespace {

double exact(float x, bool quick) {
    if (quick) {
        return double(x) / (1 + std::exp(-1.702 * double(x)));
    }
    const double u = std::sqrt(2 / std::acos(-1.0)) * (double(x) + 0.044715 * std::pow(double(x), 3));
    return 0.5 * double(x) * (1 + std::tanh(u));
}

void check(checks & t, bool quick) {
    const std::string form = quick ? "quick: " : "tanh: ";
    std::vector<float> values;
    for (int i = -120000; i <= 120000; i++) {
        values.push_back(float(i) * 1e-4f);
    }
    const size_t n_ends = 6;
    const float  inf    = std::numeric_limits<float>::infinity();
    values.insert(values.end(), { -inf, inf, -3e38f, 3e38f, 1e-40f, std::nanf("") });

    graph g;
    ggml_tensor * x = g.input(GGML_TYPE_F32, int64_t(values.size()));
    ggml_tensor * y = quick ? ggml_gelu_quick(g.ctx(), x) : ggml_gelu(g.ctx(), x);
    g.output(y);
    g.allocate();
    write(x, values);
    const auto run = [&](int n_threads) {
        g.run(n_threads);
        return read<float>(y);
    };

    illava_use_own_kernels(false);
    const auto stock = run(1);
    illava_use_own_kernels(true);
    const auto got = run(1);
    double worst = 0, worst_stock = 0;
    for (size_t i = 0; i + n_ends < values.size(); i++) {
        worst       = std::max(worst, std::fabs(double(got[i]) - exact(values[i], quick)));
        worst_stock = std::max(worst_stock, std::fabs(double(stock[i]) - exact(values[i], quick)));
    }
    const bool own = std::strcmp(illava_kernels(), "stock") != 0;
    t.expect(worst < (own ? 2e-6 : 4e-3), form + "off by " + std::to_string(1e6 * worst) + "e-6, ggml's by " + std::to_string(1e6 * worst_stock) + "e-6");
    const float * ends = got.data() + values.size() - n_ends;
    // ggml's quick form has no number at minus infinity either
    t.expect((quick || ends[0] == 0) && ends[1] == inf && (!own || std::fabs(ends[2]) < 1e-30f) && (!own || ends[3] == 3e38f),
        form + "the ends are 0 and the value");
    t.expect(std::fabs(ends[4]) < 1e-39f && std::isnan(ends[5]), form + "next to 0, and no number");
    for (int threads : { 2, 5 }) {
        const auto again = run(threads);
        t.expect(std::memcmp(again.data(), got.data(), got.size() * sizeof(float)) == 0, form + "the same with " + std::to_string(threads) + " threads");
    }
    illava_use_own_kernels(false);
    const auto off = run(1);
    t.expect(std::memcmp(off.data(), stock.data(), off.size() * sizeof(float)) == 0, form + "off is what it was");
}

} // namespace

int main() {
    checks t;
    check(t, false);
    check(t, true);
    return t.finish();
}
