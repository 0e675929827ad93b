#pragma once

// The passes of the score on tensor cores (compute capability 7.5 and up), head sizes up to 128.
//
// A block keeps 64 fixed rows, 16 to a warp, as fragments in registers; 32 moving rows at a time come
// into shared memory, the next ones while these are multiplied. Logits stay in the accumulators: every
// thread has two rows of the warp's 16, and shares each with three neighbours.
//
// Operands in two parts (score_pack) make a product as exact as f32: high*high + low*high + high*low. The
// missing low*low is below f32's own rounding.

#include "illava-score-row.cuh"

constexpr int score_mma_moving = 32;
constexpr int score_mma_warps  = score_fixed_rows / 16;

// 16 bytes from global to shared memory; on newer cards without waiting for them.
static __device__ __forceinline__ void score_copy_16(void * shared, const void * global) {
#ifdef CP_ASYNC_AVAILABLE
    cp_async_cg_16<128>(ggml_cuda_cvta_generic_to_shared(shared), global);
#else
    *(int4 *) shared = *(const int4 *) global;
#endif
}

static __device__ __forceinline__ void score_copy_wait() {
#ifdef CP_ASYNC_AVAILABLE
    cp_async_wait_all();
#endif
}

template <score_pass pass, int d, int k_parts>
static __global__ void __launch_bounds__(32 * score_mma_warps) score_mma(const score_args a) {
#ifdef TURING_MMA_AVAILABLE
    using namespace ggml_cuda_mma;
    using operand = tile<16,  8, half2>; // 16 rows by 16 values
    using product = tile<16, 16, float>;

    constexpr int q_parts      = 2;
    constexpr int fixed_parts  = pass == score_pass::rows ? q_parts : k_parts;
    constexpr int moving_parts = pass == score_pass::rows ? k_parts : q_parts;
    constexpr int threads      = 32 * score_mma_warps;
    constexpr int steps        = d / 16;               // products along the head size
    constexpr int tiles        = score_mma_moving / 16;
    constexpr int chunks       = d / 8;                // of 16 bytes in a row
    constexpr int stride       = d / 2 + 4;            // of a shared row in half2: eight rows fall on different banks

    alignas(16) __shared__ half2 moving[2][moving_parts][score_mma_moving * stride];
    __shared__ float mask[score_fixed_rows][score_mma_moving + 1];

    const int lane   = int(threadIdx.x);
    const int warp   = int(threadIdx.y);
    const int thread = warp * 32 + lane;
    const int head   = int(blockIdx.z);
    const int row0   = int(blockIdx.x) * score_fixed_rows; // of the block
    const int warp0  = warp * 16;                          // of the warp in the block

    const size_t  q_plane      = size_t(a.n_q_pad)  * (d / 2);
    const size_t  k_plane      = size_t(a.n_kv_pad) * (d / 2);
    const half2 * q            = (const half2 *) a.q + head * q_parts * q_plane;
    const half2 * k            = (const half2 *) a.k + (a.head0 + head) / a.group * k_parts * k_plane;
    const half2 * fixed_rows   = pass == score_pass::rows ? q : k;
    const half2 * moving_rows  = pass == score_pass::rows ? k : q;
    const size_t  fixed_plane  = pass == score_pass::rows ? q_plane : k_plane;
    const size_t  moving_plane = pass == score_pass::rows ? k_plane : q_plane;

    operand fixed[fixed_parts][steps];
#pragma unroll
    for (int part = 0; part < fixed_parts; part++) {
#pragma unroll
        for (int step = 0; step < steps; step++) {
            load_generic(fixed[part][step], fixed_rows + part * fixed_plane + size_t(row0 + warp0) * (d / 2) + step * 8, d / 2);
        }
    }

    const auto fetch = [&](const int buffer, const int col0) {
        for (int at = thread; at < moving_parts * score_mma_moving * chunks; at += threads) {
            const int part  = at / (score_mma_moving * chunks);
            const int row   = at / chunks % score_mma_moving;
            const int chunk = at % chunks;
            score_copy_16(&moving[buffer][part][row * stride + chunk * 4],
                moving_rows + part * moving_plane + size_t(col0 + row) * (d / 2) + chunk * 4);
        }
    };

    score_row<pass> rows[2]; // lane / 4 and eight below it

    int begin, end;
    score_moving_range<pass>(a, begin, end);
    fetch(0, begin);

    for (int col0 = begin, buffer = 0; col0 < end; col0 += score_mma_moving, buffer ^= 1) {
        score_copy_wait();
        __syncthreads(); // this tile is there, and the one before has been used
        if (col0 + score_mma_moving < end) {
            fetch(buffer ^ 1, col0 + score_mma_moving);
        }
        if (a.mask) {
            // keys are what lies side by side in the mask
            bool seen = false;
            for (int at = thread; at < score_fixed_rows * score_mma_moving; at += threads) {
                const int row = pass == score_pass::rows ? at / score_mma_moving : at % score_fixed_rows;
                const int col = pass == score_pass::rows ? at % score_mma_moving : at / score_fixed_rows;
                mask[row][col] = score_mask<pass>(a, row0 + row, col0 + col);
                seen = seen || mask[row][col] > -score_inf();
            }
            if (!__syncthreads_or(seen)) {
                continue; // all hidden: half the tiles of a causal mask
            }
        }

        product logits[tiles];
#pragma unroll
        for (int step = 0; step < steps; step++) {
#pragma unroll
            for (int t = 0; t < tiles; t++) {
#pragma unroll
                for (int part = 0; part < moving_parts; part++) {
                    operand x;
                    load_ldmatrix(x, &moving[buffer][part][t * 16 * stride + step * 8], stride);
                    mma(logits[t], fixed[0][step], x);
                    if constexpr (fixed_parts == 2) {
                        if (part == 0) {
                            mma(logits[t], fixed[1][step], x);
                        }
                    }
                }
            }
        }

        // entry l of a product stands in row get_i(l), which is lane / 4 plus 0 or 8
        float logit[2][tiles * 4], lse[2][tiles * 4];
#pragma unroll
        for (int t = 0; t < tiles; t++) {
#pragma unroll
            for (int l = 0; l < product::ne; l++) {
                const int row = product::get_i(l);
                const int col = t * 16 + product::get_j(l);
                const int r   = l / 2 % 2;
                const int i   = t * 4 + l / 4 * 2 + l % 2;

                logit[r][i] = logits[t].x[l];
                if (a.mask) {
                    logit[r][i] += mask[warp0 + row][col];
                } else if (pass == score_pass::rows && col0 + col >= a.n_kv) {
                    logit[r][i] = -score_inf();
                }
                lse[r][i] = 0.0f;
                if constexpr (pass == score_pass::columns) {
                    lse[r][i] = a.lse[size_t(head) * a.n_q_pad + col0 + col];
                }
            }
        }
        rows[0].add(logit[0], lse[0]);
        rows[1].add(logit[1], lse[1]);
    }

    // the four lanes that share lane / 4
#pragma unroll
    for (int i = 0; i < 2; i++) {
        rows[i].join(2);
        rows[i].join(1);
        if (lane % 4 == 0) {
            rows[i].store(a, head, row0 + warp0 + lane / 4 + 8 * i);
        }
    }
#else
    GGML_UNUSED(a);
    NO_DEVICE_CODE;
#endif // TURING_MMA_AVAILABLE
}
