#pragma once

// The tensor core operations that ggml-cuda/mma.cuh wraps, by the lane layouts of the PTX ISA
// (mma.m16n8k16 with f16 operands and f32 sums; ldmatrix.x4). The layouts stand here a second time, as
// PTX states them, so that a kernel that confuses them gives another result.

#include "cuda-emulation.h"

namespace ggml_cuda_mma {

template <int I_, int J_, typename T> struct tile;

// 16 x 16 halves, two to an element.
template <> struct tile<16, 8, half2> {
    static constexpr int I = 16, J = 8, ne = 4;
    half2 x[ne];

    static int get_i(int l) { return l % 2 * 8 + int(threadIdx.x) / 4; }
    static int get_j(int l) { return l / 2 * 4 + int(threadIdx.x) % 4; }
};

// Two results of mma.m16n8k16 side by side.
template <> struct tile<16, 16, float> {
    static constexpr int I = 16, J = 16, ne = 8;
    float x[ne] = {};

    static int get_i(int l) { return l / 2 % 2 * 8 + int(threadIdx.x) / 4; }
    static int get_j(int l) { return l / 4 * 8 + int(threadIdx.x) % 4 * 2 + l % 2; }
};

template <int I, int J, typename T>
void load_generic(tile<I, J, T> & t, const T * x, int stride) {
    for (int l = 0; l < t.ne; l++) {
        t.x[l] = x[t.get_i(l) * stride + t.get_j(l)];
    }
}

// ldmatrix.x4: lane 8m + r gives the address of row r of the 8 x 8 matrix m; every lane gets two
// neighbours of row lane / 4 of each.
inline void load_ldmatrix(tile<16, 8, half2> & t, const half2 * x, int stride) {
    const size_t  lane = cuda::the_block().lane();
    const half2 * row  = x + lane % 16 * stride + lane / 16 * 4;
    if (uintptr_t(row) % 16 != 0) {
        cuda::fail("a row for ldmatrix that is not aligned to 16 bytes");
    }
    const auto * rows = cuda::the_block().meet_warp(row, [](auto &){});
    for (size_t m = 0; m < 4; m++) {
        t.x[m] = ((const half2 *) rows[8 * m + lane / 4])[lane % 4];
    }
    cuda::the_block().meet_warp(nullptr, [](auto &){}); // the rows stay until all have read
}

struct mma_operands {
    tile<16, 16, float>      * d;
    const tile<16, 8, half2> * a;
    const tile<16, 8, half2> * b;
};

// d (16 x 8) += a (16 x 16, row by row) * b (16 x 8, column by column), all registers in PTX's order.
inline void mma_m16n8k16(float * const (&d)[32], const half2 (&a)[32][4], const half2 (&b)[32][2]) {
    float row_a[16][16], row_b[16][8], product[16][8] = {};
    for (int lane = 0; lane < 32; lane++) {
        const int group = lane / 4, in_group = lane % 4;
        for (int i = 0; i < 4; i++) {
            const int row = group + (i % 2 == 1 ? 8 : 0);
            const int k   = in_group * 2 + (i >= 2 ? 8 : 0);
            row_a[row][k]     = __half2float(a[lane][i].x);
            row_a[row][k + 1] = __half2float(a[lane][i].y);
        }
        for (int i = 0; i < 2; i++) {
            const int k = in_group * 2 + (i == 1 ? 8 : 0);
            row_b[k]    [group] = __half2float(b[lane][i].x);
            row_b[k + 1][group] = __half2float(b[lane][i].y);
        }
    }
    for (int row = 0; row < 16; row++) {
        for (int k = 0; k < 16; k++) {
            for (int col = 0; col < 8; col++) {
                product[row][col] += row_a[row][k] * row_b[k][col];
            }
        }
    }
    for (int lane = 0; lane < 32; lane++) {
        for (int i = 0; i < 4; i++) {
            d[lane][i] += product[lane / 4 + (i >= 2 ? 8 : 0)][lane % 4 * 2 + i % 2];
        }
    }
}

inline void mma(tile<16, 16, float> & d, const tile<16, 8, half2> & a, const tile<16, 8, half2> & b) {
    const mma_operands own = { &d, &a, &b };
    cuda::the_block().meet_warp(&own, [](auto & all) {
        float * ds[2][32];
        half2   as[32][4], bs[2][32][2];
        for (int lane = 0; lane < 32; lane++) {
            const auto & o = *(const mma_operands *) all[lane];
            memcpy(as[lane], o.a->x, sizeof(as[lane]));
            for (int n = 0; n < 2; n++) {
                // rows 8n to 8n + 7 of b: its registers n and n + 2
                ds[n][lane]    = o.d->x + 4 * n;
                bs[n][lane][0] = o.b->x[n];
                bs[n][lane][1] = o.b->x[n + 2];
            }
        }
        mma_m16n8k16(ds[0], as, bs[0]);
        mma_m16n8k16(ds[1], as, bs[1]);
    });
}

} // namespace ggml_cuda_mma
