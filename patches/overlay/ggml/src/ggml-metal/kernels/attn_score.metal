#include "common.h"

// Attention received by every key (docs/score-op.md), in three dispatches:
//
//   rows     maximum and sum of every softmax row
//   columns  the softmax again, now that its rows' maxima and sums are known, summed over the
//            queries of one chunk
//   sum      the chunks' sums, in the order of the chunks
//
// rows and columns compute the logits tile by tile, ATTN_SCORE_NQ queries by ATTN_SCORE_NK keys. They take
// the head in pieces of ATTN_SCORE_ND elements, so that a head of any size fits. There are no atomics, and
// the same sequence of additions adds up every key of a tile: the result is always the same, and equal keys
// have equal scores.
//
// Metal compiles with fast math, which promises the compiler that no number is infinite. A mask's -inf
// therefore becomes ATTN_SCORE_HIDDEN before any computation with it.

// Threadgroup memory holds a piece of the queries and of the keys, later the logits of the tile.
#define ATTN_SCORE_SK (ATTN_SCORE_NQ*ATTN_SCORE_ND) // where the keys begin
#define ATTN_SCORE_NS (ATTN_SCORE_NK + 4)           // floats from one row of logits to the next

// Queries and keys are stored as 8x8 blocks, each of 64 consecutive floats, as simdgroup_load likes it.
static inline int attn_score_element(int row, int col) {
    return ((row/8)*(ATTN_SCORE_ND/8) + col/8)*64 + (row%8)*8 + col%8;
}

// The blocks of quantised keys, as ggml-common.h has them.
typedef struct {
    half   d;
    int8_t qs[32];
} attn_score_q8_0;

typedef struct {
    half    d;
    uint8_t qs[16];
} attn_score_q4_0;

// One element of a row of T.
template<typename T>
inline float attn_score_value(device const char * row, int col) {
    return (float) ((device const T *) row)[col];
}

template<>
inline float attn_score_value<attn_score_q8_0>(device const char * row, int col) {
    device const attn_score_q8_0 * block = (device const attn_score_q8_0 *) row + col/32;

    return (float) block->d*block->qs[col%32];
}

template<>
inline float attn_score_value<attn_score_q4_0>(device const char * row, int col) {
    device const attn_score_q4_0 * block = (device const attn_score_q4_0 *) row + col/32;

    const int pair = block->qs[col%16];

    return (float) block->d*((col%32 < 16 ? pair & 0xF : pair >> 4) - 8);
}

// Elements d0... of the rows first... of a head, as floats; zeros beyond the last row and element.
template<typename T>
static inline void attn_score_load(
        device const char * src,
        uint64_t nb1,
        int first,
        int n_rows,
        int d0,
        int d,
        int count,
        threadgroup float * dst,
        ushort sgitg,
        ushort tiisg) {
    const int col = d0 + tiisg;

    for (int row = sgitg; row < count; row += ATTN_SCORE_NSG) {
        float value = 0.0f;
        if (first + row < n_rows && col < d) {
            value = attn_score_value<T>(src + (first + row)*nb1, col);
        }
        dst[attn_score_element(row, tiisg)] = value;
    }
}

// Products of the queries j0... with the keys i0..., neither scaled nor masked, in shmem. Each of the
// four simdgroups computes 16 queries by 32 keys. All threads of the threadgroup come here together,
// and nobody may still be reading shmem.
template<typename T>
static inline void attn_score_tile(
        constant ggml_metal_kargs_attn_score & args,
        device const char * q,
        device const char * k,
        threadgroup float * shmem,
        int head,
        int j0,
        int i0,
        ushort sgitg,
        ushort tiisg) {
    threadgroup float * sq = shmem;
    threadgroup float * sk = shmem + ATTN_SCORE_SK;

    q += head*args.nbq2;
    k += head/args.group*args.nbk2;

    const short y = 2*(sgitg/2); // of its blocks of 8 queries
    const short x = 4*(sgitg%2); // of its blocks of 8 keys

    simdgroup_float8x8 mc[8];

    FOR_UNROLL (short n = 0; n < 8; n++) {
        mc[n] = make_filled_simdgroup_matrix<float, 8>(0.f);
    }

    for (int d0 = 0; d0 < args.d; d0 += ATTN_SCORE_ND) {
        attn_score_load<float>(q, args.nbq1, j0, args.n_q,  d0, args.d, ATTN_SCORE_NQ, sq, sgitg, tiisg);
        attn_score_load<T>    (k, args.nbk1, i0, args.n_kv, d0, args.d, ATTN_SCORE_NK, sk, sgitg, tiisg);

        threadgroup_barrier(mem_flags::mem_threadgroup);

        FOR_UNROLL (short c = 0; c < ATTN_SCORE_ND/8; c++) {
            simdgroup_float8x8 mq[2];
            simdgroup_float8x8 mk[4];

            FOR_UNROLL (short n = 0; n < 2; n++) {
                simdgroup_load(mq[n], sq + 64*((y + n)*(ATTN_SCORE_ND/8) + c), 8, 0, false);
            }
            FOR_UNROLL (short n = 0; n < 4; n++) {
                simdgroup_load(mk[n], sk + 64*((x + n)*(ATTN_SCORE_ND/8) + c), 8, 0, true); // transpose
            }
            FOR_UNROLL (short n = 0; n < 8; n++) {
                simdgroup_multiply_accumulate(mc[n], mq[n/4], mk[n%4], mc[n]);
            }
        }

        threadgroup_barrier(mem_flags::mem_threadgroup);
    }

    FOR_UNROLL (short n = 0; n < 8; n++) {
        simdgroup_store(mc[n], shmem + 8*(y + n/4)*ATTN_SCORE_NS + 8*(x + n%4), ATTN_SCORE_NS, 0, false);
    }

    threadgroup_barrier(mem_flags::mem_threadgroup);
}

