#include "illava-attention-few.h"

#include "illava-product-avx2.h"

#include "ggml-cpu.h"
#include "vec.h"

#include <algorithm>
#include <cmath>
#include <cstring>

// The heads of queries that share their keys and values go through them together, so that each row is widened to f32 once
// for all of them. First come all scores of the keys that the query sees, then their softmax, then the sum of the values in
// registers, in the order of the keys. ggml sums values of f16 in f16, which a thousand keys make wrong by some 1e-3.

namespace illava::attention::few {

namespace {

// Heads that go through the keys together, at most: the scores of each have a row.
constexpr int64_t most_heads = 8;

// Heads and vectors of eight columns whose sums stay in registers.
constexpr int heads_scored = 4, heads_summed = 2, vectors_summed = 4;

constexpr size_t alignment = 64;

struct plan {
    int64_t n_q, n_kv, d_k, d_v, n_head_kv, group;
    int64_t blocks, heads; // a group's heads in so many blocks of `heads`

    plan(const ggml_tensor * node, int n_threads) {
        const ggml_tensor * q = node->src[0], * k = node->src[1], * v = node->src[2];
        n_q       = q->ne[1];
        n_kv      = k->ne[1];
        d_k       = k->ne[0];
        d_v       = v->ne[0];
        n_head_kv = k->ne[2];
        group     = q->ne[2] / n_head_kv;
        // two jobs a thread even out what they take
        const int64_t wanted = n_threads == 1 ? 1 : (2 * n_threads + n_q * n_head_kv - 1) / (n_q * n_head_kv);
        heads  = (group + std::min(wanted, group) - 1) / std::min(wanted, group);
        heads  = std::min(heads, most_heads);
        blocks = (group + heads - 1) / heads;
    }

    int64_t jobs() const { return n_head_kv * n_q * blocks; }

    // Scores of a head, and the number and bias of each key that is seen.
    size_t row() const { return size_t(GGML_PAD(n_kv, 16)); }
    size_t bytes() const { return GGML_PAD(row() * (size_t(most_heads) * sizeof(float) + sizeof(int32_t) + sizeof(float)), alignment); }
};

#ifdef ILLAVA_AVX512

#define TARGET __attribute__((target(ILLAVA_TARGET_AVX2)))

ILLAVA_INLINE_AVX2 __m256 widened(const ggml_fp16_t * halves) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) halves));
}

// The sums of the lanes of N vectors, one after the other.
template <int N>
ILLAVA_INLINE_AVX2 __m128 sums_of(const __m256 (&x)[N]) {
    const __m256 none  = _mm256_setzero_ps();
    const __m256 first = _mm256_hadd_ps(x[0], N > 1 ? x[N > 1] : none);
    const __m256 last  = N > 2 ? _mm256_hadd_ps(x[N > 2 ? 2 : 0], N > 3 ? x[N > 3 ? 3 : 0] : none) : none;
    const __m256 both  = _mm256_hadd_ps(first, last);
    return _mm_add_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps(both, 1));
}

// Keys that a row of the mask shows, with what it adds to their scores. Without a mask these are all.
TARGET int64_t list_keys(const ggml_fp16_t * mask, int64_t n_kv, int32_t * keys, float * bias) {
    if (!mask) {
        for (int64_t i = 0; i < n_kv; i++) {
            keys[i] = int32_t(i);
            bias[i] = 0.0f;
        }
        return n_kv;
    }
    int64_t n = 0;
    for (int64_t i = 0; i < n_kv; i++) {
        const float added = _cvtsh_ss(mask[i]);
        keys[n] = int32_t(i);
        bias[n] = added;
        n += added != -INFINITY;
    }
    return n;
}

// Rows of one head of the keys or of the values.
struct rows_f16 {
    const char * data;
    size_t       stride; // bytes

    const ggml_fp16_t * at(int64_t i) const { return (const ggml_fp16_t *) (data + size_t(i) * stride); }
};

