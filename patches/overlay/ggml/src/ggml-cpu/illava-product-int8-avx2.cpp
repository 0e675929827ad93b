// Products of quantised weights by AVX2 alone, for processors without VNNI. VPMADDUBSW adds two products of an unsigned and a
// signed byte in 16 bits. A half byte is 15 at most: a block of 32 inputs puts eight such pairs into a lane, 8 x 2 x 15 x 127,
// which 16 bits hold. Sums are exact and are widened once, at the end of the block. A whole byte goes as its two halves.

#include "illava-product-int8.h"

#include "illava-product-avx2.h"

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"
#include "ggml-cpu-impl.h"
#include "repack.h"

#include <algorithm>
#include <cstring>

namespace illava::product {

#ifdef ILLAVA_AVX512

#define TARGET __attribute__((target(ILLAVA_TARGET_AVX2)))

namespace {

constexpr int tile_rows = 3;

// Vectors of eight columns of a tile. Whole bytes take twice the registers.
template <ggml_type T> constexpr int tile_vectors = T == GGML_TYPE_Q8_0 ? 1 : 2;

// The columns that a tile takes: place in the panel, and its lanes that are columns.
struct place {
    const uint8_t * bytes;
    const float *   scales;
    const float *   minima;
    size_t          apart;   // columns of the panel
    int             columns; // of these vectors

    const __m256i * block(int b) const { return (const __m256i *) (bytes + size_t(b) * step * apart); }
    const float * scale(int b) const { return scales + size_t(b) * apart; }
    const float * minimum(int b) const { return minima + size_t(b) * apart; }
};

// Four neighbouring values of a row, in every lane.
ILLAVA_INLINE_AVX2 __m256i four_of(const int8_t * values) {
    int32_t four;
    memcpy(&four, values, sizeof(four));
    return _mm256_set1_epi32(four);
}

// sum + x, in this order: a compiler that turns a row of sums into a tree runs out of registers.
ILLAVA_INLINE_AVX2 __m256i added(__m256i sum, __m256i x) {
    sum = _mm256_add_epi16(sum, x);
    asm("" : "+x"(sum));
    return sum;
}

// A block's products with half bytes, by R rows: sums of 32 inputs.
template <int R>
ILLAVA_INLINE_AVX2 void multiply_block(const int8_t * values, size_t stride, const __m256i * four, size_t apart, __m256i (&exact)[R][2]) {
    ILLAVA_UNROLL
    for (int g = 0; g < 8; g++, four += apart) {
        const __m256i left = _mm256_load_si256(four), right = _mm256_load_si256(four + 1);
        ILLAVA_UNROLL
        for (int r = 0; r < R; r++) {
            const __m256i x = four_of(values + r * stride + 4 * g);
            const __m256i a = _mm256_maddubs_epi16(left, x), b = _mm256_maddubs_epi16(right, x);
            exact[r][0] = g ? added(exact[r][0], a) : a;
            exact[r][1] = g ? added(exact[r][1], b) : b;
        }
    }
    const __m256i one = _mm256_set1_epi16(1);
    ILLAVA_UNROLL
    for (int r = 0; r < R; r++) {
        exact[r][0] = _mm256_madd_epi16(exact[r][0], one);
        exact[r][1] = _mm256_madd_epi16(exact[r][1], one);
    }
}

// The same with whole bytes.
template <int R>
ILLAVA_INLINE_AVX2 void multiply_block(const int8_t * values, size_t stride, const __m256i * four, size_t apart, __m256i (&exact)[R][1]) {
    const __m256i half = _mm256_set1_epi8(15);
    __m256i low[R], high[R];
    ILLAVA_UNROLL
    for (int g = 0; g < 8; g++, four += apart) {
        const __m256i bytes = _mm256_load_si256(four);
        const __m256i lower = _mm256_and_si256(bytes, half), upper = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), half);
        ILLAVA_UNROLL
        for (int r = 0; r < R; r++) {
            const __m256i x = four_of(values + r * stride + 4 * g);
            const __m256i a = _mm256_maddubs_epi16(lower, x), b = _mm256_maddubs_epi16(upper, x);
            low[r]  = g ? added(low[r], a) : a;
            high[r] = g ? added(high[r], b) : b;
        }
    }
    const __m256i one = _mm256_set1_epi16(1), sixteen = _mm256_set1_epi16(16);
    ILLAVA_UNROLL
    for (int r = 0; r < R; r++) {
        exact[r][0] = _mm256_add_epi32(_mm256_madd_epi16(low[r], one), _mm256_madd_epi16(high[r], sixteen));
    }
}

