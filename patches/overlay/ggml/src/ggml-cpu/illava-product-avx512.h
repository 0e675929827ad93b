#pragma once

// Functions that the AVX-512 kernels of products share. They carry the instruction set as an attribute, so
// that one library runs on every processor of its architecture.

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define ILLAVA_AVX512 1

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#define ILLAVA_TARGET_BASE "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"

// Loops over a tile's registers, whose bounds are constants.
#if defined(__clang__)
#define ILLAVA_UNROLL _Pragma("unroll")
#else
#define ILLAVA_UNROLL _Pragma("GCC unroll 16")
#endif

// A part of a kernel, which has to be inlined: its registers are the kernel's.
#define ILLAVA_INLINE inline __attribute__((always_inline, target(ILLAVA_TARGET_BASE)))

namespace illava::product {

// Lanes of the last vector of so many columns.
inline __mmask16 last_lanes(int columns) {
    return __mmask16((1u << (columns - (columns - 1) / 16 * 16)) - 1);
}

// The first n of sixteen lanes.
inline __mmask16 first_lanes(int64_t n) {
    return __mmask16(n >= 16 ? 0xffff : n > 0 ? (1u << n) - 1 : 0);
}

// Sums of R rows by V vectors of columns, from what `out` holds or from zero. Rows of `out` lie `stride` values apart; `last`
// are the lanes of the last vector.
template <int R, int V>
ILLAVA_INLINE void load_sums(__m512 (&sum)[R][V], const float * out, size_t stride, __mmask16 last, bool add) {
    ILLAVA_UNROLL
    for (int r = 0; r < R; r++) {
        ILLAVA_UNROLL
        for (int v = 0; v < V; v++) {
            sum[r][v] = add ? _mm512_maskz_loadu_ps(v == V - 1 ? last : 0xffff, out + r * stride + 16 * v) : _mm512_setzero_ps();
        }
    }
}

// Writes the sums where `load_sums` takes them.
template <int R, int V>
ILLAVA_INLINE void store_sums(const __m512 (&sum)[R][V], float * out, size_t stride, __mmask16 last) {
    ILLAVA_UNROLL
    for (int r = 0; r < R; r++) {
        ILLAVA_UNROLL
        for (int v = 0; v < V; v++) {
            // the epilogue reads them at once, and a masked store is not handed on to a load
            if (v < V - 1 || last == 0xffff) {
                _mm512_storeu_ps(out + r * stride + 16 * v, sum[r][v]);
            } else {
                _mm512_mask_storeu_ps(out + r * stride + 16 * v, last, sum[r][v]);
            }
        }
    }
}

// The processor's and the system's support. ILLAVA_NO_AVX512 in the environment denies it, so that what other processors
// compute can be tested and measured.
inline bool has_avx512() {
    return !std::getenv("ILLAVA_NO_AVX512") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")
        && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

} // namespace illava::product

#endif
