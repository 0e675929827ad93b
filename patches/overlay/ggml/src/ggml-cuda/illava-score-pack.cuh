#pragma once

// First and last step of the score: operands of any type and stride into padded rows, and the sum of
// the partial column sums.

#include "illava-score-args.cuh"

static __device__ __forceinline__ float score_inf() {
    return __int_as_float(0x7f800000);
}

static __device__ __forceinline__ float score_half_at(const char * x) {
    return __half2float(*(const half *) x);
}

// Value c of a row as it is stored.
template <score_type type>
static __device__ __forceinline__ float score_load(const char * row, const int c) {
    if constexpr (type == score_type::f32) {
        return ((const float *) row)[c];
    } else if constexpr (type == score_type::f16) {
        return score_half_at(row + 2 * c);
    } else if constexpr (type == score_type::bf16) {
        return __int_as_float(int(((const unsigned short *) row)[c]) << 16);
    } else if constexpr (type == score_type::q8_0) {
        const char * block = row + c / 32 * 34; // scale, 32 values
        return score_half_at(block) * float(((const signed char *) block)[2 + c % 32]);
    } else {
        const char * block = row + c / 32 * 18; // scale, 16 bytes: values 0..15 low, 16..31 high
        const int    byte  = ((const unsigned char *) block)[2 + c % 16];
        return score_half_at(block) * float((c % 32 < 16 ? byte & 15 : byte >> 4) - 8);
    }
}

// One head per blockIdx.y, one value per thread, zeros behind row n and value d.
//
// parts == 0: f32 rows for the scalar kernel. parts == 1: f16 rows, exact for what is f16 or bf16 in
// f16's range. parts == 2: a second plane holds what f16 leaves of each value; together they are as
// good as f32 (2^-22 of the value, at least 2^-25). Values beyond f16's range become its largest.
template <score_type type>
static __global__ void score_pack(
        const char * x, const size_t row_bytes, const size_t head_bytes,
        const int n, const int n_pad, const int d, const int d_pad, const int parts, const float factor, void * packed) {
    const int index = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (index >= n_pad * d_pad) {
        return;
    }
    const int row  = index / d_pad;
    const int c    = index % d_pad;
    const int head = int(blockIdx.y);

    float value = 0.0f;
    if (row < n && c < d) {
        value = factor * score_load<type>(x + head * head_bytes + row * row_bytes, c);
    }

    const size_t plane = size_t(n_pad) * d_pad;
    if (parts == 0) {
        ((float *) packed)[head * plane + index] = value;
        return;
    }
    value = fminf(fmaxf(value, -65504.0f), 65504.0f);
    half *     out  = (half *) packed + head * parts * plane + index;
    const half high = __float2half_rn(value);
    out[0] = high;
    if (parts == 2) {
        out[plane] = __float2half_rn(value - __half2float(high));
    }
}

// out[i] = the sum of n_part partial sums of key i, in their order.
static __global__ void score_reduce(const float * partial, const int n_part, const int n_kv, const int n_kv_pad, float * out) {
    const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= n_kv) {
        return;
    }
    double sum = 0.0;
    for (int part = 0; part < n_part; part++) {
        sum += double(partial[size_t(part) * n_kv_pad + i]);
    }
    out[i] = float(sum);
}
