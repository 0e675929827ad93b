#pragma once

// The order of the kernels, what they are launched with and the scratch memory they need: host code,
// without a CUDA call of its own, so that the test that emulates the kernels runs it too.

#include "illava-score-mma.cuh"
#include "illava-score-scalar.cuh"

#include <algorithm>
#include <cstdint>
#include <cstddef>

struct score_shape {
    int64_t d, n_q, n_head, n_kv, n_head_kv;
    score_type k_type;
};

// A function of the shape alone, and of whether the card has tensor cores: the same operands give the same
// bits on every card of a kind.
struct score_plan {
    score_shape shape;
    bool mma;
    int  k_parts;  // planes of packed keys; 0: f32
    int  d_pad;
    int  n_q_pad, n_kv_pad;
    int  n_split, range_q;
    int  heads;    // query heads that are packed and gone through at a time

    size_t q_bytes, k_bytes, lse_bytes, partial_bytes;

    size_t bytes() const { return q_bytes + k_bytes + lse_bytes + partial_bytes; }
};

constexpr int64_t score_max_packed_q = int64_t(16) << 20;
constexpr int64_t score_max_split    = 8;

static inline int64_t score_round_up(int64_t x, int64_t to) {
    return (x + to - 1) / to * to;
}

static inline score_plan score_make_plan(const score_shape & s, bool tensor_cores) {
    score_plan p;
    p.shape = s;
    p.mma   = tensor_cores && s.d <= 128;

    // f16 holds what f16 and bf16 keys are; what is finer needs a second plane
    const bool exact_in_f16 = s.k_type == score_type::f16 || s.k_type == score_type::bf16;
    p.k_parts = !p.mma ? 0 : exact_in_f16 ? 1 : 2;
    p.d_pad   = !p.mma ? int(score_round_up(s.d, score_scalar_slice)) : s.d <= 64 ? 64 : s.d <= 80 ? 80 : s.d <= 96 ? 96 : 128;

    p.n_q_pad  = int(score_round_up(s.n_q,  score_fixed_rows));
    p.n_kv_pad = int(score_round_up(s.n_kv, score_fixed_rows));

    p.range_q = int(std::max<int64_t>(512, score_round_up((s.n_q + score_max_split - 1) / score_max_split, score_fixed_rows)));
    p.n_split = int((s.n_q + p.range_q - 1) / p.range_q);

    const int64_t head_bytes = int64_t(4) * p.n_q_pad * p.d_pad; // f32, or two planes of f16
    p.heads = int(std::min(s.n_head, std::max<int64_t>(1, score_max_packed_q / head_bytes)));

    p.q_bytes       = size_t(p.heads) * head_bytes;
    p.k_bytes       = size_t(s.n_head_kv) * p.n_kv_pad * p.d_pad * (p.mma ? 2 * p.k_parts : 4);
    p.lse_bytes     = size_t(p.heads) * p.n_q_pad * 4;
    p.partial_bytes = size_t(s.n_head) * p.n_split * p.n_kv_pad * 4;
    return p;
}

struct score_operand {
    const char * data;
    size_t       row_bytes;
    size_t       head_bytes;
};

struct score_scratch {
    void  * q;
    void  * k;
    float * lse;
    float * partial;
};

template <score_type type, typename launcher>
static void score_run_pack(
        launcher & launch, const score_operand & x, int64_t n, int n_pad, int64_t n_head,
        const score_plan & p, int parts, float factor, void * out) {
    const int threads = 256;
    launch(score_pack<type>, dim3(unsigned((int64_t(n_pad) * p.d_pad + threads - 1) / threads), unsigned(n_head)), dim3(threads),
        x.data, x.row_bytes, x.head_bytes, int(n), n_pad, int(p.shape.d), p.d_pad, parts, factor, out);
}

