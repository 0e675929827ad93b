// This library's own products of many rows against float64 sums of what they round to: activations and weights in bf16 or in
// 14 bits, activations in 8 bits with the weights as stored, or neither. All types and layouts, ends of every width, threads.
//
// A processor without the instructions computes ggml's products; then the switch must change nothing.

#include "products.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace {

using namespace fixture;

struct shape {
    int64_t rows, outputs, inputs;
};

// Whole tiles and every kind of rest, one panel and several, sums in one piece and in several.
const shape shapes[] = {
    { 15, 40, 64 },    { 16, 32, 32 },   { 17, 40, 64 },   { 19, 72, 96 },   { 64, 64, 256 },  { 21, 8 * 17, 512 },
    { 130, 200, 256 }, { 129, 40, 64 }, { 23, 48, 2560 }, { 66, 41, 2560 },  { 260, 40, 1536 }, { 33, 104, 1536 }, { 18, 33, 48 }, { 20, 67, 1300 },
};

// Eight bits after the leading one, as bf16 has them; ties to even.
float to_bf16(float x) {
    return ggml_bf16_to_fp32(ggml_fp32_to_bf16(x));
}

std::vector<float> round_to_bf16(std::vector<float> values) {
    std::transform(values.begin(), values.end(), values.begin(), to_bf16);
    return values;
}

std::vector<float> round_to_q8_0(std::vector<float> values) {
    std::vector<uint8_t> stored(ggml_row_size(GGML_TYPE_Q8_0, int64_t(values.size())));
    ggml_get_type_traits_cpu(GGML_TYPE_Q8_0)->from_float(values.data(), stored.data(), int64_t(values.size()));
    ggml_get_type_traits(GGML_TYPE_Q8_0)->to_float(stored.data(), values.data(), int64_t(values.size()));
    return values;
}

// Whole numbers up to 8191 with a scale for every 32 values of a row; ties to even.
std::vector<float> round_to_14_bits(std::vector<float> values, int64_t inputs) {
    for (size_t row = 0; row < values.size(); row += size_t(inputs)) {
        for (int64_t k = 0; k < inputs; k += 32) {
            const auto begin = values.begin() + int64_t(row) + k, end = begin + std::min<int64_t>(32, inputs - k);
            float most = 0;
            std::for_each(begin, end, [&](float x) { most = std::max(most, std::fabs(x)); });
            std::transform(begin, end, begin, [&](float x) { return most > 0 ? std::nearbyint(x * (8191 / most)) * (most / 8191) : 0; });
        }
    }
    return values;
}

// The largest difference from the float64 product, in units of the product of the two norms.
double error(const std::vector<float> & got, const std::vector<float> & weights, const std::vector<float> & rows, const shape & s) {
    double worst = 0;
    for (int64_t r = 0; r < s.rows; r++) {
        for (int64_t o = 0; o < s.outputs; o++) {
            double sum = 0, size = 0;
            for (int64_t i = 0; i < s.inputs; i++) {
                const double term = double(weights[o * s.inputs + i]) * rows[r * s.inputs + i];
                sum += term;
                size += std::fabs(term);
            }
            const double value = got[r * s.outputs + o];
            worst = std::isfinite(value) ? std::max(worst, std::fabs(value - sum) / (size + 1e-30)) : INFINITY;
        }
    }
    return worst;
}

// illava_kernels() while own kernels are on.
std::string own_kernels;

bool uses(const char * instructions) {
    return own_kernels.find(instructions) != std::string::npos;
}

enum class arithmetic { stock, bf16, f32, bits_14, int8 };

// Arithmetic of so many rows by weights of this type while own kernels are on. Files of checkpoints in bf16 have weights
// that bf16 holds.
arithmetic arithmetic_of(ggml_type type, int64_t rows, bool bf16_holds) {
    if (!uses("avx")) {
        return arithmetic::stock;
    }
    switch (type) {
        case GGML_TYPE_F32: return arithmetic::stock;
        case GGML_TYPE_Q8_0:
            if (uses("int16") && !uses("vnni")) {
                return rows < 32 ? arithmetic::stock : arithmetic::bits_14;
            }
            [[fallthrough]];
        case GGML_TYPE_Q4_0:
        case GGML_TYPE_Q4_K:
            return rows < 16 ? arithmetic::stock : arithmetic::int8;
        case GGML_TYPE_F16:
            if (rows < (uses("bf16") ? 16 : uses("int16") ? 64 : 128)) {
                return arithmetic::stock;
            }
            return uses("bf16") && bf16_holds ? arithmetic::bf16 : !uses("bf16") && uses("int16") ? arithmetic::bits_14 : arithmetic::f32;
        case GGML_TYPE_BF16:
            return rows < 48 ? arithmetic::stock : uses("bf16") ? arithmetic::bf16 : uses("int16") ? arithmetic::bits_14 : arithmetic::f32;
        case GGML_TYPE_Q5_0:
        case GGML_TYPE_IQ4_NL:
            return rows < 64 ? arithmetic::stock : uses("bf16") ? arithmetic::bf16 : uses("int16") ? arithmetic::bits_14 : arithmetic::stock;
        default:
            return rows < 256 || uses("bf16") || !uses("int16") ? arithmetic::stock : arithmetic::bits_14;
    }
}