// R rows by the columns of a tile, of weights of this type.
template <int R, ggml_type T>
TARGET void tile(const rows_int8 & rows, int row, const place & p, int blocks, const target & to, float * out) {
    constexpr int  V      = tile_vectors<T>;
    constexpr bool minima = has_minima(T);
    const int8_t * values = rows.values + size_t(row) * rows.stride;
    const size_t   at     = size_t(row) * rows.blocks;

    __m256 sum[R][V];
    load_sums(sum, out, to.stride, p.columns, to.add);
    for (int b = 0; b < blocks; b++) {
        __m256i exact[R][V];
        multiply_block(values + step * b, rows.stride, p.block(b), p.apart / 8, exact);
        ILLAVA_UNROLL
        for (int v = 0; v < V; v++) {
            const __m256 scale = _mm256_load_ps(p.scale(b) + 8 * v);
            ILLAVA_UNROLL
            for (int r = 0; r < R; r++) {
                const size_t i = at + size_t(r) * rows.blocks + size_t(b);
                if (!minima) {
                    exact[r][v] = _mm256_add_epi32(exact[r][v], _mm256_set1_epi32(rows.offset[i]));
                }
                const __m256 both = _mm256_mul_ps(scale, _mm256_broadcast_ss(rows.scale + i));
                sum[r][v] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(exact[r][v]), both, sum[r][v]);
                if (minima) {
                    sum[r][v] = _mm256_fnmadd_ps(_mm256_load_ps(p.minimum(b) + 8 * v), _mm256_broadcast_ss(rows.sum + i), sum[r][v]);
                }
            }
        }
    }
    store_sums(sum, out, to.stride, p.columns);
}

template <ggml_type T>
void multiply(const rows_int8 & rows, int n_rows, const part & p, const uint8_t * panel, const target & to) {
    const int    apart  = (p.columns + 15) / 16 * 16, blocks = p.inputs / step;
    const auto * scales = (const float *) (panel + size_t(blocks) * step * size_t(apart));
    const auto * minima = scales + size_t(blocks) * size_t(apart);
    for (int c = 0; c < p.columns; c += 8 * tile_vectors<T>) {
        const place at = { panel + 4 * c, scales + c, minima + c, size_t(apart), p.columns - c };
        for (int r = 0; r < n_rows; r += tile_rows) {
            float * out = to.values + size_t(r) * to.stride + c;
            by_rows<tile_rows>(n_rows - r, [&](auto n) { tile<n, T>(rows, r, at, blocks, to, out); });
        }
    }
}

// Sixteen bytes of each of sixteen rows as words.
using words = uint32_t[16][4];

void read(const uint8_t * const q[16], bool interleaved, size_t at, words & out) {
    for (int i = 0; i < 16; i++) {
        if (interleaved) {
            memcpy(out[i], q[i / 8] + 8 * at + 8 * (i % 8), 8);
            memcpy(out[i] + 2, q[i / 8] + 8 * at + 64 + 8 * (i % 8), 8);
        } else {
            memcpy(out[i], q[i] + at, 16);
        }
    }
}

// The words number j of all rows, each shifted and in the bits of `mask`, then with those of `turn` turned.
void put(const column_group & out, int block, int g, const words & from, int j, int shift, uint32_t mask, uint32_t turn) {
    uint32_t four[16];
    for (int i = 0; i < 16; i++) {
        four[i] = ((from[i][j] ^ turn) >> shift) & mask;
    }
    memcpy(out.four(block, g), four, sizeof(four));
}

constexpr uint32_t halves = 0x0f0f0f0f;

