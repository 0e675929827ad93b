#include "illava-product-amx.h"

#if defined(__x86_64__) && defined(__linux__) && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace illava::product {

namespace {

// In assembly: GCC's intrinsics take a register's number as a token, so that no template can name it.
struct tiles {
    static void configure(const amx_config & shape) { __asm__ volatile("ldtilecfg %0" : : "m"(shape)); }
    static void release() { __asm__ volatile("tilerelease"); }

    template <int T>
    static void zero() {
        __asm__ volatile("tilezero %%tmm%c0" : : "i"(T));
    }
    template <int T>
    static void load(const void * from, size_t stride) {
        __asm__ volatile("tileloadd (%1,%2,1), %%tmm%c0" : : "i"(T), "r"(from), "r"(stride) : "memory");
    }
    template <int T>
    static void store(void * to, size_t stride) {
        __asm__ volatile("tilestored %%tmm%c0, (%1,%2,1)" : : "i"(T), "r"(to), "r"(stride) : "memory");
    }
    // Sums += Rows x Weights
    template <int Sums, int Rows, int Weights>
    static void add() {
        __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sums), "i"(Rows), "i"(Weights));
    }
};

bool ask() {
    unsigned a, b, c, d;
    // CPUID leaf 7: bits 22 and 24 of EDX are AMX-BF16 and AMX-TILE; leaf 1: bit 27 of ECX is OSXSAVE
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1) || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) || !(d >> 24 & 1)) {
        return false;
    }
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    // Linux hands the tiles' state (17, 18) to a process that asks for it, before its threads use them.
    constexpr long request = 0x1023 /* ARCH_REQ_XCOMP_PERM */, tile_data = 18;
    return (low >> 17 & 3) == 3 && syscall(SYS_arch_prctl, request, tile_data) == 0;
}

} // namespace

bool has_amx() {
    static const bool has = has_bf16() && ask();
    return has;
}

void multiply_amx(const rows_bf16 & rows, int n_rows, const part & p, const void * panel, const target & to) {
    for (int line = 0; line < to.lines; line++) {
        __builtin_prefetch(to.next + 64 * line, 0, 2);
    }
    multiply_by_tiles<tiles>(rows, n_rows, p, panel, to);
}

} // namespace illava::product

#else

namespace illava::product {

bool has_amx() { return false; }
void multiply_amx(const rows_bf16 &, int, const part &, const void *, const target &) {}

} // namespace illava::product

#endif