// The logit of query j for key i, from their product.
static inline float attn_score_logit(
        constant ggml_metal_kargs_attn_score & args,
        device const char * mask,
        float product,
        int j,
        int i) {
    if (i >= args.n_kv) {
        return ATTN_SCORE_HIDDEN;
    }

    float bias = 0.0f;
    if (args.mask == ATTN_SCORE_MASK_F16) {
        bias = (float) ((device const half *) mask)[(int64_t) j*args.n_kv + i];
    }
    if (args.mask == ATTN_SCORE_MASK_F32) {
        bias = ((device const float *) mask)[(int64_t) j*args.n_kv + i];
    }

    return product*args.scale + max(bias, ATTN_SCORE_HIDDEN);
}

// rows: [n_head*n_q][2], a row's maximum and one over its sum of exponentials; zero in place of the
// latter where the query sees no key.
template<typename T>
kernel void kernel_attn_score_rows(
        constant ggml_metal_kargs_attn_score & args,
        device const char * q,
        device const char * k,
        device const char * mask,
        device float * rows,
        threadgroup float * shmem [[threadgroup(0)]],
        uint3  tgpig[[threadgroup_position_in_grid]],
        ushort tiitg[[thread_index_in_threadgroup]],
        ushort sgitg[[simdgroup_index_in_threadgroup]],
        ushort tiisg[[thread_index_in_simdgroup]]) {
    const int j0   = tgpig.x*ATTN_SCORE_NQ;
    const int head = tgpig.y;

    // four neighbouring threads share a row, each takes every fourth key
    const short row  = tiitg/4;
    const short part = tiitg%4;
    const int   j    = j0 + row;

    float row_max = ATTN_SCORE_HIDDEN;
    float row_sum = 0.0f;

    for (int i0 = 0; i0 < args.n_kv; i0 += ATTN_SCORE_NK) {
        attn_score_tile<T>(args, q, k, shmem, head, j0, i0, sgitg, tiisg);

        if (j < args.n_q) {
            threadgroup float * logits = shmem + row*ATTN_SCORE_NS;

            float new_max = row_max;
            for (short c = part; c < ATTN_SCORE_NK; c += 4) {
                logits[c] = attn_score_logit(args, mask, logits[c], j, i0 + c);
                new_max   = max(new_max, logits[c]);
            }

            row_sum *= exp(row_max - new_max);
            for (short c = part; c < ATTN_SCORE_NK; c += 4) {
                row_sum += exp(logits[c] - new_max);
            }
            row_max = new_max;
        }

        threadgroup_barrier(mem_flags::mem_threadgroup);
    }

    for (ushort step = 1; step < 4; step *= 2) {
        const float other_max = simd_shuffle_xor(row_max, step);
        const float other_sum = simd_shuffle_xor(row_sum, step);
        const float new_max   = max(row_max, other_max);

        row_sum = row_sum*exp(row_max - new_max) + other_sum*exp(other_max - new_max);
        row_max = new_max;
    }

    if (part == 0 && j < args.n_q) {
        device float * out = rows + 2*((int64_t) head*args.n_q + j);

        out[0] = row_max;
        out[1] = row_max > 0.5f*ATTN_SCORE_HIDDEN ? 1.0f/row_sum : 0.0f;
    }
}

