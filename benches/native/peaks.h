// Loops of one instruction on registers: the most operations that a thread of this processor can do.

#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace peaks {

// One thread by the processor time of the process, which a busy machine disturbs less; several by the wall.
inline double seconds(int n_threads) {
    if (n_threads == 1) {
        timespec t;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
    }
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct loop {
    bool (*runs)();         // whether the processor has the instruction
    void (*run)();
    double giga_operations; // of one run; a multiply-add counts two
};

#if defined(__x86_64__)

constexpr int n_turns = 5'000'000;

// Twelve sums that do not wait for one another; the asm keeps each a register of its own.
#define ILLAVA_PEAK(name, isa, type, zero, instruction, r)                                              \
    __attribute__((target(isa))) inline void name() {                                                   \
        type s[12];                                                                                     \
        for (auto & sum : s) {                                                                          \
            sum = zero;                                                                                 \
        }                                                                                               \
        for (int i = 0; i < n_turns; i++) {                                                             \
            asm volatile(instruction " %%" r "14, %%" r "15, %0\n" instruction " %%" r "14, %%" r "15, %1\n"   \
                         instruction " %%" r "14, %%" r "15, %2\n" instruction " %%" r "14, %%" r "15, %3\n"   \
                         instruction " %%" r "14, %%" r "15, %4\n" instruction " %%" r "14, %%" r "15, %5\n"   \
                         instruction " %%" r "14, %%" r "15, %6\n" instruction " %%" r "14, %%" r "15, %7\n"   \
                         instruction " %%" r "14, %%" r "15, %8\n" instruction " %%" r "14, %%" r "15, %9\n"   \
                         instruction " %%" r "14, %%" r "15, %10\n" instruction " %%" r "14, %%" r "15, %11"   \
                : "+x"(s[0]), "+x"(s[1]), "+x"(s[2]), "+x"(s[3]), "+x"(s[4]), "+x"(s[5]), "+x"(s[6]), "+x"(s[7]),  \
                  "+x"(s[8]), "+x"(s[9]), "+x"(s[10]), "+x"(s[11])                                      \
                :                                                                                       \
                : "xmm14", "xmm15");                                                                    \
        }                                                                                               \
    }

ILLAVA_PEAK(fma_256, "avx2,fma", __m256, _mm256_setzero_ps(), "vfmadd231ps", "ymm")
ILLAVA_PEAK(fma_512, "avx512f", __m512, _mm512_setzero_ps(), "vfmadd231ps", "zmm")
ILLAVA_PEAK(bf16_512, "avx512f,avx512bf16", __m512, _mm512_setzero_ps(), "vdpbf16ps", "zmm")
// Products added in pairs: without VNNI no instruction adds to a sum too.
ILLAVA_PEAK(pairs_256, "avx2", __m256i, _mm256_setzero_si256(), "vpmaddubsw", "ymm")
ILLAVA_PEAK(int16_pairs_256, "avx2", __m256i, _mm256_setzero_si256(), "vpmaddwd", "ymm")
ILLAVA_PEAK(int16_256, "avx2", __m256i, _mm256_setzero_si256(), "%{vex%} vpdpwssd", "ymm")
ILLAVA_PEAK(int8_256, "avx2", __m256i, _mm256_setzero_si256(), "%{vex%} vpdpbusd", "ymm")
ILLAVA_PEAK(int8_512, "avx512f,avx512vnni", __m512i, _mm512_setzero_si512(), "vpdpbusd", "zmm")

#undef ILLAVA_PEAK

// GCC 12 does not know avxvnni by name: leaf 7, first subleaf, EAX bit 4.
inline bool has_avx_vnni() {
    unsigned a = 7, b, c = 1, d;
    asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return __builtin_cpu_supports("avx2") && (a & (1u << 4)) != 0;
}

inline std::vector<loop> f32() {
    return {
        { [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }, fma_256, 12e-9 * n_turns * 16 },
        { [] { return bool(__builtin_cpu_supports("avx512f")); }, fma_512, 12e-9 * n_turns * 32 },
    };
}
inline std::vector<loop> bf16() {
    return { { [] { return bool(__builtin_cpu_supports("avx512bf16")); }, bf16_512, 12e-9 * n_turns * 64 } };
}
inline std::vector<loop> int16() {
    return {
        { [] { return bool(__builtin_cpu_supports("avx2")); }, int16_pairs_256, 12e-9 * n_turns * 32 },
        { has_avx_vnni, int16_256, 12e-9 * n_turns * 32 },
    };
}
inline std::vector<loop> int8() {
    return {
        { [] { return bool(__builtin_cpu_supports("avx2")); }, pairs_256, 12e-9 * n_turns * 64 },
        { has_avx_vnni, int8_256, 12e-9 * n_turns * 64 },
        { [] { return bool(__builtin_cpu_supports("avx512vnni")); }, int8_512, 12e-9 * n_turns * 128 },
    };
}

#else

inline std::vector<loop> f32() { return {}; }
inline std::vector<loop> bf16() { return {}; }
inline std::vector<loop> int16() { return {}; }
inline std::vector<loop> int8() { return {}; }

#endif

} // namespace peaks
