#pragma once

// State of a thread for one fixed row while the other operand streams past, and its reduction over the
// threads that share a row.

#include "illava-score-pack.cuh"

template <score_pass pass>
struct score_row;

// Largest logit and sum of 2^(logit - largest), as in any streaming softmax.
template <>
struct score_row<score_pass::rows> {
    float max = -score_inf();
    float sum = 0.0f;

    // n logits of one tile; `lse` has no meaning here.
    template <int n>
    __device__ __forceinline__ void add(const float (&logit)[n], const float (&)[n]) {
        float top = max;
#pragma unroll
        for (int i = 0; i < n; i++) {
            top = fmaxf(top, logit[i]);
        }
        if (top == -score_inf()) {
            return; // nothing seen yet
        }
        sum *= exp2f(max - top);
        max = top;
#pragma unroll
        for (int i = 0; i < n; i++) {
            sum += exp2f(logit[i] - top);
        }
    }

    __device__ __forceinline__ void join(const int lane_distance) {
        const float other_max = __shfl_xor_sync(0xffffffff, max, lane_distance, 32);
        const float other_sum = __shfl_xor_sync(0xffffffff, sum, lane_distance, 32);
        const float top = fmaxf(max, other_max);
        if (top == -score_inf()) {
            return;
        }
        sum = sum * exp2f(max - top) + other_sum * exp2f(other_max - top);
        max = top;
    }

    __device__ __forceinline__ void store(const score_args & a, const int head, const int row) const {
        a.lse[size_t(head) * a.n_q_pad + row] = row < a.n_q && max > -score_inf() ? max + log2f(sum) : score_inf();
    }
};

// Sum of 2^(logit - lse of the query).
template <>
struct score_row<score_pass::columns> {
    float sum = 0.0f;

    template <int n>
    __device__ __forceinline__ void add(const float (&logit)[n], const float (&lse)[n]) {
#pragma unroll
        for (int i = 0; i < n; i++) {
            sum += exp2f(logit[i] - lse[i]);
        }
    }

    __device__ __forceinline__ void join(const int lane_distance) {
        sum += __shfl_xor_sync(0xffffffff, sum, lane_distance, 32);
    }

    __device__ __forceinline__ void store(const score_args & a, const int head, const int row) const {
        const size_t part = size_t(a.head0 + head) * a.n_split + blockIdx.y;
        a.partial[part * a.n_kv_pad + row] = sum;
    }
};

// The moving rows a block goes through: all keys, or its range of queries (padded, the rest is hidden by lse).
template <score_pass pass>
static __device__ __forceinline__ void score_moving_range(const score_args & a, int & begin, int & end) {
    if constexpr (pass == score_pass::rows) {
        begin = 0;
        end   = a.n_kv_pad;
    } else {
        begin = int(blockIdx.y) * a.range_q;
        end   = min(begin + a.range_q, a.n_q_pad);
    }
}

// Bias of the logit of a fixed and a moving row, in base 2. -inf hides it.
template <score_pass pass>
static __device__ __forceinline__ float score_mask(const score_args & a, const int fixed, const int moving) {
    const int q = pass == score_pass::rows ? fixed  : moving;
    const int k = pass == score_pass::rows ? moving : fixed;
    if (k >= a.n_kv || q >= a.n_q) {
        return -score_inf();
    }
    if (!a.mask) {
        return 0.0f;
    }
    const size_t at = size_t(q) * a.n_kv + k;
    return score_log2e * (a.mask_f16 ? __half2float(((const half *) a.mask)[at]) : ((const float *) a.mask)[at]);
}
