// The attention-received score on the CPU: fused and streaming.
//
// The unit of work is an item, a query head and a range of its queries. The item's thread takes a block of
// queries at a time and computes the logits against all keys: a register-blocked product with the keys of the
// head packed into panels. It turns each row into its softmax and adds it to the item's own column sums. At
// the end the items' sums are added up. Only the rows of one block exist at any time, never a map of n_q x
// n_kv.
//
// Two properties that callers rely on:
// - The result does not depend on the number of threads. Items are cut by shape alone, each is
//   computed by one thread from start to end, and their sums are added in item order.
// - Equal keys get equal scores, bit for bit, wherever they stand. Every column goes through the same
//   vector code: rows are padded to whole panels, so that no key falls into a scalar remainder.

#include "illava-score.h"

#include "ggml-cpu-impl.h"
#include "ggml-cpu.h"
#include "ops.h"
#include "simd-mappings.h"
#include "vec.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

// The vector of this build: ggml's own mapping where it can stand in an array. SVE's and RISC-V's
// cannot; every SVE machine has NEON too, on RISC-V the plain loops remain.
#if defined(__ARM_NEON) && defined(__aarch64__)
#define SCORE_VEC
using vec = float32x4_t;
inline vec  vec_set(float x)               { return vdupq_n_f32(x); }
inline vec  vec_load(const float * p)      { return vld1q_f32(p); }
inline void vec_store(float * p, vec x)    { vst1q_f32(p, x); }
inline vec  vec_add(vec a, vec b)          { return vaddq_f32(a, b); }
inline vec  vec_fma(vec acc, vec a, vec b) { return vfmaq_f32(acc, a, b); }
#elif defined(GGML_SIMD) && !defined(__riscv_v_intrinsic)
#define SCORE_VEC
using vec = GGML_F32_VEC;
inline vec  vec_set(float x)               { return GGML_F32_VEC_SET1(x); }
inline vec  vec_load(const float * p)      { return GGML_F32_VEC_LOAD(p); }
inline void vec_store(float * p, vec x)    { GGML_F32_VEC_STORE(p, x); }
inline vec  vec_add(vec a, vec b)          { return GGML_F32_VEC_ADD(a, b); }
inline vec  vec_fma(vec acc, vec a, vec b) { return GGML_F32_VEC_FMA(acc, a, b); }
#endif

// Maximum and exponential, where vec.h has the latter for this vector; elsewhere ggml's own loop over
// a row takes its place.
#if defined(__AVX512F__) && defined(__AVX512DQ__)
#define SCORE_VEC_EXP
inline vec vec_max(vec a, vec b) { return _mm512_max_ps(a, b); }
#elif defined(__AVX2__) && defined(__FMA__) && !defined(__AVX512F__)
#define SCORE_VEC_EXP
inline vec vec_max(vec a, vec b) { return _mm256_max_ps(a, b); }
#elif defined(__ARM_NEON) && defined(__aarch64__) && !defined(__ARM_FEATURE_SVE)
#define SCORE_VEC_EXP
inline vec vec_max(vec a, vec b) { return vmaxq_f32(a, b); }
#endif

#ifdef SCORE_VEC
constexpr int lanes = sizeof(vec) / sizeof(float);
#else
constexpr int lanes = 8;
#endif

// A tile of the product is tile_q queries by tile_v vectors of keys, sized to the register file.
#if defined(__AVX512F__)
constexpr int tile_q = 12, tile_v = 2;
#elif defined(__ARM_NEON) && defined(__aarch64__)
constexpr int tile_q = 6, tile_v = 4;
#elif defined(__AVX__)
constexpr int tile_q = 6, tile_v = 2;
#else
constexpr int tile_q = 4, tile_v = 2;
#endif

constexpr int panel = tile_v * lanes; // keys per packed panel

struct layout {
    int64_t d, n_q, n_head, n_kv, group;
    int64_t n_pad;   // keys rounded up to whole panels
    int64_t block_q; // queries whose logits exist at once, a multiple of tile_q
    int64_t range_q; // queries per item, a multiple of block_q
    int64_t n_range; // items per head
    int64_t n_item;

