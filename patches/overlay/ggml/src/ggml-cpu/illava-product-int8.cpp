// Products of quantised weights by VPDPBUSD: each lane adds four products of neighbouring inputs to a 32-bit
// sum, exact. After 32 inputs the scales of weights and activations add the sum to an f32 one.

#include "illava-product-int8.h"

#include "illava-product-avx512.h"

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"
#include "ggml-cpu-impl.h"
#include "repack.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace illava::product {

#ifdef ILLAVA_AVX512

#define TARGET __attribute__((target(ILLAVA_TARGET_BASE ",avx512vnni")))

namespace {

constexpr int tile_rows = 6;

// R rows by V vectors of columns.
template <int R, int V, bool M>
TARGET void tile(const rows_int8 & rows, int row, const uint8_t * panel, int blocks, __mmask16 last, const target & to, float * out) {
    const int8_t * values = rows.values + size_t(row) * rows.stride;
    const size_t   at     = size_t(row) * rows.blocks;
    const auto *   scales = (const float *) (panel + size_t(blocks) * step * V * 16);
    const auto *   minima = scales + size_t(blocks) * V * 16;

    __m512 sum[R][V];
    load_sums(sum, out, to.stride, last, to.add);
    for (int b = 0; b < blocks; b++) {
        __m512i exact[R][V];
        ILLAVA_UNROLL
        for (int r = 0; r < R; r++) {
            const __m512i start = M ? _mm512_setzero_si512() : _mm512_set1_epi32(rows.offset[at + r * rows.blocks + b]);
            ILLAVA_UNROLL
            for (int v = 0; v < V; v++) {
                exact[r][v] = start;
            }
        }
        ILLAVA_UNROLL
        for (int g = 0; g < 8; g++) {
            __m512i weights[V];
            ILLAVA_UNROLL
            for (int v = 0; v < V; v++) {
                weights[v] = _mm512_load_si512(panel + ((size_t(b) * 8 + g) * V + v) * 64);
            }
            ILLAVA_UNROLL
            for (int r = 0; r < R; r++) {
                int32_t four;
                memcpy(&four, values + r * rows.stride + 32 * b + 4 * g, sizeof(four));
                const __m512i x = _mm512_set1_epi32(four);
                ILLAVA_UNROLL
                for (int v = 0; v < V; v++) {
                    exact[r][v] = _mm512_dpbusd_epi32(exact[r][v], weights[v], x);
                }
            }
        }
        ILLAVA_UNROLL
        for (int v = 0; v < V; v++) {
            const __m512 scale = _mm512_load_ps(scales + (size_t(b) * V + v) * 16);
            ILLAVA_UNROLL
            for (int r = 0; r < R; r++) {
                const __m512 both = _mm512_mul_ps(scale, _mm512_set1_ps(rows.scale[at + r * rows.blocks + b]));
                sum[r][v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(exact[r][v]), both, sum[r][v]);
                if (M) {
                    const __m512 minimum = _mm512_load_ps(minima + (size_t(b) * V + v) * 16);
                    sum[r][v] = _mm512_fnmadd_ps(minimum, _mm512_set1_ps(rows.sum[at + r * rows.blocks + b]), sum[r][v]);
                }
            }
        }
    }
    store_sums(sum, out, to.stride, last);
}

template <int V, bool M>
TARGET void multiply(const rows_int8 & rows, int n_rows, int columns, int blocks, const uint8_t * panel, const target & to) {
    const __mmask16 last = last_lanes(columns);
    for (int r = 0; r < n_rows; r += tile_rows) {
        float * out = to.values + size_t(r) * to.stride;
        by_rows<tile_rows>(n_rows - r, [&](auto n) { tile<n, V, M>(rows, r, panel, blocks, last, to, out); });
    }
}

// Sixteen bytes of each of sixteen rows: four vectors, each with four neighbouring bytes of every row.
TARGET void gather(const uint8_t * const rows[16], size_t at, __m512i out[4]) {
    __m512i z[4];
    for (int j = 0; j < 4; j++) {
        z[j] = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i *) (rows[j] + at)));
        z[j] = _mm512_inserti32x4(z[j], _mm_loadu_si128((const __m128i *) (rows[j + 4] + at)), 1);
        z[j] = _mm512_inserti32x4(z[j], _mm_loadu_si128((const __m128i *) (rows[j + 8] + at)), 2);
        z[j] = _mm512_inserti32x4(z[j], _mm_loadu_si128((const __m128i *) (rows[j + 12] + at)), 3);
    }
    const __m512i a = _mm512_unpacklo_epi32(z[0], z[1]), b = _mm512_unpackhi_epi32(z[0], z[1]);
    const __m512i c = _mm512_unpacklo_epi32(z[2], z[3]), d = _mm512_unpackhi_epi32(z[2], z[3]);
    // lane L of z[j] is row j + 4 L, so the values of a lane are those of rows 4 L to 4 L + 3
    out[0] = _mm512_unpacklo_epi64(a, c);
    out[1] = _mm512_unpackhi_epi64(a, c);
    out[2] = _mm512_unpacklo_epi64(b, d);
    out[3] = _mm512_unpackhi_epi64(b, d);
}

