#pragma once

// Functions that the AVX2 kernels of products share.

#include "illava-product-avx512.h"
#include "illava-product-tile.h"

#include <cstring>

#ifdef ILLAVA_AVX512

#define ILLAVA_TARGET_AVX2 "avx2,fma,f16c"

// A part of a kernel, which has to be inlined: its registers are the kernel's.
#define ILLAVA_INLINE_AVX2 inline __attribute__((always_inline, target(ILLAVA_TARGET_AVX2)))

namespace illava::product {

// The first n of eight lanes.
ILLAVA_INLINE_AVX2 __m256i first_lanes_avx2(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(int(n < 8 ? n : 8)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

// Sums of R rows by V vectors of columns, from what `out` holds or from zero. Rows of `out` lie `stride` values apart, and
// `columns` of them count. Masked accesses are slow, and are spared whole vectors.
template <int R, int V>
ILLAVA_INLINE_AVX2 void load_sums(__m256 (&sum)[R][V], const float * out, size_t stride, int columns, bool add) {
    ILLAVA_UNROLL
    for (int v = 0; v < V; v++) {
        const bool whole = columns >= 8 * (v + 1);
        const __m256i lanes = first_lanes_avx2(columns - 8 * v);
        ILLAVA_UNROLL
        for (int r = 0; r < R; r++) {
            const float * from = out + r * stride + 8 * v;
            sum[r][v] = !add ? _mm256_setzero_ps() : whole ? _mm256_loadu_ps(from) : _mm256_maskload_ps(from, lanes);
        }
    }
}

// Writes the sums where `load_sums` takes them.
template <int R, int V>
ILLAVA_INLINE_AVX2 void store_sums(const __m256 (&sum)[R][V], float * out, size_t stride, int columns) {
    ILLAVA_UNROLL
    for (int v = 0; v < V; v++) {
        const bool whole = columns >= 8 * (v + 1);
        const __m256i lanes = first_lanes_avx2(columns - 8 * v);
        ILLAVA_UNROLL
        for (int r = 0; r < R; r++) {
            float * to = out + r * stride + 8 * v;
            whole ? _mm256_storeu_ps(to, sum[r][v]) : _mm256_maskstore_ps(to, lanes, sum[r][v]);
        }
    }
}

// Eight vectors of eight values: rows become columns.
ILLAVA_INLINE_AVX2 void transpose(__m256 (&r)[8]) {
    __m256 t[8], u[8];
    for (int i = 0; i < 8; i += 2) {
        t[i]     = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        u[i]     = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        r[i]     = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
    }
}

// Eight values of 16 bits each as f32; those beyond n are zero.
ILLAVA_INLINE_AVX2 __m256 load_halves(const char * from, int n, ggml_type type) {
    __m128i bits;
    if (n >= 8) {
        bits = _mm_loadu_si128((const __m128i *) from);
    } else {
        uint16_t some[8] = {};
        if (n > 0) {
            memcpy(some, from, size_t(n) * sizeof(uint16_t));
        }
        bits = _mm_loadu_si128((const __m128i *) some);
    }
    return type == GGML_TYPE_F16 ? _mm256_cvtph_ps(bits) : _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

} // namespace illava::product

#endif
