#pragma once

// Interface of one instruction set's kernels: see illava-product.h.

#include "ggml.h"

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace illava::product {

// Weights as they lie in memory: `rows` outputs by `inputs`.
struct weights {
    ggml_type    type;
    bool         interleaved; // in ggml's repacked layout, eight rows a block
    const char * data;
    size_t       row_bytes; // of one row, also of an interleaved one
    int64_t      rows;
    int64_t      inputs;
};

// A part of the weights: `columns` outputs from `column` on by `inputs` inputs from `input` on.
struct part {
    int64_t column;
    int     columns;
    int64_t input;
    int     inputs;
};

// Inputs of one step of the instructions; packed rows and panels are padded to it with zeros.
constexpr int step = 32;

// Columns of one panel at most: as many as one call multiplies rows by without reading them again.
constexpr int columns_float = 64;
constexpr int columns_int8 = 32;
constexpr int columns_avx2 = 32;
constexpr int columns_int16 = 32;

// Calls `tile` with its constant number of rows, n of them but N at most.
template <int N, typename F>
void by_rows(int n, const F & tile) {
    if constexpr (N > 1) {
        if (n < N) {
            return by_rows<N - 1>(n, tile);
        }
    }
    tile(std::integral_constant<int, N>());
}

// Activations in 8 bits, one scale for 32.
struct rows_int8 {
    const int8_t *  values; // [rows][stride]
    size_t          stride;
    const float *   scale;  // [rows][blocks], blocks being that of a whole row
    const int32_t * offset; // [rows][blocks]: what the sums start from, so that unsigned weights act as signed ones
    const float *   sum;    // [rows][blocks]: scale x sum of the values, for weights with a minimum
    size_t          blocks;
};

struct rows_bf16 {
    const uint16_t * values; // [rows][stride]
    size_t           stride; // even
};

// Activations in 14 bits, one scale for 32.
struct rows_int16 {
    const int16_t * values; // [rows][stride]
    size_t          stride; // even
    const float *   scale;  // [rows][blocks], blocks being that of a whole row
    size_t          blocks;
};

struct rows_f32 {
    const float * values; // [rows][stride]
    size_t        stride;
};

// Place for the part of a result: f32 [rows][stride].
struct target {
    float * values;
    size_t  stride;
    bool    add; // to what is there

    // Lines of the cache that a product in floats asks for on its way, a few of the next panel's weights.
    const char * next = nullptr;
    int          lines = 0;
};

// Difference of an unsigned weight of this type to its signed value; -1 if the type has a minimum instead.
constexpr int bias(ggml_type type) {
    return type == GGML_TYPE_Q4_0 ? 8 : type == GGML_TYPE_Q8_0 ? 128 : -1;
}

// Whether weights of this type have a minimum for every 32 inputs.
constexpr bool has_minima(ggml_type type) {
    return bias(type) < 0;
}

// Scale and minimum number j of the eight in the twelve bytes of a K-quant.
inline void scale_and_minimum(const uint8_t * q, int j, int & scale, int & minimum) {
    scale   = j < 4 ? q[j] & 63 : (q[j + 4] & 15) | ((q[j - 4] >> 6) << 4);
    minimum = j < 4 ? q[j + 4] & 63 : (q[j + 4] >> 4) | ((q[j] >> 6) << 4);
}

// bf16. `scratch` holds 16 x part.inputs floats, for quants. False if the weights are F16 and bf16 would round them, unless
// they are to be rounded. Rows are padded with zeros to whole steps.
void pack_row_bf16(const float * values, int64_t n, uint16_t * packed);
bool pack_panel_bf16(const weights & w, const part & p, void * panel, float * scratch, bool rounded = false);
void multiply_bf16(const rows_bf16 & rows, int n_rows, const part & p, const void * panel, const target & to);

// f32, for such weights.
void pack_panel_f32(const weights & w, const part & p, void * panel);
void multiply_f32(const rows_f32 & rows, int n_rows, const part & p, const void * panel, const target & to);

// Bytes of a panel in either of these forms.
constexpr size_t panel_bytes_float(ggml_type type, int inputs) {
    return size_t(columns_float) * size_t((inputs + step - 1) / step * step) * (type == GGML_TYPE_F16 ? sizeof(float) : sizeof(uint16_t));
}

// f32 of weights in F16 and BF16 on processors without AVX-512. A panel has 16 columns beside one another.
void pack_panel_avx2(const weights & w, const part & p, void * panel);
void multiply_avx2(const rows_f32 & rows, int n_rows, const part & p, const void * panel, const target & to);
constexpr size_t panel_bytes_avx2(int inputs) {
    return size_t(columns_avx2) * size_t(inputs) * sizeof(float);
}

// 14 bits, of weights of any type. `scratch` holds 8 x part.inputs floats, in whole steps. Rows are padded with zeros to
// whole steps.
void pack_row_int16(const float * values, int64_t n, int16_t * packed, float * scale);
void pack_panel_int16(const weights & w, const part & p, void * panel, float * scratch);
void multiply_int16(const rows_int16 & rows, int n_rows, const part & p, const void * panel, const target & to);
void multiply_int16_avxvnni(const rows_int16 & rows, int n_rows, const part & p, const void * panel, const target & to);
constexpr size_t panel_bytes_int16(int inputs) {
    return columns_int16 * size_t((inputs + step - 1) / step) * (step * sizeof(int16_t) + sizeof(float));
}

// 8 bits. A panel is followed by its scales, and by its minima if it has some.
void pack_panel_int8(const weights & w, const part & p, void * panel);
void multiply_int8(const rows_int8 & rows, int n_rows, const part & p, const void * panel, ggml_type type, const target & to);
constexpr size_t panel_bytes_int8(int inputs) {
    return columns_int8 * (size_t(inputs) + 2 * sizeof(float) * size_t(inputs / step));
}

// The same without AVX-512: by AVX-VNNI, or by AVX2 alone.
void pack_panel_int8_avx2(const weights & w, const part & p, void * panel);
void multiply_avxvnni(const rows_int8 & rows, int n_rows, const part & p, const void * panel, ggml_type type, const target & to);
void multiply_int8_avx2(const rows_int8 & rows, int n_rows, const part & p, const void * panel, ggml_type type, const target & to);

// Whether this processor has the instructions, and the library their code; for has_int16(), also whether they are worth it.
bool has_bf16();
bool has_int8();
bool has_int16();
bool has_avx2();
bool has_avxvnni();

} // namespace illava::product