// The same of two interleaved groups of eight rows: 64 bytes are eight of each row.
TARGET void gather_interleaved(const uint8_t * const groups[2], size_t at, __m512i out[4]) {
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd  = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    for (int j = 0; j < 2; j++) {
        const __m512i a = _mm512_loadu_si512(groups[0] + 8 * at + 64 * j), b = _mm512_loadu_si512(groups[1] + 8 * at + 64 * j);
        out[2 * j]     = _mm512_permutex2var_epi32(a, even, b);
        out[2 * j + 1] = _mm512_permutex2var_epi32(a, odd, b);
    }
}

TARGET void put(const column_group & out, int block, int g, __m512i four) {
    _mm512_store_si512(out.four(block, g), four);
}

// Sixteen scales in f16 as f32.
TARGET void put_scales(const ggml_half (&d)[16], float * out) {
    _mm512_storeu_ps(out, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) d)));
}

TARGET __m512i low_half(__m512i bytes) {
    return _mm512_and_si512(bytes, _mm512_set1_epi8(15));
}
TARGET __m512i high_half(__m512i bytes) {
    return _mm512_and_si512(_mm512_srli_epi16(bytes, 4), _mm512_set1_epi8(15));
}

TARGET void pack_q4_0_plain(const char * const rows[16], int blocks, const column_group & out) {
    for (int b = 0; b < blocks; b++) {
        const uint8_t * q[16];
        ggml_half d[16];
        for (int i = 0; i < 16; i++) {
            const auto & block = ((const block_q4_0 *) rows[i])[b];
            q[i] = block.qs;
            d[i] = block.d;
        }
        put_scales(d, out.scale(b));
        __m512i bytes[4];
        gather(q, 0, bytes);
        for (int j = 0; j < 4; j++) {
            put(out, b, j, low_half(bytes[j]));
            put(out, b, 4 + j, high_half(bytes[j]));
        }
    }
}

TARGET void pack_q4_0_interleaved(const char * const groups[16], int blocks, const column_group & out) {
    for (int b = 0; b < blocks; b++) {
        const block_q4_0x8 * two[2] = { (const block_q4_0x8 *) groups[0] + b, (const block_q4_0x8 *) groups[1] + b };
        const uint8_t * q[2] = { (const uint8_t *) two[0]->qs, (const uint8_t *) two[1]->qs };
        ggml_half d[16];
        for (int i = 0; i < 16; i++) {
            d[i] = two[i / 8]->d[i % 8];
        }
        put_scales(d, out.scale(b));
        __m512i bytes[4];
        gather_interleaved(q, 0, bytes);
        for (int j = 0; j < 4; j++) {
            // this layout has the signs of the halves turned
            const __m512i turned = _mm512_xor_si512(bytes[j], _mm512_set1_epi8(char(0x88)));
            put(out, b, j, low_half(turned));
            put(out, b, 4 + j, high_half(turned));
        }
    }
}

TARGET void pack_q8_0(const source & from, int blocks, const column_group & out) {
    for (int b = 0; b < blocks; b++) {
        const uint8_t * q[16];
        ggml_half d[16];
        for (int i = 0; i < 16; i++) {
            const auto & block = *from.block<block_q8_0>(i, b);
            q[i] = (const uint8_t *) block.qs;
            d[i] = block.d;
        }
        put_scales(d, out.scale(b));
        for (int h = 0; h < 2; h++) {
            __m512i bytes[4];
            gather(q, 16 * h, bytes);
            for (int j = 0; j < 4; j++) {
                put(out, b, 4 * h + j, _mm512_xor_si512(bytes[j], _mm512_set1_epi8(char(0x80))));
            }
        }
    }
}

