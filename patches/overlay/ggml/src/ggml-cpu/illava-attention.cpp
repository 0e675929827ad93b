#include "illava-attention.h"

#include "illava-product-avx512.h"
#include "illava-product-tile.h"

#include "ggml-cpu.h"
#include "vec.h"

#include <algorithm>
#include <cmath>
#include <cstring>

// Keys and values of a head are unpacked once to f32 panels. Then, for a few queries at a time, come all
// their scores, the softmax of each row, and the sum of the values. A row's result depends on no other row:
// masked keys add zeros, and every sum goes in the order of the keys.

namespace illava::attention {

using namespace illava::product;

namespace {

// Queries whose scores stay in the second-level cache, a multiple of a tile's rows.
constexpr int queries = 48;

// Fewer queries are left to ggml, as its own tiles leave them to its vector kernel.
constexpr int64_t min_queries = 64;

// Keys at most: the scratch of a thread grows with them.
constexpr int64_t max_keys = 8192;

// Keys of one panel of values.
constexpr int64_t keys_apart = 512;

constexpr size_t alignment = 64;

size_t aligned(size_t bytes) {
    return GGML_PAD(bytes, alignment);
}

float parameter(const ggml_tensor * node, int i) {
    float value;
    memcpy(&value, (const float *) node->op_params + i, sizeof(value));
    return value;
}

struct plan {
    int64_t n_q, n_kv, d_k, d_v, n_head;
    int64_t padded; // keys, to whole panels
    size_t  keys, values, scores; // bytes of each part of a thread's scratch

    explicit plan(const ggml_tensor * node) {
        const ggml_tensor * q = node->src[0], * k = node->src[1], * v = node->src[2];
        n_q    = q->ne[1];
        n_kv   = k->ne[1];
        d_k    = k->ne[0];
        d_v    = v->ne[0];
        n_head = q->ne[2];
        padded = GGML_PAD(n_kv, columns_float);
        keys   = aligned(size_t(padded) * size_t(GGML_PAD(d_k, step)) * sizeof(float));
        values = aligned(size_t(n_kv) * size_t(GGML_PAD(d_v, 16)) * sizeof(float));
        scores = aligned(size_t(queries) * size_t(padded + 16) * sizeof(float));
    }

    size_t stride() const { return size_t(padded) + 16; } // of the scores
    size_t bytes() const { return keys + values + scores; }
};

// Vectors of the columns of values, in parts that are as even as can be.
struct columns {
    int n_parts, each; // vectors

    explicit columns(int64_t d_v) {
        const int vectors = int((d_v + 15) / 16), most = columns_float / 16;
        n_parts = (vectors + most - 1) / most;
        each    = (vectors + n_parts - 1) / n_parts;
    }
    int begin(int i) const { return i * each * 16; }
    int count(int i, int64_t d_v) const { return int(std::min<int64_t>(each * 16, d_v - begin(i))); }
};

#ifdef ILLAVA_AVX512

#define TARGET __attribute__((target(ILLAVA_TARGET_BASE)))

// Values [first, first + n) of some columns in f32: [n][vectors][16].
TARGET void pack_values(const ggml_tensor * v, const char * head, int64_t first, int64_t n, int begin, int count, float * panel) {
    const int vectors = (count + 15) / 16;
    for (int64_t i = 0; i < n; i++) {
        const auto * row = (const ggml_fp16_t *) (head + size_t(first + i) * v->nb[1]) + begin;
        for (int c = 0; c < vectors; c++) {
            const __mmask16 lanes = __mmask16(count - 16 * c >= 16 ? 0xffff : (1u << (count - 16 * c)) - 1);
            const __m256i halves = _mm256_maskz_loadu_epi16(lanes, row + 16 * c);
            _mm512_store_ps(panel + (size_t(i) * size_t(vectors) + size_t(c)) * 16, _mm512_cvtph_ps(halves));
        }
    }
}

// scores = scores * scale + mask, -inf behind n_kv; returns the largest.
TARGET float scale_and_mask(float * scores, const ggml_fp16_t * mask, float scale, int64_t n_kv, int64_t n) {
    __m512 largest = _mm512_set1_ps(-INFINITY);
    const __m512 by = _mm512_set1_ps(scale), none = _mm512_set1_ps(-INFINITY);
    for (int64_t i = 0; i < n; i += 16) {
        const __mmask16 lanes = __mmask16(n_kv - i >= 16 ? 0xffff : n_kv > i ? (1u << (n_kv - i)) - 1 : 0);
        __m512 x = _mm512_mul_ps(_mm512_loadu_ps(scores + i), by);
        if (mask) {
            x = _mm512_add_ps(x, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes, mask + i)));
        }
        x = _mm512_mask_blend_ps(lanes, none, x);
        _mm512_storeu_ps(scores + i, x);
        largest = _mm512_max_ps(largest, x);
    }
    return _mm512_reduce_max_ps(largest);
}

