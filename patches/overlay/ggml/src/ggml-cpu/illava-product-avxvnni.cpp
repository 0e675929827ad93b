// Products of quantised weights by the VPDPBUSD of AVX-VNNI, for processors that have it and no AVX-512. Panels are those
// of illava-product-int8.cpp.

#include "illava-product-int8.h"

#include "illava-product-avx512.h"

#define GGML_COMMON_DECL_CPP
#include "ggml-common.h"
#include "ggml-cpu-impl.h"
#include "repack.h"

#include <algorithm>
#include <cstring>

#if defined(ILLAVA_AVX512) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define ILLAVA_AVXVNNI 1
#include <cpuid.h>
#endif

namespace illava::product {

#ifdef ILLAVA_AVXVNNI

#define TARGET __attribute__((target("avx2,fma,f16c,avxvnni")))

namespace {

constexpr int tile_rows = 3;

// The vector of columns that a tile takes: place in the panel, and its lanes that are columns.
struct place {
    const uint8_t * bytes;
    const float *   scales;
    const float *   minima;
    int             vectors; // of the panel
    int             columns; // of this vector
};

// R rows by sixteen columns.
template <int R, bool M>
TARGET void tile(const rows_int8 & rows, int row, const place & p, int blocks, const target & to, float * out) {
    const int8_t * values = rows.values + size_t(row) * rows.stride;
    const size_t   at     = size_t(row) * rows.blocks;
    const __m256i  mask[2] = { first_lanes_avx2(p.columns), first_lanes_avx2(p.columns - 8) };

    __m256 sum[R][2];
    ILLAVA_UNROLL
    for (int r = 0; r < R; r++) {
        ILLAVA_UNROLL
        for (int h = 0; h < 2; h++) {
            sum[r][h] = to.add ? _mm256_maskload_ps(out + r * to.stride + 8 * h, mask[h]) : _mm256_setzero_ps();
        }
    }
    for (int b = 0; b < blocks; b++) {
        __m256i exact[R][2];
        ILLAVA_UNROLL
        for (int r = 0; r < R; r++) {
            exact[r][0] = M ? _mm256_setzero_si256() : _mm256_set1_epi32(rows.offset[at + r * rows.blocks + b]);
            exact[r][1] = exact[r][0];
        }
        ILLAVA_UNROLL
        for (int g = 0; g < 8; g++) {
            const auto * from = (const __m256i *) (p.bytes + (size_t(b) * 8 + g) * p.vectors * 64);
            const __m256i left = _mm256_load_si256(from), right = _mm256_load_si256(from + 1);
            ILLAVA_UNROLL
            for (int r = 0; r < R; r++) {
                int32_t four;
                memcpy(&four, values + r * rows.stride + 32 * b + 4 * g, sizeof(four));
                const __m256i x = _mm256_set1_epi32(four);
                exact[r][0] = _mm256_dpbusd_avx_epi32(exact[r][0], left, x);
                exact[r][1] = _mm256_dpbusd_avx_epi32(exact[r][1], right, x);
            }
        }
        ILLAVA_UNROLL
        for (int h = 0; h < 2; h++) {
            const __m256 scale = _mm256_load_ps(p.scales + size_t(b) * p.vectors * 16 + 8 * h);
            ILLAVA_UNROLL
            for (int r = 0; r < R; r++) {
                const __m256 both = _mm256_mul_ps(scale, _mm256_broadcast_ss(rows.scale + at + r * rows.blocks + b));
                sum[r][h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(exact[r][h]), both, sum[r][h]);
                if (M) {
                    const __m256 minimum = _mm256_load_ps(p.minima + size_t(b) * p.vectors * 16 + 8 * h);
                    sum[r][h] = _mm256_fnmadd_ps(minimum, _mm256_broadcast_ss(rows.sum + at + r * rows.blocks + b), sum[r][h]);
                }
            }
        }
    }
    ILLAVA_UNROLL
    for (int r = 0; r < R; r++) {
        ILLAVA_UNROLL
        for (int h = 0; h < 2; h++) {
            _mm256_maskstore_ps(out + r * to.stride + 8 * h, mask[h], sum[r][h]);
        }
    }
}

template <bool M>
TARGET void multiply(const rows_int8 & rows, int n_rows, const part & p, const uint8_t * panel, const target & to) {
    const int    vectors = (p.columns + 15) / 16, blocks = p.inputs / step;
    const auto * scales  = (const float *) (panel + size_t(blocks) * step * vectors * 16);
    for (int r = 0; r < n_rows; r += tile_rows) {
        for (int v = 0; v < vectors; v++) {
            const place at = { panel + size_t(v) * 64, scales + size_t(v) * 16, scales + (size_t(blocks) * vectors + v) * 16, vectors,
                std::min(16, p.columns - 16 * v) };
            float * out = to.values + size_t(r) * to.stride + 16 * v;
            by_rows<tile_rows>(n_rows - r, [&](auto n) { tile<n, M>(rows, r, at, blocks, to, out); });
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

bool has_avxvnni() {
    static const bool has = [] {
        unsigned a = 0, b = 0, c = 0, d = 0;
        return has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & 1u << 4) != 0;
    }();
    return has;
}

void pack_panel_avxvnni(const weights & w, const part & p, void * panel) {
    fill_panel(w, p, panel, pack_q4_0, pack_q8_0, pack_q4_K);
}

void multiply_avxvnni(const rows_int8 & rows, int n_rows, const part & p, const void * panel, bool minima, const target & to) {
    minima ? multiply<true>(rows, n_rows, p, (const uint8_t *) panel, to) : multiply<false>(rows, n_rows, p, (const uint8_t *) panel, to);
}

#else

bool has_avxvnni() { return false; }
void pack_panel_avxvnni(const weights &, const part &, void *) {}
void multiply_avxvnni(const rows_int8 &, int, const part &, const void *, bool, const target &) {}

#endif

} // namespace illava::product