    // work buffer, in floats: the items' column sums, then one scratch per thread
    int64_t sums;
    int64_t keys, queries, logits, row;
    int64_t scratch;
};

int64_t round_up(int64_t x, int64_t to) {
    return (x + to - 1) / to * to;
}

layout make_layout(const ggml_tensor * dst) {
    const ggml_tensor * q = dst->src[0];
    const ggml_tensor * k = dst->src[1];

    layout p;
    p.d      = q->ne[0];
    p.n_q    = q->ne[1];
    p.n_head = q->ne[2];
    p.n_kv   = k->ne[1];
    p.group  = q->ne[2] / k->ne[2];
    p.n_pad  = round_up(p.n_kv, panel);

    // The logits of a block stay in the second-level cache.
    const int64_t cache_floats = 64 * 1024;
    p.block_q = tile_q * std::min<int64_t>(4, std::max<int64_t>(1, cache_floats / (tile_q * p.n_pad)));

    // About 32 items, so that 8 threads end together, but ranges long enough to pay for packing the
    // head's keys once per item.
    const int64_t want = (32 + p.n_head - 1) / p.n_head;
    const int64_t most = std::max<int64_t>(1, p.n_q / 96);
    p.range_q = round_up((p.n_q + std::min(want, most) - 1) / std::min(want, most), p.block_q);
    p.n_range = (p.n_q + p.range_q - 1) / p.range_q;
    p.n_item  = p.n_head * p.n_range;

    const int64_t line = 16;
    p.sums    = p.n_item * p.n_pad;
    p.keys    = round_up(p.n_pad * p.d, line);
    p.queries = round_up(p.block_q * p.d, line);
    p.logits  = p.block_q * p.n_pad;
    p.row     = round_up(std::max(p.n_pad, p.d), line);
    p.scratch = p.keys + p.queries + p.logits + p.row;
    return p;
}

// Keys of one head as panels: [n_pad / panel][d][panel], zeros after the last key.
void pack_keys(const layout & p, const ggml_tensor * k, int64_t head_kv, float * keys, float * row) {
    const ggml_to_float_t to_float = ggml_get_type_traits(k->type)->to_float;

    for (int64_t i0 = 0; i0 < p.n_pad; i0 += panel) {
        float * out = keys + i0 * p.d;
        for (int64_t r = 0; r < panel; r++) {
            if (i0 + r >= p.n_kv) {
                for (int64_t c = 0; c < p.d; c++) {
                    out[c * panel + r] = 0.0f;
                }
                continue;
            }
            const char *  src = (const char *) k->data + (i0 + r) * k->nb[1] + head_kv * k->nb[2];
            const float * val = row;
            switch (k->type) {
                case GGML_TYPE_F32:  val = (const float *) src; break;
                case GGML_TYPE_F16:  ggml_cpu_fp16_to_fp32((const ggml_fp16_t *) src, row, p.d); break;
                case GGML_TYPE_BF16: ggml_cpu_bf16_to_fp32((const ggml_bf16_t *) src, row, p.d); break;
                default:             to_float(src, row, p.d); break;
            }
            for (int64_t c = 0; c < p.d; c++) {
                out[c * panel + r] = val[c];
            }
        }
    }
}

// Scaled queries of one block as tiles: [block_q / tile_q][d][tile_q], zeros after the last query.
void pack_queries(const layout & p, const ggml_tensor * q, int64_t head, int64_t j0, int64_t n, float scale, float * queries) {
    for (int64_t t = 0; t < round_up(n, tile_q); t++) {
        float * out = queries + t / tile_q * tile_q * p.d + t % tile_q;
        if (t >= n) {
            for (int64_t c = 0; c < p.d; c++) {
                out[c * tile_q] = 0.0f;
            }
            continue;
        }
        const float * val = (const float *) ((const char *) q->data + (j0 + t) * q->nb[1] + head * q->nb[2]);
        for (int64_t c = 0; c < p.d; c++) {
            out[c * tile_q] = scale * val[c];
        }
    }
}