TARGET void pack_q4_0(const source & from, int blocks, const column_group & out) {
    for (int b = 0; b < blocks; b++) {
        const uint8_t * q[16];
        for (int i = 0; i < 16; i++) {
            const auto * eight = from.block<block_q4_0x8>(i / 8, b);
            const auto * one   = from.block<block_q4_0>(i, b);
            q[i] = from.interleaved ? (const uint8_t *) from.block<block_q4_0x8>(i % 2, b)->qs : one->qs;
            out.scale(b)[i] = ggml_fp16_to_fp32(from.interleaved ? eight->d[i % 8] : one->d);
        }
        words bytes;
        read(q, from.interleaved, 0, bytes);
        // the interleaved layout has the signs of the halves turned
        const uint32_t turn = from.interleaved ? 0x88888888 : 0;
        for (int j = 0; j < 4; j++) {
            put(out, b, j, bytes, j, 0, halves, turn);
            put(out, b, 4 + j, bytes, j, 4, halves, turn);
        }
    }
}

TARGET void pack_q8_0(const source & from, int blocks, const column_group & out) {
    for (int b = 0; b < blocks; b++) {
        const uint8_t * q[16];
        for (int i = 0; i < 16; i++) {
            const auto * block = from.block<block_q8_0>(i, b);
            q[i] = (const uint8_t *) block->qs;
            out.scale(b)[i] = ggml_fp16_to_fp32(block->d);
        }
        for (int h = 0; h < 2; h++) {
            words bytes;
            read(q, false, size_t(16 * h), bytes);
            for (int j = 0; j < 4; j++) {
                put(out, b, 4 * h + j, bytes, j, 0, ~0u, 0x80808080);
            }
        }
    }
}

// The low halves of 32 bytes are one block of a super-block, the high ones the next.
TARGET void pack_q4_K(const source & from, int blocks, const column_group & out) {
    for (int super = 0; super < blocks / 8; super++) {
        const uint8_t * q[16];
        for (int i = 0; i < 16; i++) {
            const auto * eight = from.block<block_q4_Kx8>(i / 8, super);
            const auto * one   = from.block<block_q4_K>(i, super);
            const float d    = ggml_fp16_to_fp32(from.interleaved ? eight->d[i % 8] : one->data.data.d);
            const float dmin = ggml_fp16_to_fp32(from.interleaved ? eight->dmin[i % 8] : one->data.data.dmin);
            q[i] = from.interleaved ? from.block<block_q4_Kx8>(i % 2, super)->qs : one->qs;
            for (int b = 0; b < 8; b++) {
                int scale, minimum; // twelve bytes of a group hold the values of its eight rows for one block
                from.interleaved ? scale_and_minimum(eight->scales + 12 * b, i % 8, scale, minimum)
                    : scale_and_minimum(one->scales, b, scale, minimum);
                out.scale(8 * super + b)[i]   = d * float(scale);
                out.minimum(8 * super + b)[i] = dmin * float(minimum);
            }
        }
        for (int j = 0; j < 4; j++) {
            for (int h = 0; h < 2; h++) {
                words bytes;
                read(q, from.interleaved, size_t(32 * j + 16 * h), bytes);
                for (int g = 0; g < 4; g++) {
                    put(out, 8 * super + 2 * j, 4 * h + g, bytes, g, 0, halves, 0);
                    put(out, 8 * super + 2 * j + 1, 4 * h + g, bytes, g, 4, halves, 0);
                }
            }
        }
    }
}

} // namespace

void pack_panel_int8_avx2(const weights & w, const part & p, void * panel) {
    fill_panel(w, p, panel, pack_q4_0, pack_q8_0, pack_q4_K);
}

void multiply_int8_avx2(const rows_int8 & rows, int n_rows, const part & p, const void * panel, ggml_type type, const target & to) {
    const auto by = type == GGML_TYPE_Q4_0 ? multiply<GGML_TYPE_Q4_0> : type == GGML_TYPE_Q8_0 ? multiply<GGML_TYPE_Q8_0> : multiply<GGML_TYPE_Q4_K>;
    by(rows, n_rows, p, (const uint8_t *) panel, to);
}

#else

void pack_panel_int8_avx2(const weights &, const part &, void *) {}
void multiply_int8_avx2(const rows_int8 &, int, const part &, const void *, ggml_type, const target &) {}

#endif

} // namespace illava::product
