// Nodes that are computed together: products of the same rows with their biases, activations and residuals are to the
// last bit what the nodes give one by one, and layer normalisation is held to float64. A node that is asked for, or that
// another one reads, is never passed over.

#include "graph-fixture.h"
#include "illava-kernels.h"

#include <cmath>
#include <cstring>

using namespace fixture;

namespace {

struct shape {
    ggml_type type;
    int64_t   width, hidden, rows;
    bool      quick; // the form of GELU
};

// A layer of an encoder without its attention: norm, three products of the same rows, their sum, a residual, norm, MLP with
// a residual. With `apart` every node is an output, so that none can be passed over.
std::vector<float> layer(const shape & s, bool apart, int n_threads) {
    graph g;
    const auto weight = [&](int64_t in, int64_t out) { return g.input(s.type, in, out); };
    const auto vector = [&](int64_t n) { return g.input(GGML_TYPE_F32, n); };
    ggml_tensor * x = g.input(GGML_TYPE_F32, s.width, s.rows);
    ggml_tensor * matrices[] = { weight(s.width, s.width), weight(s.width, s.width), weight(s.width, s.width), weight(s.width, s.width),
        weight(s.width, s.hidden), weight(s.hidden, s.width) };
    ggml_tensor * vectors[] = { vector(s.width), vector(s.width), vector(s.width), vector(s.width), vector(s.hidden), vector(s.width) };

    ggml_context * ctx = g.ctx();
    const auto node = [&](ggml_tensor * t) {
        if (apart) {
            g.output(t);
        }
        return t;
    };
    const auto product = [&](int i, ggml_tensor * rows) { return node(ggml_add(ctx, node(ggml_mul_mat(ctx, matrices[i], rows)), vectors[i])); };
    // Norms are outputs, and so never fused: only the products are compared.
    ggml_tensor * normed = ggml_norm(ctx, x, 1e-6f);
    g.output(normed);
    ggml_tensor * q = product(0, normed), * k = product(1, normed), * v = product(2, normed);
    ggml_tensor * sum = node(ggml_mul(ctx, node(ggml_mul(ctx, q, k)), v));
    ggml_tensor * middle = node(ggml_add(ctx, product(3, sum), x));
    ggml_tensor * again = ggml_norm(ctx, middle, 1e-6f);
    g.output(again);
    ggml_tensor * up = product(4, again);
    ggml_tensor * bent = node(s.quick ? ggml_gelu_quick(ctx, up) : ggml_gelu(ctx, up));
    ggml_tensor * out = ggml_add(ctx, middle, product(5, bent));
    g.output(out);
    g.allocate();
    uint32_t seed = 11;
    write(x, normal(size_t(s.width * s.rows), 1.0f, seed++));
    for (ggml_tensor * m : matrices) {
        write(m, normal(size_t(ggml_nelements(m)), 1 / std::sqrt(float(m->ne[0])), seed++));
    }
    for (ggml_tensor * b : vectors) {
        write(b, normal(size_t(b->ne[0]), 0.5f, seed++));
    }
    g.run(n_threads);
    return read<float>(out);
}

void check_layer(checks & t, const shape & s) {
    const std::string name = std::string(ggml_type_name(s.type)) + " " + std::to_string(s.width) + " by " + std::to_string(s.rows);
    illava_use_own_kernels(true);
    const auto one_by_one = layer(s, true, 1);
    for (int threads : { 1, 2, 5 }) {
        t.expect(layer(s, false, threads) == one_by_one, name + ": the same together, " + std::to_string(threads) + " threads");
    }
    illava_use_own_kernels(false);
    t.expect(layer(s, false, 2) == layer(s, true, 1), name + ": stock computes as it did");
}

// NORM, MUL, ADD against float64.
void check_norm(checks & t, int64_t width, int64_t rows) {
    graph g;
    ggml_tensor * x = g.input(GGML_TYPE_F32, width, rows), * weight = g.input(GGML_TYPE_F32, width), * bias = g.input(GGML_TYPE_F32, width);
    ggml_tensor * y = ggml_add(g.ctx(), ggml_mul(g.ctx(), ggml_norm(g.ctx(), x, 1e-6f), weight), bias);
    g.output(y);
    g.allocate();
    auto values = normal(size_t(width * rows), 3.0f, 5);
    for (float & value : values) {
        value += 7.0f;
    }
    write(x, values);
    const auto w = write(weight, normal(size_t(width), 1.0f, 6)), b = write(bias, normal(size_t(width), 1.0f, 7));
    illava_use_own_kernels(true);
    g.run(2);
    const auto got = read<float>(y);
    illava_use_own_kernels(false);
    double worst = 0;
    for (int64_t r = 0; r < rows; r++) {
        double mean = 0, variance = 0;
        for (int64_t i = 0; i < width; i++) {
            mean += values[r * width + i];
        }
        mean /= double(width);
        for (int64_t i = 0; i < width; i++) {
            variance += std::pow(values[r * width + i] - mean, 2) / double(width);
        }
        for (int64_t i = 0; i < width; i++) {
            const double expected = (values[r * width + i] - mean) / std::sqrt(variance + 1e-6) * w[i] + b[i];
            worst = std::max(worst, std::fabs(got[r * width + i] - expected));
        }
    }
    t.expect(worst < 1e-5, "norm of " + std::to_string(width) + ": off by " + std::to_string(1e6 * worst) + "e-6");
}

} // namespace

int main() {
    checks t;
    const shape shapes[] = {
        { GGML_TYPE_F16, 96, 320, 70, false },  { GGML_TYPE_F16, 1344, 96, 17, true },    { GGML_TYPE_BF16, 96, 1376, 130, false },
        { GGML_TYPE_Q8_0, 96, 1376, 33, true }, { GGML_TYPE_Q4_0, 64, 1344, 129, false }, { GGML_TYPE_Q4_K, 256, 1536, 40, false },
        { GGML_TYPE_F32, 96, 320, 20, false },  { GGML_TYPE_Q6_K, 256, 512, 40, false },  { GGML_TYPE_Q4_0, 64, 96, 3, true },
    };
    for (const shape & s : shapes) {
        check_layer(t, s);
    }
    for (int64_t width : { 1, 7, 8, 31, 72, 1152, 1600 }) {
        check_norm(t, width, 5);
    }
    return t.finish();
}
