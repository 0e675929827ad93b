#pragma once

// The passes of the score without tensor cores: any head size, any card. f32 throughout.
//
// 64 fixed by 64 moving rows at a time; a thread has 4 x 4 of them, its rows 16 apart. The head size is
// gone through in slices that both sides bring into shared memory, turned so that neighbouring rows lie
// side by side.

#include "illava-score-row.cuh"

constexpr int score_scalar_slice  = 32; // head sizes are padded to whole slices
constexpr int score_scalar_moving = 64;

template <score_pass pass>
static __global__ void __launch_bounds__(256) score_scalar(const score_args a) {
    constexpr int side = 16; // threads in x and y

    __shared__ float fixed_slice [score_scalar_slice][score_fixed_rows    + 1];
    __shared__ float moving_slice[score_scalar_slice][score_scalar_moving + 1];

    const int tx     = int(threadIdx.x);
    const int ty     = int(threadIdx.y);
    const int thread = ty * side + tx;
    const int head   = int(blockIdx.z);
    const int row0   = int(blockIdx.x) * score_fixed_rows;

    const float * q = (const float *) a.q + size_t(head) * a.n_q_pad * a.d_pad;
    const float * k = (const float *) a.k + size_t((a.head0 + head) / a.group) * a.n_kv_pad * a.d_pad;
    const float * fixed_rows  = (pass == score_pass::rows ? q : k) + size_t(row0) * a.d_pad;
    const float * moving_rows =  pass == score_pass::rows ? k : q;

    score_row<pass> rows[4];

    int begin, end;
    score_moving_range<pass>(a, begin, end);
    for (int col0 = begin; col0 < end; col0 += score_scalar_moving) {
        float acc[4][4] = {};

        for (int c0 = 0; c0 < a.d_pad; c0 += score_scalar_slice) {
            __syncthreads(); // the previous slice has been used
            for (int at = thread; at < score_fixed_rows * score_scalar_slice; at += side * side) {
                const int row = at / score_scalar_slice;
                const int c   = at % score_scalar_slice;
                fixed_slice [c][row] = fixed_rows [size_t(row)        * a.d_pad + c0 + c];
                moving_slice[c][row] = moving_rows[size_t(col0 + row) * a.d_pad + c0 + c];
            }
            __syncthreads();

#pragma unroll 8
            for (int c = 0; c < score_scalar_slice; c++) {
                float x[4], y[4];
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    x[i] = fixed_slice [c][ty + side * i];
                    y[i] = moving_slice[c][tx + side * i];
                }
#pragma unroll
                for (int i = 0; i < 4; i++) {
#pragma unroll
                    for (int j = 0; j < 4; j++) {
                        acc[i][j] += x[i] * y[j];
                    }
                }
            }
        }

        float lse[4] = {};
        if constexpr (pass == score_pass::columns) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                lse[j] = a.lse[size_t(head) * a.n_q_pad + col0 + tx + side * j];
            }
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
#pragma unroll
            for (int j = 0; j < 4; j++) {
                acc[i][j] += score_mask<pass>(a, row0 + ty + side * i, col0 + tx + side * j);
            }
            rows[i].add(acc[i], lse);
        }
    }

    // The 16 threads of a row are half a warp.
#pragma unroll
    for (int i = 0; i < 4; i++) {
        for (int distance = 8; distance > 0; distance /= 2) {
            rows[i].join(distance);
        }
        if (tx == 0) {
            rows[i].store(a, head, row0 + ty + side * i);
        }
    }
}
