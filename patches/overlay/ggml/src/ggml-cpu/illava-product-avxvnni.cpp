// Products of quantised weights by the VPDPBUSD of AVX-VNNI, for processors that have it and no AVX-512. Panels are
// unpacked by illava-product-int8-avx2.cpp.

#include "illava-product-int8.h"

#include "illava-product-avx2.h"
#include "illava-product-int16.h"

#include <algorithm>
#include <cstdlib>
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

    __m256 sum[R][2];
    load_sums(sum, out, to.stride, p.columns, to.add);
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
    store_sums(sum, out, to.stride, p.columns);
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

// Two products of 16 bits and their sum in one instruction. Written out, as a part of a kernel for AVX2 is to have it.
struct pairs_vnni {
    static ILLAVA_INLINE_AVX2 void add(__m256i & sum, __m256i a, __m256i b) {
        asm("%{vex%} vpdpwssd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
    }
};

} // namespace

bool has_avxvnni() {
    static const bool has = [] {
        unsigned a = 0, b = 0, c = 0, d = 0;
        return !std::getenv("ILLAVA_NO_VNNI") && has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & 1u << 4) != 0;
    }();
    return has;
}

void multiply_avxvnni(const rows_int8 & rows, int n_rows, const part & p, const void * panel, ggml_type type, const target & to) {
    has_minima(type) ? multiply<true>(rows, n_rows, p, (const uint8_t *) panel, to) : multiply<false>(rows, n_rows, p, (const uint8_t *) panel, to);
}

void multiply_int16_avxvnni(const rows_int16 & rows, int n_rows, const part & p, const void * panel, const target & to) {
    multiply_int16_by<pairs_vnni>(rows, n_rows, p, panel, to);
}

#else

bool has_avxvnni() { return false; }
void multiply_int16_avxvnni(const rows_int16 &, int, const part &, const void *, const target &) {}
void multiply_avxvnni(const rows_int8 &, int, const part &, const void *, ggml_type, const target &) {}

#endif

} // namespace illava::product