template <score_pass pass, typename launcher>
static void score_run_pass(launcher & launch, const score_plan & p, const score_args & a, int heads) {
    const dim3 grid = pass == score_pass::rows
        ? dim3(unsigned(p.n_q_pad  / score_fixed_rows), 1,                   unsigned(heads))
        : dim3(unsigned(p.n_kv_pad / score_fixed_rows), unsigned(p.n_split), unsigned(heads));

    if (!p.mma) {
        launch(score_scalar<pass>, grid, dim3(16, 16), a);
        return;
    }
    const dim3 block(32, score_mma_warps);
    switch (p.d_pad * 4 + p.k_parts) {
        case  64 * 4 + 1: launch(score_mma<pass,  64, 1>, grid, block, a); break;
        case  64 * 4 + 2: launch(score_mma<pass,  64, 2>, grid, block, a); break;
        case  80 * 4 + 1: launch(score_mma<pass,  80, 1>, grid, block, a); break;
        case  80 * 4 + 2: launch(score_mma<pass,  80, 2>, grid, block, a); break;
        case  96 * 4 + 1: launch(score_mma<pass,  96, 1>, grid, block, a); break;
        case  96 * 4 + 2: launch(score_mma<pass,  96, 2>, grid, block, a); break;
        case 128 * 4 + 1: launch(score_mma<pass, 128, 1>, grid, block, a); break;
        case 128 * 4 + 2: launch(score_mma<pass, 128, 2>, grid, block, a); break;
    }
}

// launch(kernel, grid, block, arguments...) puts a kernel behind those launched before it.
template <typename launcher>
static void score_run(
        launcher & launch, const score_plan & p, const score_operand & q, const score_operand & k,
        const void * mask, bool mask_f16, float scale, const score_scratch & scratch, float * out) {
    const score_shape & s = p.shape;

    switch (s.k_type) {
        case score_type::f32:  score_run_pack<score_type::f32 >(launch, k, s.n_kv, p.n_kv_pad, s.n_head_kv, p, p.k_parts, 1.0f, scratch.k); break;
        case score_type::f16:  score_run_pack<score_type::f16 >(launch, k, s.n_kv, p.n_kv_pad, s.n_head_kv, p, p.k_parts, 1.0f, scratch.k); break;
        case score_type::bf16: score_run_pack<score_type::bf16>(launch, k, s.n_kv, p.n_kv_pad, s.n_head_kv, p, p.k_parts, 1.0f, scratch.k); break;
        case score_type::q8_0: score_run_pack<score_type::q8_0>(launch, k, s.n_kv, p.n_kv_pad, s.n_head_kv, p, p.k_parts, 1.0f, scratch.k); break;
        case score_type::q4_0: score_run_pack<score_type::q4_0>(launch, k, s.n_kv, p.n_kv_pad, s.n_head_kv, p, p.k_parts, 1.0f, scratch.k); break;
    }

    score_args a;
    a.q        = scratch.q;
    a.k        = scratch.k;
    a.mask     = mask;
    a.mask_f16 = mask_f16;
    a.lse      = scratch.lse;
    a.partial  = scratch.partial;
    a.n_q      = int(s.n_q);
    a.n_kv     = int(s.n_kv);
    a.n_q_pad  = p.n_q_pad;
    a.n_kv_pad = p.n_kv_pad;
    a.d_pad    = p.d_pad;
    a.group    = int(s.n_head / s.n_head_kv);
    a.n_split  = p.n_split;
    a.range_q  = p.range_q;

    for (int64_t head0 = 0; head0 < s.n_head; head0 += p.heads) {
        const int     heads  = int(std::min<int64_t>(p.heads, s.n_head - head0));
        score_operand q_part = q;
        q_part.data += head0 * q.head_bytes;
        score_run_pack<score_type::f32>(launch, q_part, s.n_q, p.n_q_pad, heads, p, p.mma ? 2 : 0, scale * score_log2e, scratch.q);

        a.head0 = int(head0);
        score_run_pass<score_pass::rows   >(launch, p, a, heads);
        score_run_pass<score_pass::columns>(launch, p, a, heads);
    }

    const int threads = 256;
    launch(score_reduce, dim3(unsigned((s.n_kv + threads - 1) / threads)), dim3(threads),
        (const float *) scratch.partial, int(s.n_head * p.n_split), int(s.n_kv), p.n_kv_pad, out);
}