bool is_stock(ggml_type type, int64_t rows) {
    return arithmetic_of(type, rows, false) == arithmetic::stock;
}

// A product's largest difference from what its arithmetic gives.
double error(arithmetic a, const std::vector<float> & got, const std::vector<float> & weights, const std::vector<float> & rows, const shape & s) {
    switch (a) {
        case arithmetic::bf16:    return error(got, round_to_bf16(weights), round_to_bf16(rows), s);
        case arithmetic::bits_14: return error(got, round_to_14_bits(weights, s.inputs), round_to_14_bits(rows, s.inputs), s);
        case arithmetic::int8:    return error(got, weights, round_to_q8_0(rows), s);
        default:                  return error(got, weights, rows, s);
    }
}

std::string name_of(ggml_type type, const shape & s, bool repacked) {
    return std::string(ggml_type_name(type)) + (repacked ? " repacked " : " ") + std::to_string(s.rows) + " x " + std::to_string(s.outputs)
        + " x " + std::to_string(s.inputs);
}

// Checks a shape with weights of a checkpoint in `origin`: f16 files of bf16 checkpoints are products in
// bf16, others in f32.
void check_shape(checks & t, ggml_type type, const shape & s, ggml_backend_buffer_type_t layout, ggml_type origin = GGML_TYPE_F32) {
    const auto name = name_of(type, s, layout != nullptr) + (origin == GGML_TYPE_BF16 ? " from bf16" : "");
    const auto rows = normal(size_t(s.rows * s.inputs), 1.0f, 3);
    const auto drawn = normal(size_t(s.outputs * s.inputs), 0.5f, 4);
    product p(type, s.inputs, s.outputs, s.rows, layout, origin == GGML_TYPE_BF16 ? round_to_bf16(drawn) : drawn);
    p.set(rows);

    illava_use_own_kernels(false);
    const auto stock = p.run(1);
    illava_use_own_kernels(true);
    const auto how = arithmetic_of(type, s.rows, origin == GGML_TYPE_BF16);
    const auto got = p.run(1);
    if (how == arithmetic::stock) {
        t.expect(got == stock, name + ": ggml's own product");
        return;
    }
    const double worst = error(how, got, p.stored, rows, s);
    t.expect(worst < 2e-6, name + ": off by " + std::to_string(1e6 * worst) + "e-6");
    if (how == arithmetic::bits_14) {
        const double own = error(got, p.stored, rows, s), ggml = error(stock, p.stored, rows, s);
        t.expect(own < ggml, name + ": off by " + std::to_string(1e6 * own) + "e-6 of what is not rounded, ggml by " + std::to_string(1e6 * ggml) + "e-6");
    }

    // Many threads share few panels by their rows.
    for (int threads : { 2, 3, 7 }) {
        t.expect(p.run(threads) == got, name + ": the same with " + std::to_string(threads) + " threads");
    }
    illava_use_own_kernels(false);
    t.expect(p.run(2) == p.run(1) && p.run(1) == stock, name + ": off is what it was");
}

// The largest weights by the largest activations: sums of 16 and of 32 bits are near their limit, and wrong behind it.
void check_extremes(checks & t, ggml_type type, ggml_backend_buffer_type_t layout) {
    const shape s = { 260, 40, 256 };
    std::vector<float> weights(size_t(s.outputs * s.inputs)), rows(size_t(s.rows * s.inputs));
    for (int64_t i = 0; i < s.outputs * s.inputs; i++) {
        const bool first = i % 32 == 0, turned = i / s.inputs % 2 == 1; // the first of a block decides on the sign of its scale
        weights[size_t(i)] = first == turned ? -1.0f : 1.0f;
    }
    for (int64_t i = 0; i < s.rows * s.inputs; i++) {
        const int64_t row = i / s.inputs;
        rows[size_t(i)] = row % 3 == 0 ? 1.0f : row % 3 == 1 ? -1.0f : i % 2 ? 1.0f : -1.0f;
    }
    product p(type, s.inputs, s.outputs, s.rows, layout, weights);
    p.set(rows);
    illava_use_own_kernels(true);
    const double worst = error(arithmetic_of(type, s.rows, false), p.run(1), p.stored, rows, s);
    illava_use_own_kernels(false);
    t.expect(worst < 2e-6, name_of(type, s, layout != nullptr) + " of extremes: off by " + std::to_string(1e6 * worst) + "e-6");
}

