#pragma once

// What the AVX-512 kernels of products share. Their functions carry the instruction set as an attribute, so that one
// library runs on every processor of its architecture.

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define ILLAVA_AVX512 1

#include <immintrin.h>

#define ILLAVA_TARGET_BASE "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"

// Loops over a tile's registers, whose bounds are constants.
#if defined(__clang__)
#define ILLAVA_UNROLL _Pragma("unroll")
#else
#define ILLAVA_UNROLL _Pragma("GCC unroll 16")
#endif

namespace illava::product {

// Lanes of the last vector of so many columns.
inline __mmask16 last_lanes(int columns) {
    return __mmask16((1u << (columns - (columns - 1) / 16 * 16)) - 1);
}

// The processor's and the system's support, asked once.
inline bool has_avx512() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")
        && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

} // namespace illava::product

#endif