#else

void pack_values(const ggml_tensor *, const char *, int64_t, int64_t, int, int, float *) {}
float scale_and_mask(float *, const ggml_fp16_t *, float, int64_t, int64_t) { return 0; }

#endif

const ggml_fp16_t * mask_row(const ggml_tensor * mask, int64_t query) {
    return mask ? (const ggml_fp16_t *) ((const char *) mask->data + size_t(query) * mask->nb[1]) : nullptr;
}

// The first key behind all that some queries see, in whole panels.
int64_t keys_seen(const ggml_tensor * mask, int64_t first, int64_t n, const plan & p) {
    if (!mask) {
        return p.padded;
    }
    const ggml_fp16_t hidden = ggml_fp32_to_fp16(-INFINITY);
    int64_t seen = 0;
    for (int64_t i = 0; i < n; i++) {
        const ggml_fp16_t * row = mask_row(mask, first + i);
        int64_t end = p.n_kv;
        while (end > seen && row[end - 1] == hidden) {
            end--;
        }
        seen = std::max(seen, end);
    }
    return GGML_PAD(seen, columns_float);
}

void attend(const ggml_tensor * node, const plan & p, int64_t head, int64_t first, int n, char * scratch) {
    const ggml_tensor * q = node->src[0], * v = node->src[2], * mask = node->src[3];
    const float * keys   = (const float *) scratch;
    const float * values = (const float *) (scratch + p.keys);
    float *       scores = (float *) (scratch + p.keys + p.values);
    const size_t  stride = node->ne[0] * size_t(node->ne[1]);
    float *       out    = (float *) node->data + size_t(first) * stride + size_t(head * p.d_v);

    const int64_t seen = keys_seen(mask, first, n, p);
    const int64_t n_kv = std::min(seen, p.n_kv);
    const rows_f32 from = { (const float *) ((const char *) q->data + size_t(head) * q->nb[2] + size_t(first) * q->nb[1]), q->nb[1] / sizeof(float) };
    const size_t  panel = size_t(columns_float) * size_t(GGML_PAD(p.d_k, step));
    for (int64_t k = 0; k < seen; k += columns_float) {
        const int count = int(std::min<int64_t>(columns_float, p.n_kv - k));
        multiply_f32(from, n, { k, count, 0, int(p.d_k) }, keys + size_t(k / columns_float) * panel, { scores + k, p.stride(), false });
    }

    float share[queries];
    for (int i = 0; i < n; i++) {
        float * row = scores + size_t(i) * p.stride();
        const float largest = scale_and_mask(row, mask_row(mask, first + i), parameter(node, 0), p.n_kv, seen);
        if (largest == -INFINITY) { // a query that sees nothing
            std::fill_n(row, seen, 0.0f);
            share[i] = 0;
            continue;
        }
        share[i] = float(1.0 / ggml_vec_soft_max_f32(int(seen), row, row, largest));
    }

    const columns parts(p.d_v);
    const float * at = values;
    for (int c = 0; c < parts.n_parts; c++) {
        const int begin = parts.begin(c), count = parts.count(c, v->ne[0]), width = (count + 15) / 16 * 16;
        for (int64_t k = 0; k < n_kv; k += keys_apart) {
            const int keys_here = int(std::min(keys_apart, n_kv - k));
            multiply_f32({ scores + k, p.stride() }, n, { begin, count, k, keys_here }, at + size_t(k) * size_t(width),
                { out + begin, stride, k > 0 });
        }
        at += size_t(p.n_kv) * size_t(width);
    }
    for (int i = 0; i < n; i++) {
        float * row = out + size_t(i) * stride;
        if (n_kv == 0) {
            std::fill_n(row, p.d_v, 0.0f);
        }
        ggml_vec_scale_f32(int(p.d_v), row, share[i]);
    }
}

} // namespace