// out[tile_q][panel], rows n_pad apart: one tile of queries against one panel of keys.
void multiply_tile(const float * queries, const float * keys, int64_t d, float * out, int64_t n_pad) {
#ifdef SCORE_VEC
    vec acc[tile_q][tile_v];
    for (int j = 0; j < tile_q; j++) {
        for (int v = 0; v < tile_v; v++) {
            acc[j][v] = vec_set(0.0f);
        }
    }
    for (int64_t c = 0; c < d; c++) {
        vec key[tile_v];
        for (int v = 0; v < tile_v; v++) {
            key[v] = vec_load(keys + c * panel + v * lanes);
        }
        for (int j = 0; j < tile_q; j++) {
            const vec x = vec_set(queries[c * tile_q + j]);
            for (int v = 0; v < tile_v; v++) {
                acc[j][v] = vec_fma(acc[j][v], key[v], x);
            }
        }
    }
    for (int j = 0; j < tile_q; j++) {
        for (int v = 0; v < tile_v; v++) {
            vec_store(out + j * n_pad + v * lanes, acc[j][v]);
        }
    }
#else
    float acc[tile_q][panel] = {};
    for (int64_t c = 0; c < d; c++) {
        for (int j = 0; j < tile_q; j++) {
            for (int i = 0; i < panel; i++) {
                acc[j][i] += queries[c * tile_q + j] * keys[c * panel + i];
            }
        }
    }
    for (int j = 0; j < tile_q; j++) {
        memcpy(out + j * n_pad, acc[j], sizeof(acc[j]));
    }
#endif
}

// n a multiple of panel.
float max_row(const float * x, int64_t n) {
    float part[panel];
#ifdef SCORE_VEC_EXP
    vec max[tile_v];
    for (int v = 0; v < tile_v; v++) {
        max[v] = vec_set(-INFINITY);
    }
    for (int64_t i = 0; i < n; i += panel) {
        for (int v = 0; v < tile_v; v++) {
            max[v] = vec_max(max[v], vec_load(x + i + v * lanes));
        }
    }
    for (int v = 0; v < tile_v; v++) {
        vec_store(part + v * lanes, max[v]);
    }
#else
    std::fill(part, part + panel, -INFINITY);
    for (int64_t i = 0; i < n; i += panel) {
        for (int l = 0; l < panel; l++) {
            part[l] = part[l] < x[i + l] ? x[i + l] : part[l];
        }
    }
#endif
    return *std::max_element(part, part + panel);
}

// x[i] <- exp(x[i] - max), n a multiple of panel; returns their sum.
float exp_row(float * x, int64_t n, float max) {
#ifdef SCORE_VEC_EXP
    const vec shift = vec_set(-max);
    vec sum[tile_v];
    for (int v = 0; v < tile_v; v++) {
        sum[v] = vec_set(0.0f);
    }
    for (int64_t i = 0; i < n; i += panel) {
        for (int v = 0; v < tile_v; v++) {
            const vec e = ggml_v_expf(vec_add(vec_load(x + i + v * lanes), shift));
            vec_store(x + i + v * lanes, e);
            sum[v] = vec_add(sum[v], e);
        }
    }
    float part[panel];
    for (int v = 0; v < tile_v; v++) {
        vec_store(part + v * lanes, sum[v]);
    }
    double total = 0.0;
    for (int i = 0; i < panel; i++) {
        total += part[i];
    }
    return float(total);
#else
    return float(ggml_vec_soft_max_f32(int(n), x, x, max));
#endif
}

// sums[i] += x[i] * factor, n a multiple of panel.
void add_scaled(float * sums, const float * x, int64_t n, float factor) {
#ifdef SCORE_VEC
    const vec f = vec_set(factor);
    for (int64_t i = 0; i < n; i += lanes) {
        vec_store(sums + i, vec_fma(vec_load(sums + i), vec_load(x + i), f));
    }
#else
    for (int64_t i = 0; i < n; i++) {
        sums[i] += x[i] * factor;
    }
#endif
}

