// Products by the tiles of AMX, which few processors have: the instructions stand here a second time, as Intel's manual states
// them, so that a kernel that confuses rows, strides or registers gives another result. Held against float64.

#include "ggml-cpu/illava-product-amx.h"
#include "graph-fixture.h"

#include "ggml-cpu.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>

namespace {

using namespace fixture;
using namespace illava::product;

// Palette 1: eight tiles of up to 16 rows of 64 bytes. Loading leaves zeros outside of a tile's shape.
struct emulated {
    using tile = std::array<std::array<uint8_t, 64>, 16>;

    static inline amx_config          shape;
    static inline std::array<tile, 8> registers;
    static inline bool                is_set = false, valid = true;
    static inline int                 products = 0;

    static void configure(const amx_config & given) {
        shape  = given;
        is_set = true;
        valid  = valid && shape.palette == 1 && shape.start_row == 0;
        for (int t = 0; t < 8; t++) {
            valid = valid && shape.rows[t] <= 16 && shape.bytes[t] <= 64 && (shape.rows[t] == 0) == (shape.bytes[t] == 0);
        }
        registers = {};
    }
    static void release() { is_set = false; }

    // An instruction on a tile without a shape is a fault.
    static void use(int t) { valid = valid && is_set && shape.rows[t] > 0; }

    template <int T>
    static void zero() {
        use(T);
        registers[T] = {};
    }
    template <int T>
    static void load(const void * from, size_t stride) {
        use(T);
        registers[T] = {};
        for (size_t r = 0; r < shape.rows[T]; r++) {
            memcpy(registers[T][r].data(), (const char *) from + r * stride, shape.bytes[T]);
        }
    }
    template <int T>
    static void store(void * to, size_t stride) {
        use(T);
        for (size_t r = 0; r < shape.rows[T]; r++) {
            memcpy((char *) to + r * stride, registers[T][r].data(), shape.bytes[T]);
        }
    }

    template <typename V>
    static V at(const tile & t, size_t row, size_t i) {
        V value;
        memcpy(&value, t[row].data() + i * sizeof(V), sizeof(V));
        return value;
    }

    // TDPBF16PS: even and odd inputs have a sum each, which meet at the end.
    template <int Sums, int Rows, int Weights>
    static void add() {
        use(Sums);
        use(Rows);
        use(Weights);
        const int words = shape.bytes[Rows] / 4, columns = shape.bytes[Sums] / 4;
        valid = valid && shape.rows[Sums] == shape.rows[Rows] && shape.rows[Weights] == words && shape.bytes[Weights] == shape.bytes[Sums];
        const auto input = [](const tile & t, size_t row, size_t i) { return ggml_bf16_to_fp32({ at<uint16_t>(t, row, i) }); };
        for (size_t m = 0; m < shape.rows[Sums]; m++) {
            for (size_t n = 0; n < size_t(columns); n++) {
                float half[2] = {};
                for (size_t k = 0; k < size_t(words); k++) {
                    for (size_t i = 0; i < 2; i++) {
                        half[i] = std::fma(input(registers[Rows], m, 2 * k + i), input(registers[Weights], k, 2 * n + i), half[i]);
                    }
                }
                const float sum = at<float>(registers[Sums], m, n) + (half[0] + half[1]);
                memcpy(registers[Sums][m].data() + n * sizeof(float), &sum, sizeof(sum));
            }
        }
        products++;
    }
};

struct shape {
    int rows, columns, inputs;
};

const shape shapes[] = {
    { 16, 16, 32 }, { 32, 64, 1280 }, { 1, 1, 32 }, { 48, 40, 96 }, { 33, 33, 64 }, { 17, 64, 256 }, { 6, 17, 128 }, { 95, 50, 64 },
};

uint16_t rounded(float x) {
    return ggml_fp32_to_bf16(x).bits;
}

float widened(uint16_t x) {
    return ggml_bf16_to_fp32({ x });
}

void check(checks & t, const shape & s, bool add) {
    const auto name = std::to_string(s.rows) + " x " + std::to_string(s.columns) + " x " + std::to_string(s.inputs) + (add ? ", added" : "");
    const size_t rows = size_t(s.rows), columns = size_t(s.columns), inputs = size_t(s.inputs);
    const size_t stride = inputs + 38, out_stride = columns + 5; // rows are part of wider matrices
    const auto drawn_rows = normal(rows * stride, 1.0f, 1), drawn_weights = normal(columns * inputs, 1.0f, 2);
    std::vector<uint16_t> from(drawn_rows.size());
    std::transform(drawn_rows.begin(), drawn_rows.end(), from.begin(), rounded);

    // [words][vectors][16] words of two inputs; the columns behind the last one must count for nothing.
    const size_t vectors = (columns + 15) / 16;
    std::vector<uint16_t> panel(inputs / 2 * vectors * 32, rounded(NAN));
    for (size_t c = 0; c < columns; c++) {
        for (size_t k = 0; k < inputs; k++) {
            panel[((k / 2 * vectors + c / 16) * 16 + c % 16) * 2 + k % 2] = rounded(drawn_weights[c * inputs + k]);
        }
    }
    const auto before = normal(rows * out_stride, 1.0f, 3);
    auto out = before;
    emulated::products = 0;
    multiply_by_tiles<emulated>({ from.data(), stride }, s.rows, { 0, s.columns, 0, s.inputs }, panel.data(), { out.data(), out_stride, add });

    double worst = 0;
    bool   outside = false;
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < out_stride; c++) {
            if (c >= columns) {
                outside |= out[r * out_stride + c] != before[r * out_stride + c];
                continue;
            }
            double sum = add ? before[r * out_stride + c] : 0.0;
            for (size_t k = 0; k < inputs; k++) {
                sum += double(widened(from[r * stride + k])) * widened(rounded(drawn_weights[c * inputs + k]));
            }
            const double off = std::fabs(out[r * out_stride + c] - sum) / std::sqrt(double(inputs));
            worst = std::isfinite(off) ? std::max(worst, off) : INFINITY;
        }
    }
    t.expect(worst < 1e-5, name + ": off by " + std::to_string(1e6 * worst) + "e-6");
    t.expect(!outside, name + ": writes its own columns alone");
    t.expect(emulated::valid && !emulated::is_set, name + ": tiles have shapes that fit, and are released");
    const int blocks = ((s.rows + 15) / 16) * ((s.columns + 15) / 16) * (s.inputs / 32);
    t.expect(emulated::products == blocks, name + ": " + std::to_string(emulated::products) + " products of tiles");
}

// On a processor with AMX its own tiles give the same bits.
void check_processor(checks & t) {
    if (!has_amx()) {
        std::printf("no AMX here: its instructions are emulated\n");
        return;
    }
    const auto values = normal(40 * 64, 1.0f, 4);
    std::vector<uint16_t> both(values.size());
    std::transform(values.begin(), values.end(), both.begin(), rounded);
    std::vector<float> emulated_out(40 * 16), own(40 * 16);
    multiply_by_tiles<emulated>({ both.data(), 64 }, 40, { 0, 16, 0, 64 }, both.data(), { emulated_out.data(), 16, false });
    multiply_amx({ both.data(), 64 }, 40, { 0, 16, 0, 64 }, both.data(), { own.data(), 16, false });
    t.expect(own == emulated_out, "the processor's tiles give what the emulated ones give");
}

} // namespace

int main() {
    checks t;
    for (const shape & s : shapes) {
        check(t, s, false);
        check(t, s, true);
    }
    check_processor(t);
    return t.finish();
}