bool takes(const ggml_tensor * node) {
    if (node->op != GGML_OP_FLASH_ATTN_EXT || !has_bf16()) {
        return false;
    }
    const ggml_tensor * q = node->src[0], * k = node->src[1], * v = node->src[2], * mask = node->src[3];
    const bool types = q->type == GGML_TYPE_F32 && k->type == GGML_TYPE_F16 && v->type == GGML_TYPE_F16 && (!mask || mask->type == GGML_TYPE_F16);
    const bool rows  = q->nb[0] == sizeof(float) && q->nb[1] % sizeof(float) == 0 && k->nb[0] == 2 && v->nb[0] == 2 && ggml_is_contiguous(node);
    const bool shape = q->ne[3] == 1 && k->ne[3] == 1 && v->ne[3] == 1 && q->ne[1] >= min_queries && k->ne[1] <= max_keys && k->ne[0] >= step
        && v->ne[0] >= 16 && k->ne[0] <= 256 && v->ne[0] <= 256 && k->ne[2] == v->ne[2] && q->ne[2] % k->ne[2] == 0;
    const bool masked = !mask || (mask->ne[2] == 1 && mask->ne[3] == 1 && mask->nb[0] == 2 && mask->ne[1] >= q->ne[1] && mask->ne[0] >= k->ne[1]);
    // position biases, capped scores and sinks are rare enough for ggml
    return types && rows && shape && masked && parameter(node, 1) == 0.0f && parameter(node, 2) == 0.0f && !node->src[4];
}

size_t work_size(const ggml_tensor * node, int n_threads) {
    return alignment + plan(node).bytes() * size_t(n_threads);
}

void compute(const ggml_compute_params * params, ggml_tensor * node) {
    const plan p(node);
    const ggml_tensor * q = node->src[0], * k = node->src[1], * v = node->src[2];
    char * work = (char *) GGML_PAD((uintptr_t) params->wdata, alignment) + p.bytes() * size_t(params->ith);

    if (params->ith == 0) {
        ggml_threadpool_chunk_set(params->threadpool, params->nth);
    }
    ggml_barrier(params->threadpool);

    // Heads, and parts of their queries only if there are few heads for the threads.
    const int64_t wanted = params->nth == 1 ? 1 : (4 * params->nth + p.n_head - 1) / p.n_head;
    const int64_t blocks = (p.n_q + queries - 1) / queries;
    const int64_t parts  = std::max<int64_t>(1, std::min(wanted, blocks / 4));
    const int64_t apart  = (blocks + parts - 1) / parts * queries;

    for (int64_t chunk = params->ith; chunk < p.n_head * parts; chunk = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        const int64_t head = chunk / parts, first = chunk % parts * apart, end = std::min(first + apart, p.n_q);
        if (first >= end) {
            continue;
        }
        const int64_t head_kv = head / (q->ne[2] / k->ne[2]);
        const weights keys = { GGML_TYPE_F16, false, (const char *) k->data + size_t(head_kv) * k->nb[2], k->nb[1], p.n_kv, p.d_k };
        auto * panel = (float *) work;
        for (int64_t key = 0; key < p.n_kv; key += columns_float) {
            pack_panel_f32(keys, { key, int(std::min<int64_t>(columns_float, p.n_kv - key)), 0, int(p.d_k) }, panel);
            panel += size_t(columns_float) * size_t(GGML_PAD(p.d_k, step));
        }
        const columns split(p.d_v);
        auto * values = (float *) (work + p.keys);
        for (int c = 0; c < split.n_parts; c++) {
            const int count = split.count(c, p.d_v);
            pack_values(v, (const char *) v->data + size_t(head_kv) * v->nb[2], 0, p.n_kv, split.begin(c), count, values);
            values += size_t(p.n_kv) * size_t((count + 15) / 16 * 16);
        }
        for (int64_t query = first; query < end; query += queries) {
            attend(node, p, head, query, int(std::min<int64_t>(queries, end - query)), work);
        }
    }
}

} // namespace illava::attention