// Adds the softmax of one row of logits to the column sums. `row` is scratch for the mask.
void add_softmax(const layout & p, float * x, const ggml_tensor * mask, int64_t j, float * row, float * sums) {
    if (mask) {
        const char *  src = (const char *) mask->data + j * mask->nb[1];
        const float * val = (const float *) src;
        if (mask->type == GGML_TYPE_F16) {
            ggml_cpu_fp16_to_fp32((const ggml_fp16_t *) src, row, p.n_kv);
            val = row;
        }
        ggml_vec_add_f32(int(p.n_kv), x, x, val);
    }
    std::fill(x + p.n_kv, x + p.n_pad, -INFINITY);

    const float max = max_row(x, p.n_pad);
    if (max == -INFINITY) {
        return; // sees nothing
    }

    const float sum = exp_row(x, p.n_pad, max);
    add_scaled(sums, x, p.n_pad, 1.0f / sum);
}

} // namespace

size_t ggml_attn_score_work_size(const ggml_tensor * dst, int n_tasks) {
    const layout p = make_layout(dst);
    return sizeof(float) * size_t(p.sums + p.scratch * n_tasks) + CACHE_LINE_SIZE;
}

void ggml_compute_forward_attn_score(const ggml_compute_params * params, ggml_tensor * dst) {
    const ggml_tensor * q    = dst->src[0];
    const ggml_tensor * k    = dst->src[1];
    const ggml_tensor * mask = dst->src[2];

    float scale;
    memcpy(&scale, dst->op_params, sizeof(scale));

    const layout p = make_layout(dst);

    float * all_sums = (float *) (((uintptr_t) params->wdata + CACHE_LINE_SIZE - 1) / CACHE_LINE_SIZE * CACHE_LINE_SIZE);
    float * keys     = all_sums + p.sums + params->ith * p.scratch;
    float * queries  = keys     + p.keys;
    float * logits   = queries  + p.queries;
    float * row      = logits   + p.logits;

    if (params->ith == 0) {
        ggml_threadpool_chunk_set(params->threadpool, params->nth);
    }
    ggml_barrier(params->threadpool);

    int64_t packed = -1;
    for (int64_t item = params->ith; item < p.n_item; item = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        const int64_t head  = item / p.n_range;
        const int64_t begin = item % p.n_range * p.range_q;
        const int64_t end   = std::min(begin + p.range_q, p.n_q);

        if (packed != head / p.group) {
            packed = head / p.group;
            pack_keys(p, k, packed, keys, row);
        }

        float * sums = all_sums + item * p.n_pad;
        std::fill(sums, sums + p.n_pad, 0.0f);

        for (int64_t j0 = begin; j0 < end; j0 += p.block_q) {
            const int64_t n = std::min(p.block_q, end - j0);
            pack_queries(p, q, head, j0, n, scale, queries);

            for (int64_t i0 = 0; i0 < p.n_pad; i0 += panel) {
                for (int64_t t = 0; t < n; t += tile_q) {
                    multiply_tile(queries + t * p.d, keys + i0 * p.d, p.d, logits + t * p.n_pad + i0, p.n_pad);
                }
            }
            for (int64_t t = 0; t < n; t++) {
                add_softmax(p, logits + t * p.n_pad, mask, j0 + t, row, sums);
            }
        }
    }
    ggml_barrier(params->threadpool);

    const int64_t per_thread = round_up((p.n_kv + params->nth - 1) / params->nth, 16);
    const int64_t first      = std::min(p.n_kv, params->ith * per_thread);
    const int64_t last       = std::min(p.n_kv, first + per_thread);

    float * out = (float *) dst->data;
    for (int64_t i = first; i < last; i++) {
        double sum = 0.0;
        for (int64_t item = 0; item < p.n_item; item++) {
            sum += all_sums[item * p.n_pad + i];
        }
        out[i] = float(sum);
    }
}