// A super-block's 128 bytes: of each 32, the low halves are one block and the high ones the next.
TARGET void put_q4_K(int super, int j, int h, const __m512i bytes[4], const column_group & out) {
    for (int g = 0; g < 4; g++) {
        put(out, 8 * super + 2 * j, 4 * h + g, low_half(bytes[g]));
        put(out, 8 * super + 2 * j + 1, 4 * h + g, high_half(bytes[g]));
    }
}

TARGET void pack_q4_K_plain(const char * const rows[16], int blocks, const column_group & out) {
    for (int super = 0; super < blocks / 8; super++) {
        const uint8_t * q[16];
        for (int i = 0; i < 16; i++) {
            const auto & block = ((const block_q4_K *) rows[i])[super];
            const float d = ggml_fp16_to_fp32(block.data.data.d), dmin = ggml_fp16_to_fp32(block.data.data.dmin);
            q[i] = block.qs;
            for (int b = 0; b < 8; b++) {
                int scale, minimum;
                scale_and_minimum(block.scales, b, scale, minimum);
                out.scale(8 * super + b)[i]   = d * float(scale);
                out.minimum(8 * super + b)[i] = dmin * float(minimum);
            }
        }
        for (int j = 0; j < 4; j++) {
            for (int h = 0; h < 2; h++) {
                __m512i bytes[4];
                gather(q, size_t(32 * j + 16 * h), bytes);
                put_q4_K(super, j, h, bytes, out);
            }
        }
    }
}

TARGET void pack_q4_K_interleaved(const char * const groups[16], int blocks, const column_group & out) {
    for (int super = 0; super < blocks / 8; super++) {
        const block_q4_Kx8 * two[2] = { (const block_q4_Kx8 *) groups[0] + super, (const block_q4_Kx8 *) groups[1] + super };
        const uint8_t * q[2] = { two[0]->qs, two[1]->qs };
        for (int i = 0; i < 16; i++) {
            const block_q4_Kx8 & block = *two[i / 8];
            const float d = ggml_fp16_to_fp32(block.d[i % 8]), dmin = ggml_fp16_to_fp32(block.dmin[i % 8]);
            for (int b = 0; b < 8; b++) {
                int scale, minimum; // the twelve bytes of a block hold the values of eight rows
                scale_and_minimum(block.scales + 12 * b, i % 8, scale, minimum);
                out.scale(8 * super + b)[i]   = d * float(scale);
                out.minimum(8 * super + b)[i] = dmin * float(minimum);
            }
        }
        for (int j = 0; j < 4; j++) {
            for (int h = 0; h < 2; h++) {
                __m512i bytes[4];
                gather_interleaved(q, size_t(32 * j + 16 * h), bytes);
                put_q4_K(super, j, h, bytes, out);
            }
        }
    }
}

void pack_q4_0(const source & from, int blocks, const column_group & out) {
    (from.interleaved ? pack_q4_0_interleaved : pack_q4_0_plain)(from.rows, blocks, out);
}

void pack_q4_K(const source & from, int blocks, const column_group & out) {
    (from.interleaved ? pack_q4_K_interleaved : pack_q4_K_plain)(from.rows, blocks, out);
}

} // namespace

bool has_int8() {
    static const bool has = !std::getenv("ILLAVA_NO_VNNI") && has_avx512() && __builtin_cpu_supports("avx512vnni");
    return has;
}

void pack_panel_int8(const weights & w, const part & p, void * panel) {
    fill_panel(w, p, panel, pack_q4_0, pack_q8_0, pack_q4_K);
}

void multiply_int8(const rows_int8 & rows, int n_rows, const part & p, const void * panel, ggml_type type, const target & to) {
    const bool   minima = has_minima(type);
    const auto * bytes  = (const uint8_t *) panel;
    const int    blocks = p.inputs / step;
    if (p.columns <= 16) {
        minima ? multiply<1, true>(rows, n_rows, p.columns, blocks, bytes, to) : multiply<1, false>(rows, n_rows, p.columns, blocks, bytes, to);
    } else {
        minima ? multiply<2, true>(rows, n_rows, p.columns, blocks, bytes, to) : multiply<2, false>(rows, n_rows, p.columns, blocks, bytes, to);
    }
}

#else

bool has_int8() { return false; }
void pack_panel_int8(const weights &, const part &, void *) {}
void multiply_int8(const rows_int8 &, int, const part &, const void *, ggml_type, const target &) {}

#endif

} // namespace illava::product