// scores[h][i] = scale * (query h) . (key i) + bias[i], of N queries that lie `apart` values apart. Two keys at a time share
// what is read of the queries.
template <int N>
TARGET void score(const float * queries, size_t apart, const rows_f16 & k, int64_t d, const int32_t * keys, const float * bias,
                  int64_t n, float scale, float * scores, size_t stride) {
    for (int64_t i = 0; i < n; i += 2) {
        const int64_t numbers[2] = { i, std::min(i + 1, n - 1) };
        const ggml_fp16_t * pair[2] = { k.at(keys[numbers[0]]), k.at(keys[numbers[1]]) };
        __m256 sum[2][N];
        ILLAVA_UNROLL
        for (int h = 0; h < N; h++) {
            sum[0][h] = sum[1][h] = _mm256_setzero_ps();
        }
        for (int64_t c = 0; c < d; c += 8) {
            const __m256 x[2] = { widened(pair[0] + c), widened(pair[1] + c) };
            ILLAVA_UNROLL
            for (int h = 0; h < N; h++) {
                const __m256 query = _mm256_loadu_ps(queries + size_t(h) * apart + c);
                sum[0][h] = _mm256_fmadd_ps(x[0], query, sum[0][h]);
                sum[1][h] = _mm256_fmadd_ps(x[1], query, sum[1][h]);
            }
        }
        ILLAVA_UNROLL
        for (int j = 0; j < 2; j++) {
            float four[4];
            _mm_storeu_ps(four, _mm_fmadd_ps(sums_of(sum[j]), _mm_set1_ps(scale), _mm_set1_ps(bias[numbers[j]])));
            ILLAVA_UNROLL
            for (int h = 0; h < N; h++) {
                scores[size_t(h) * stride + size_t(numbers[j])] = four[h];
            }
        }
    }
}

// out[h][0, 8 V) = sum over i of shares[h][i] * value i, of N heads whose results lie `apart` values apart
template <int N, int V>
TARGET void sum_values(const float * shares, size_t stride, const rows_f16 & v, int64_t column, const int32_t * keys, int64_t n,
                       float * out, size_t apart) {
    __m256 sum[N][V];
    for (int h = 0; h < N; h++) {
        for (int c = 0; c < V; c++) {
            sum[h][c] = _mm256_setzero_ps();
        }
    }
    for (int64_t i = 0; i < n; i++) {
        const ggml_fp16_t * value = v.at(keys[i]) + column;
        __m256 x[V];
        ILLAVA_UNROLL
        for (int c = 0; c < V; c++) {
            x[c] = widened(value + 8 * c);
        }
        ILLAVA_UNROLL
        for (int h = 0; h < N; h++) {
            const __m256 share = _mm256_set1_ps(shares[size_t(h) * stride + size_t(i)]);
            ILLAVA_UNROLL
            for (int c = 0; c < V; c++) {
                sum[h][c] = _mm256_fmadd_ps(x[c], share, sum[h][c]);
            }
        }
    }
    for (int h = 0; h < N; h++) {
        for (int c = 0; c < V; c++) {
            _mm256_storeu_ps(out + size_t(h) * apart + 8 * c, sum[h][c]);
        }
    }
}

template <int N>
void sum_columns(const float * shares, size_t stride, const rows_f16 & v, int64_t d, const int32_t * keys, int64_t n, float * out, size_t apart) {
    constexpr int64_t wide = 8 * vectors_summed;
    int64_t c = 0;
    for (; c + wide <= d; c += wide) {
        sum_values<N, vectors_summed>(shares, stride, v, c, keys, n, out + c, apart);
    }
    for (; c < d; c += 8) {
        sum_values<N, 1>(shares, stride, v, c, keys, n, out + c, apart);
    }
}

