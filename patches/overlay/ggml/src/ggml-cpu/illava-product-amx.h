#pragma once

// Products in bf16 by AMX, whose tiles are matrices of at most 16 rows of 64 bytes. One instruction, TDPBF16PS, adds to 16 x 16
// sums the products of 32 inputs.
//
// The rows and the panels are those of illava-product-float.cpp: a panel's line has two inputs of each column in a word, which
// is how the instruction wants its second operand.

#include "illava-product-tile.h"

#include <algorithm>
#include <cstring>

namespace illava::product {

// Rows and columns of a tile of sums; words, of two inputs, that one instruction takes.
constexpr int amx_rows = 16, amx_columns = 16, amx_words = 16;

// Operand of LDTILECFG, "palette 1" of Intel's Software Developer's Manual.
struct amx_config {
    uint8_t  palette = 1, start_row = 0, reserved[14] = {};
    uint16_t bytes[16] = {}; // of a row
    uint8_t  rows[16] = {};
};
static_assert(sizeof(amx_config) == 64, "the size that LDTILECFG reads");

// One block: two tiles of rows by two of columns, or one where there is no second.
//
// Registers: sums 0 to 3, rows 4 and 5, weights 6 and 7.
template <class Tiles, bool second_rows, bool second_columns>
void amx_block(const uint16_t * rows, size_t stride, const uint32_t * panel, int vectors, int words, float * out, const target & to) {
    const size_t out_bytes = to.stride * sizeof(float), row_bytes = stride * sizeof(uint16_t);
    const size_t line_bytes = size_t(vectors) * 64; // of the panel
    float * below = out + size_t(amx_rows) * to.stride;
    if (to.add) {
        Tiles::template load<0>(out, out_bytes);
        if constexpr (second_columns) { Tiles::template load<1>(out + amx_columns, out_bytes); }
        if constexpr (second_rows) { Tiles::template load<2>(below, out_bytes); }
        if constexpr (second_rows && second_columns) { Tiles::template load<3>(below + amx_columns, out_bytes); }
    } else {
        Tiles::template zero<0>();
        if constexpr (second_columns) { Tiles::template zero<1>(); }
        if constexpr (second_rows) { Tiles::template zero<2>(); }
        if constexpr (second_rows && second_columns) { Tiles::template zero<3>(); }
    }
    for (int k = 0; k < words; k += amx_words) {
        const uint32_t * weights = panel + size_t(k) * size_t(vectors) * 16;
        Tiles::template load<4>(rows + 2 * k, row_bytes);
        Tiles::template load<6>(weights, line_bytes);
        Tiles::template add<0, 4, 6>();
        if constexpr (second_columns) {
            Tiles::template load<7>(weights + 16, line_bytes);
            Tiles::template add<1, 4, 7>();
        }
        if constexpr (second_rows) {
            Tiles::template load<5>(rows + size_t(amx_rows) * stride + 2 * k, row_bytes);
            Tiles::template add<2, 5, 6>();
        }
        if constexpr (second_rows && second_columns) {
            Tiles::template add<3, 5, 7>();
        }
    }
    Tiles::template store<0>(out, out_bytes);
    if constexpr (second_columns) { Tiles::template store<1>(out + amx_columns, out_bytes); }
    if constexpr (second_rows) { Tiles::template store<2>(below, out_bytes); }
    if constexpr (second_rows && second_columns) { Tiles::template store<3>(below + amx_columns, out_bytes); }
}

// multiply_bf16() for inputs in whole steps. `Tiles` are the processor's, or those of a test.
template <class Tiles>
void multiply_by_tiles(const rows_bf16 & rows, int n_rows, const part & p, const void * panel, const target & to) {
    const int    vectors = (p.columns + amx_columns - 1) / amx_columns, words = p.inputs / 2;
    const auto * by      = (const uint32_t *) panel;
    amx_config last = {};
    for (int r = 0; r < n_rows; r += 2 * amx_rows) {
        const int above = std::min(amx_rows, n_rows - r), below = std::min(amx_rows, n_rows - r - above);
        for (int v = 0; v < vectors; v += 2) {
            const int left = std::min(amx_columns, p.columns - v * amx_columns), right = std::min(amx_columns, p.columns - v * amx_columns - left);
            amx_config shape;
            const auto set = [&](int tile, int n, int bytes) {
                shape.rows[tile]  = uint8_t(n);
                shape.bytes[tile] = uint16_t(n ? bytes : 0);
            };
            set(0, above, 4 * left);
            set(1, right ? above : 0, 4 * right);
            set(2, below, 4 * left);
            set(3, right ? below : 0, 4 * right);
            set(4, above, 64);
            set(5, below, 64);
            set(6, amx_words, 4 * left);
            set(7, right ? amx_words : 0, 4 * right);
            if (memcmp(&shape, &last, sizeof(shape)) != 0) {
                Tiles::configure(shape);
                last = shape;
            }
            const uint16_t * from = rows.values + size_t(r) * rows.stride;
            const uint32_t * at   = by + size_t(v) * 16;
            float *          out  = to.values + size_t(r) * to.stride + size_t(v) * amx_columns;
            const auto block = below && right ? amx_block<Tiles, true, true> : below ? amx_block<Tiles, true, false>
                : right ? amx_block<Tiles, false, true> : amx_block<Tiles, false, false>;
            block(from, rows.stride, at, vectors, words, out, to);
        }
    }
    Tiles::release();
}

// Whether this processor has AMX for bf16 and the system lets this process use it.
bool has_amx();

// multiply_bf16() by the processor's tiles, for inputs in whole steps.
void multiply_amx(const rows_bf16 & rows, int n_rows, const part & p, const void * panel, const target & to);

} // namespace illava::product
