#pragma once

// Panels of quantised weights, as VPDPBUSD and VPMADDUBSW take them: for each 32 inputs
// [8][vectors][16] times four weights as unsigned bytes; behind all of them the scales, [inputs / 32][vectors][16], and the
// minima alike.

#include "illava-product-tile.h"

#include <algorithm>
#include <cstring>

namespace illava::product {

// One vector's place in a panel.
struct column_group {
    uint8_t * bytes;
    float *   scales;
    float *   minima;
    int       vectors, v;

    uint8_t * four(int block, int g) const { return bytes + ((size_t(block) * 8 + g) * vectors + v) * 64; }
    float * scale(int block) const { return scales + (size_t(block) * vectors + v) * 16; }
    float * minimum(int block) const { return minima + (size_t(block) * vectors + v) * 16; }
};

// Begins of the rows of one vector's columns: sixteen rows, or two interleaved groups of eight, repeated. In a group 64 bytes
// are eight of each row.
struct source {
    bool         interleaved;
    const char * rows[16];

    template <typename B> const B * block(int i, int b) const { return (const B *) rows[i] + b; }
};

// Unpacks `blocks` blocks of 32 inputs.
using unpack = void (*)(const source & from, int blocks, const column_group & out);

// Fills a panel, by the weights' type.
inline void fill_panel(const weights & w, const part & p, void * panel, unpack q4_0, unpack q8_0, unpack q4_K) {
    const int    vectors = (p.columns + 15) / 16;
    const int    blocks  = p.inputs / step;
    const size_t at      = ggml_row_size(w.type, p.input);
    auto *       bytes   = (uint8_t *) panel;
    auto *       scales  = (float *) (bytes + size_t(blocks) * step * vectors * 16);

    for (int v = 0; v < vectors; v++) {
        // Lanes beyond the last column repeat it, or its group; their sums are not stored.
        source from = { w.interleaved, {} };
        for (int i = 0; i < 16; i++) {
            const int     group = std::min(16 * v + 8 * (i % 2), (p.columns - 1) / 8 * 8);
            const int64_t row   = p.column + (w.interleaved ? group : std::min(16 * v + i, p.columns - 1));
            from.rows[i] = w.data + size_t(row) * w.row_bytes + (w.interleaved ? 8 : 1) * at;
        }
        const unpack by = w.type == GGML_TYPE_Q4_0 ? q4_0 : w.type == GGML_TYPE_Q8_0 ? q8_0 : q4_K;
        by(from, blocks, { bytes, scales, scales + size_t(blocks) * vectors * 16, vectors, v });
    }
}

} // namespace illava::product