// sums: [n_chunk][n_kv]. An item is a head and a block of its queries; a chunk is a run of items.
template<typename T>
kernel void kernel_attn_score_columns(
        constant ggml_metal_kargs_attn_score & args,
        device const char * q,
        device const char * k,
        device const char * mask,
        device const float * rows,
        device float * sums,
        threadgroup float * shmem [[threadgroup(0)]],
        uint3  tgpig[[threadgroup_position_in_grid]],
        ushort tiitg[[thread_index_in_threadgroup]],
        ushort sgitg[[simdgroup_index_in_threadgroup]],
        ushort tiisg[[thread_index_in_simdgroup]]) {
    const int i0    = tgpig.x*ATTN_SCORE_NK;
    const int chunk = tgpig.y;

    // two threads share a column, each takes half the queries of a tile
    const short col   = tiitg%ATTN_SCORE_NK;
    const short row0  = tiitg/ATTN_SCORE_NK*(ATTN_SCORE_NQ/2);
    const int   i     = i0 + col;
    const int   first = chunk*args.n_item_chunk;
    const int   last  = min(first + args.n_item_chunk, args.n_item);

    float sum = 0.0f;

    for (int item = first; item < last; item++) {
        const int head = item/args.n_block;
        const int j0   = item%args.n_block*ATTN_SCORE_NQ;

        attn_score_tile<T>(args, q, k, shmem, head, j0, i0, sgitg, tiisg);

        for (short row = row0; row < row0 + ATTN_SCORE_NQ/2; row++) {
            const int j = j0 + row;
            if (j < args.n_q && i < args.n_kv) {
                device const float * stats = rows + 2*((int64_t) head*args.n_q + j);

                sum += exp(attn_score_logit(args, mask, shmem[row*ATTN_SCORE_NS + col], j, i) - stats[0])*stats[1];
            }
        }

        threadgroup_barrier(mem_flags::mem_threadgroup);
    }

    shmem[tiitg] = sum;

    threadgroup_barrier(mem_flags::mem_threadgroup);

    if (tiitg < ATTN_SCORE_NK && i < args.n_kv) {
        sums[(int64_t) chunk*args.n_kv + i] = shmem[tiitg] + shmem[tiitg + ATTN_SCORE_NK];
    }
}

kernel void kernel_attn_score_sum(
        constant ggml_metal_kargs_attn_score & args,
        device const float * sums,
        device float * dst,
        uint tpig[[thread_position_in_grid]]) {
    const int i = tpig;
    if (i >= args.n_kv) {
        return;
    }

    float sum = 0.0f;
    for (int chunk = 0; chunk < args.n_chunk; chunk++) {
        sum += sums[(int64_t) chunk*args.n_kv + i];
    }
    dst[i] = sum;
}

typedef decltype(kernel_attn_score_rows<float>)    attn_score_rows_t;
typedef decltype(kernel_attn_score_columns<float>) attn_score_columns_t;

template [[host_name("kernel_attn_score_rows_f32")]]     kernel attn_score_rows_t    kernel_attn_score_rows<float>;
template [[host_name("kernel_attn_score_rows_f16")]]     kernel attn_score_rows_t    kernel_attn_score_rows<half>;
template [[host_name("kernel_attn_score_rows_q8_0")]]    kernel attn_score_rows_t    kernel_attn_score_rows<attn_score_q8_0>;
template [[host_name("kernel_attn_score_rows_q4_0")]]    kernel attn_score_rows_t    kernel_attn_score_rows<attn_score_q4_0>;
template [[host_name("kernel_attn_score_columns_f32")]]  kernel attn_score_columns_t kernel_attn_score_columns<float>;
template [[host_name("kernel_attn_score_columns_f16")]]  kernel attn_score_columns_t kernel_attn_score_columns<half>;
template [[host_name("kernel_attn_score_columns_q8_0")]] kernel attn_score_columns_t kernel_attn_score_columns<attn_score_q8_0>;
template [[host_name("kernel_attn_score_columns_q4_0")]] kernel attn_score_columns_t kernel_attn_score_columns<attn_score_q4_0>;

#if defined(GGML_METAL_HAS_BF16)
template [[host_name("kernel_attn_score_rows_bf16")]]    kernel attn_score_rows_t    kernel_attn_score_rows<bfloat>;
template [[host_name("kernel_attn_score_columns_bf16")]] kernel attn_score_columns_t kernel_attn_score_columns<bfloat>;
#endif