// Heads [first, first + n) of the node's queries, which share a head of keys, at one query.
void attend(const ggml_tensor * node, const plan & p, int64_t head, int64_t n, int64_t query, char * scratch) {
    const ggml_tensor * q = node->src[0], * k = node->src[1], * v = node->src[2], * mask = node->src[3];
    const int64_t  head_kv = head / p.group;
    const size_t   stride  = p.row();
    float *        scores  = (float *) scratch;
    int32_t *      keys    = (int32_t *) (scores + size_t(most_heads) * stride);
    float *        bias    = (float *) (keys + stride);
    const rows_f16 k_rows  = { (const char *) k->data + size_t(head_kv) * k->nb[2], k->nb[1] };
    const rows_f16 v_rows  = { (const char *) v->data + size_t(head_kv) * v->nb[2], v->nb[1] };
    const float *  queries = (const float *) ((const char *) q->data + size_t(head) * q->nb[2] + size_t(query) * q->nb[1]);
    const size_t   apart   = q->nb[2] / sizeof(float);
    float *        out     = (float *) node->data + (size_t(query) * size_t(node->ne[1]) + size_t(head)) * size_t(p.d_v);
    const auto *   seen    = mask ? (const ggml_fp16_t *) ((const char *) mask->data + size_t(query) * mask->nb[1]) : nullptr;
    float scale;
    memcpy(&scale, node->op_params, sizeof(scale));

    const int64_t n_seen = list_keys(seen, p.n_kv, keys, bias);
    if (n_seen == 0) {
        std::fill_n(out, n * p.d_v, 0.0f);
        return;
    }
    for (int64_t h = 0; h < n; h += heads_scored) {
        using function = decltype(&score<1>);
        constexpr function by_count[heads_scored] = { score<1>, score<2>, score<3>, score<4> };
        by_count[std::min<int64_t>(heads_scored, n - h) - 1](queries + size_t(h) * apart, apart, k_rows, p.d_k, keys, bias, n_seen, scale,
            scores + size_t(h) * stride, stride);
    }
    float share[most_heads];
    for (int64_t h = 0; h < n; h++) {
        float * row = scores + size_t(h) * stride;
        share[h] = float(1.0 / ggml_vec_soft_max_f32(int(n_seen), row, row, *std::max_element(row, row + n_seen)));
    }
    for (int64_t h = 0; h < n; h += heads_summed) {
        const auto sum = h + 1 < n ? sum_columns<2> : sum_columns<1>;
        sum(scores + size_t(h) * stride, stride, v_rows, p.d_v, keys, n_seen, out + h * p.d_v, size_t(p.d_v));
    }
    for (int64_t h = 0; h < n; h++) {
        ggml_vec_scale_f32(int(p.d_v), out + h * p.d_v, share[h]);
    }
}

#else

void attend(const ggml_tensor *, const plan &, int64_t, int64_t, int64_t, char *) {
    GGML_ABORT("no kernels for this processor");
}

#endif

} // namespace

bool takes(const ggml_tensor * node, int n_threads) {
    const plan p(node, n_threads);
    // ggml divides the keys of one query among threads: better for more of them than there are heads
    return p.d_k % 8 == 0 && p.d_v % 8 == 0 && node->src[0]->nb[2] % sizeof(float) == 0 && (n_threads == 1 || p.jobs() >= n_threads);
}

size_t work_size(const ggml_tensor * node, int n_threads) {
    return alignment + plan(node, n_threads).bytes() * size_t(n_threads);
}

void compute(const ggml_compute_params * params, ggml_tensor * node) {
    const plan p(node, params->nth);
    char * work = (char *) GGML_PAD((uintptr_t) params->wdata, alignment) + p.bytes() * size_t(params->ith);

    if (params->ith == 0) {
        ggml_threadpool_chunk_set(params->threadpool, params->nth);
    }
    ggml_barrier(params->threadpool);

    for (int64_t job = params->ith; job < p.jobs(); job = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        const int64_t block = job % p.blocks, head_kv = job / p.blocks % p.n_head_kv, query = job / p.blocks / p.n_head_kv;
        const int64_t first = block * p.heads, n = std::min(p.heads, p.group - first);
        if (n > 0) {
            attend(node, p, head_kv * p.group + first, n, query, work);
        }
    }
}

} // namespace illava::attention::few