// A value that is not finite makes its row's results so, and no others.
void check_not_finite(checks & t, ggml_type type) {
    const shape s = { 66, 40, 96 };
    product p(type, s.inputs, s.outputs, s.rows, nullptr, normal(size_t(s.outputs * s.inputs), 0.5f, 8));
    auto rows = normal(size_t(s.rows * s.inputs), 1.0f, 9);
    illava_use_own_kernels(true);
    p.set(rows);
    const auto expected = p.run(1);
    rows[size_t(7 * s.inputs) + 40] = INFINITY;
    rows[size_t(31 * s.inputs) + 95] = NAN;
    p.set(rows);
    const auto got = p.run(1);
    illava_use_own_kernels(false);
    bool right = true;
    for (int64_t i = 0; i < s.rows * s.outputs; i++) {
        const int64_t row = i / s.outputs;
        right = right && (row == 7 || row == 31 ? !std::isfinite(got[size_t(i)]) : got[size_t(i)] == expected[size_t(i)]);
    }
    t.expect(right, name_of(type, s, false) + ": what is not finite stays so, in its row");
}

// A row's result says nothing about the rows beside it.
void check_rows(checks & t, ggml_type type, ggml_backend_buffer_type_t layout, bool one_too) {
    const shape many = { 301, 96, 1536 };
    const auto weights = normal(size_t(many.outputs * many.inputs), 0.5f, 6);
    const auto rows    = normal(size_t(many.rows * many.inputs), 1.0f, 7);
    illava_use_own_kernels(true);
    product all(type, many.inputs, many.outputs, many.rows, layout, weights);
    all.set(rows);
    const auto expected = all.run(2);
    for (int64_t n : { 1, 16, 48, 133, 270 }) {
        if (n == 1 ? !one_too : is_stock(type, n)) {
            continue;
        }
        product some(type, many.inputs, many.outputs, n, layout, weights);
        some.set(rows);
        const auto got = some.run(1);
        t.expect(std::equal(got.begin(), got.end(), expected.begin()), name_of(type, many, layout != nullptr) + ": its first " + std::to_string(n) + " rows alone");
    }
    illava_use_own_kernels(false);
}

} // namespace

int main() {
    checks t;
    t.expect(std::strcmp(illava_kernels(), "stock") == 0, "ggml computes until it is told otherwise");
    illava_use_own_kernels(true);
    own_kernels = illava_kernels();
    printf("kernels: %s\n", own_kernels.c_str());

    const ggml_type types[] = { GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16, GGML_TYPE_Q4_0, GGML_TYPE_Q8_0, GGML_TYPE_Q4_K,
        GGML_TYPE_Q5_0, GGML_TYPE_Q5_K, GGML_TYPE_Q6_K, GGML_TYPE_IQ4_NL };
    for (ggml_type type : types) {
        const arithmetic how = arithmetic_of(type, 1000, false);
        // ours knows the interleaved layout of these alone
        const bool interleaved = type == GGML_TYPE_Q4_0 || type == GGML_TYPE_Q4_K;
        for (const shape & s : shapes) {
            if (s.inputs % ggml_blck_size(type) != 0) {
                continue;
            }
            check_shape(t, type, s, nullptr);
            if (type == GGML_TYPE_F16) {
                check_shape(t, type, s, nullptr, GGML_TYPE_BF16);
            }
            if (auto * layout = repacking(type, s.inputs, s.outputs); layout && interleaved) {
                check_shape(t, type, s, layout);
            }
        }
        if (how == arithmetic::stock) {
            continue;
        }
        check_rows(t, type, nullptr, false);
        check_extremes(t, type, nullptr);
        if (auto * layout = repacking(type, 256, 40); layout && interleaved) {
            check_extremes(t, type, layout);
        }
        if (how == arithmetic::bits_14 && 96 % ggml_blck_size(type) == 0) {
            check_not_finite(t, type);
        }
    }
    // ggml's product of one row by interleaved weights adds the same terms in the same order.
    if (auto * layout = repacking(GGML_TYPE_Q4_0, 1536, 96); layout && ggml_cpu_has_avx2() && uses("avx")) {
        check_rows(t, GGML_TYPE_Q4_0, layout, true);
    }
    return t.finish();
}
