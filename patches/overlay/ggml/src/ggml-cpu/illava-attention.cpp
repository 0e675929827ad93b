#include "illava-attention.h"

#include "illava-attention-few.h"
#include "illava-product-avx2.h"
#include "illava-product-tile.h"

#include "ggml-cpu.h"
#include "ggml-illava.h"
#include "vec.h"

#include <algorithm>
#include <cmath>
#include <cstring>

// A stretch of a head's keys and values is unpacked to panels, of f32 or, in an encoder whose products are, of bf16. Then,
// for a few queries at a time, come all their scores, the softmax of each row, and the sum of the values. A row's sums over
// the stretches before are scaled to its largest score so far, as flash attention does. A row's result depends on no other
// row: masked keys add zeros, and every sum goes in the order of the keys.

namespace illava::attention {

using namespace illava::product;

namespace {

// Queries whose scores stay in the second-level cache, a multiple of a tile's rows.
constexpr int queries = 48;

// Fewer queries are illava-attention-few.h's.
constexpr int64_t min_queries = 64;

// Keys of a stretch: a thread's scratch grows with them.
constexpr int64_t stretch = 2048;

// Keys of one panel of values.
constexpr int64_t keys_apart = 512;

constexpr size_t alignment = 64;

bool is_few(const ggml_tensor * node) {
    return node->src[0]->ne[1] < min_queries;
}

size_t aligned(size_t bytes) {
    return GGML_PAD(bytes, alignment);
}

float parameter(const ggml_tensor * node, int i) {
    float value;
    memcpy(&value, (const float *) node->op_params + i, sizeof(value));
    return value;
}

// Keys [first, end).
struct range {
    int64_t first, end;

    int64_t size() const { return end - first; }
};

// The keys that a query's sum of values has met so far.
struct row_state {
    float      largest; // score
    ggml_float sum;     // of the shares, relative to it
};

struct plan {
    int64_t n_q, n_kv, d_k, d_v, n_head;
    int64_t most;   // keys of a stretch
    int64_t padded; // the same, to whole panels
    size_t  keys, values, scores, packed, states; // bytes of each part of a thread's scratch
    size_t  seen; // bytes of what all threads read

    explicit plan(const ggml_tensor * node) {
        const ggml_tensor * q = node->src[0], * k = node->src[1], * v = node->src[2];
        n_q    = q->ne[1];
        n_kv   = k->ne[1];
        d_k    = k->ne[0];
        d_v    = v->ne[0];
        n_head = q->ne[2];
        most   = std::min(n_kv, stretch);
        padded = GGML_PAD(most, columns_float);
        keys   = aligned(size_t(padded) * size_t(GGML_PAD(d_k, step)) * sizeof(float));
        values = aligned(size_t(most) * size_t(GGML_PAD(d_v, 16)) * sizeof(float));
        scores = aligned(size_t(queries) * size_t(padded + 16) * sizeof(float));
        packed = illava_attention_in_bf16(node) ? aligned(size_t(queries) * packed_stride() * sizeof(uint16_t)) : 0;
        states = aligned(size_t(n_q) * sizeof(row_state));
        seen   = aligned(size_t(blocks()) * sizeof(range));
    }

    size_t stride() const { return size_t(padded) + 16; } // of the scores
    size_t packed_stride() const { return size_t(GGML_PAD(std::max(padded, d_k), step)) + step; } // of queries and shares in bf16
    size_t bytes() const { return keys + values + scores + packed + states; }
    int64_t blocks() const { return (n_q + queries - 1) / queries; }
};

// Vectors of the columns of values, in parts that are as even as can be.
struct columns {
    int n_parts, each; // vectors

    // `most` vectors at a time
    columns(int64_t d_v, int most) {
        const int vectors = int((d_v + 15) / 16);
        n_parts = (vectors + most - 1) / most;
        each    = (vectors + n_parts - 1) / n_parts;
    }
    int begin(int i) const { return i * each * 16; }
    int count(int i, int64_t d_v) const { return int(std::min<int64_t>(each * 16, d_v - begin(i))); }
};

// Values [first, first + n) of `count` columns from `begin` on, as a panel of f32.
struct value_part {
    const ggml_tensor * v;
    const char *        head;
    int64_t             first, n;
    int                 begin, count;

    const ggml_fp16_t * row(int64_t i) const { return (const ggml_fp16_t *) (head + size_t(first + i) * v->nb[1]) + begin; }
};

// Rows as a kernel multiplies them: f32 or bf16, `stride` values apart.
struct operand {
    const void * values;
    size_t       stride;
};

// The code of one instruction set.
struct kernels {
    int vectors; // of values that are multiplied at once
    int keys_a_row; // of a panel of values
    void (*pack_row)(const float *, int64_t, uint16_t *); // to bf16; null if rows stay as they are
    void (*pack_keys)(const weights &, const part &, void *);
    void (*pack_values)(const value_part &, float *);
    // The inputs of the rows from number part.input on.
    void (*multiply)(const operand &, int, const part &, const void *, const target &);
    // scores = scores * scale + mask, -inf behind n_kv; returns the largest.
    float (*scale_and_mask)(float * scores, const ggml_fp16_t * mask, float scale, int64_t n_kv, int64_t n);

    // The rows for multiply(), from `packed` if they have to be packed there.
    operand prepare(const rows_f32 & rows, int n, int64_t inputs, uint16_t * packed, size_t stride) const {
        if (!pack_row) {
            return { rows.values, rows.stride };
        }
        for (int i = 0; i < n; i++) {
            pack_row(rows.values + size_t(i) * rows.stride, inputs, packed + size_t(i) * stride);
        }
        return { packed, stride };
    }
};

template <void (*by)(const rows_f32 &, int, const part &, const void *, const target &)>
void multiply_plain(const operand & rows, int n, const part & p, const void * panel, const target & to) {
    by({ (const float *) rows.values + p.input, rows.stride }, n, p, panel, to);
}

void multiply_packed(const operand & rows, int n, const part & p, const void * panel, const target & to) {
    multiply_bf16({ (const uint16_t *) rows.values + p.input, rows.stride }, n, p, panel, to);
}

void pack_keys_bf16(const weights & w, const part & p, void * panel) {
    pack_panel_bf16(w, p, panel, nullptr, /*rounded =*/ true);
}

#ifdef ILLAVA_AVX512

#define TARGET __attribute__((target(ILLAVA_TARGET_BASE)))
#define TARGET_AVX2 __attribute__((target(ILLAVA_TARGET_AVX2)))

// [n][vectors][16]
TARGET void pack_values_avx512(const value_part & p, float * panel) {
    const int vectors = (p.count + 15) / 16;
    for (int64_t i = 0; i < p.n; i++) {
        for (int c = 0; c < vectors; c++) {
            const __m256i halves = _mm256_maskz_loadu_epi16(first_lanes(p.count - 16 * c), p.row(i) + 16 * c);
            _mm512_store_ps(panel + (size_t(i) * size_t(vectors) + size_t(c)) * 16, _mm512_cvtph_ps(halves));
        }
    }
}

// Two keys a word: [n / 2][vectors][16]
__attribute__((target(ILLAVA_TARGET_BASE ",avx512bf16"))) void pack_values_bf16(const value_part & p, float * panel) {
    const int vectors = (p.count + 15) / 16;
    const auto values = [&](int64_t i, int c) __attribute__((target(ILLAVA_TARGET_BASE ",avx512bf16"))) {
        const __mmask16 lanes = i < p.n ? first_lanes(p.count - 16 * c) : 0;
        const __m512 wide = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes, p.row(i) + 16 * c));
        return _mm512_cvtepu16_epi32((__m256i) _mm512_cvtneps_pbh(wide));
    };
    for (int64_t i = 0; i < p.n; i += 2) {
        for (int c = 0; c < vectors; c++) {
            const __m512i both = _mm512_or_si512(values(i, c), _mm512_slli_epi32(values(i + 1, c), 16));
            _mm512_store_si512(panel + (size_t(i / 2) * size_t(vectors) + size_t(c)) * 16, both);
        }
    }
}

// [n][16]
TARGET_AVX2 void pack_values_avx2(const value_part & p, float * panel) {
    for (int64_t i = 0; i < p.n; i++) {
        ggml_fp16_t halves[16] = {};
        memcpy(halves, p.row(i), size_t(p.count) * sizeof(ggml_fp16_t));
        for (int half = 0; half < 16; half += 8) {
            _mm256_store_ps(panel + i * 16 + half, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) (halves + half))));
        }
    }
}

TARGET float scale_and_mask_avx512(float * scores, const ggml_fp16_t * mask, float scale, int64_t n_kv, int64_t n) {
    __m512 largest = _mm512_set1_ps(-INFINITY);
    const __m512 by = _mm512_set1_ps(scale), none = _mm512_set1_ps(-INFINITY);
    for (int64_t i = 0; i < n; i += 16) {
        const __mmask16 lanes = first_lanes(n_kv - i);
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

TARGET_AVX2 float scale_and_mask_avx2(float * scores, const ggml_fp16_t * mask, float scale, int64_t n_kv, int64_t n) {
    float most[8];
    __m256 largest = _mm256_set1_ps(-INFINITY);
    const __m256 by = _mm256_set1_ps(scale), none = _mm256_set1_ps(-INFINITY);
    for (int64_t i = 0; i < n; i += 8) {
        const int64_t count = std::clamp<int64_t>(n_kv - i, 0, 8);
        __m256 x = _mm256_mul_ps(_mm256_loadu_ps(scores + i), by);
        if (mask) {
            ggml_fp16_t halves[8] = {};
            memcpy(halves, mask + i, size_t(count) * sizeof(ggml_fp16_t));
            x = _mm256_add_ps(x, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) halves)));
        }
        x = _mm256_blendv_ps(none, x, _mm256_castsi256_ps(first_lanes_avx2(count)));
        _mm256_storeu_ps(scores + i, x);
        largest = _mm256_max_ps(largest, x);
    }
    _mm256_storeu_ps(most, largest);
    return *std::max_element(most, most + 8);
}

const kernels & own(const ggml_tensor * node) {
    static const kernels bf16   = { columns_float / 16, 2, pack_row_bf16, pack_keys_bf16, pack_values_bf16, multiply_packed, scale_and_mask_avx512 };
    static const kernels avx512 = { columns_float / 16, 1, nullptr, pack_panel_f32, pack_values_avx512, multiply_plain<multiply_f32>, scale_and_mask_avx512 };
    static const kernels avx2   = { 1, 1, nullptr, pack_panel_avx2, pack_values_avx2, multiply_plain<multiply_avx2>, scale_and_mask_avx2 };
    return !has_bf16() ? avx2 : illava_attention_in_bf16(node) ? bf16 : avx512;
}

#else

const kernels & own(const ggml_tensor *) {
    static const kernels none = {};
    return none;
}

#endif

const ggml_fp16_t * mask_row(const ggml_tensor * mask, int64_t query) {
    return mask ? (const ggml_fp16_t *) ((const char *) mask->data + size_t(query) * mask->nb[1]) : nullptr;
}

// How many keys from `first` on, in steps of `by`, a row of a mask hides, at most `most`.
int64_t keys_hidden(const ggml_fp16_t * first, int by, int64_t most) {
    const ggml_fp16_t hidden = ggml_fp32_to_fp16(-INFINITY);
    ggml_fp16_t many[16];
    std::fill_n(many, 16, hidden);
    int64_t n = 0;
    while (most - n >= 16 && memcmp(by > 0 ? first + n : first - n - 15, many, sizeof(many)) == 0) {
        n += 16;
    }
    while (n < most && first[by * n] == hidden) {
        n++;
    }
    return n;
}

// From the first to the last key that some queries see: those of one window, or all up to the queries' own.
range keys_seen(const ggml_tensor * mask, int64_t first, int64_t n, int64_t n_kv) {
    if (!mask) {
        return { 0, n_kv };
    }
    range seen = { n_kv, 0 };
    for (int64_t i = n - 1; i >= 0; i--) { // of a causal mask the last query sees most
        const ggml_fp16_t * row = mask_row(mask, first + i);
        seen.end   = n_kv - keys_hidden(row + n_kv - 1, -1, n_kv - seen.end);
        seen.first = keys_hidden(row, 1, seen.first);
    }
    return seen.end == 0 ? range{ 0, 0 } : seen;
}

// Adds the values of the keys `here`, a stretch, to the results of `n` queries from `first` on, which see the keys `seen`.
void attend(const ggml_tensor * node, const plan & p, const kernels & own, int64_t head, int64_t first, int n, const range & here,
    const range & seen, row_state * state, char * scratch) {
    const ggml_tensor * q = node->src[0], * v = node->src[2], * mask = node->src[3];
    const float * keys   = (const float *) scratch;
    const float * values = (const float *) (scratch + p.keys);
    uint16_t *    packed = (uint16_t *) (scratch + p.keys + p.values + p.scores);
    const size_t  stride = node->ne[0] * size_t(node->ne[1]);
    float *       out    = (float *) node->data + size_t(first) * stride + size_t(head * p.d_v);

    // Whole panels of the stretch, counted from its first key.
    const int64_t begin = std::max<int64_t>(seen.first - here.first, 0) / columns_float * columns_float;
    const int64_t end   = std::min<int64_t>(GGML_PAD(std::max<int64_t>(seen.end - here.first, 0), columns_float), here.size());
    const bool    add   = here.first > 0;
    if (end <= begin) {
        for (int i = 0; i < n && !add; i++) {
            std::fill_n(out + size_t(i) * stride, p.d_v, 0.0f);
            state[i] = { -INFINITY, 0 };
        }
        return;
    }
    float * scores = (float *) (scratch + p.keys + p.values) + begin;
    const int64_t n_keys = end - begin, padded = GGML_PAD(n_keys, columns_float);
    const rows_f32 plain = { (const float *) ((const char *) q->data + size_t(head) * q->nb[2] + size_t(first) * q->nb[1]), q->nb[1] / sizeof(float) };
    const operand from  = own.prepare(plain, n, p.d_k, packed, p.packed_stride());
    const size_t  panel = size_t(columns_float) * size_t(GGML_PAD(p.d_k, step));
    for (int64_t k = 0; k < padded; k += columns_float) {
        const int count = int(std::min<int64_t>(columns_float, here.size() - begin - k));
        own.multiply(from, n, { begin + k, count, 0, int(p.d_k) }, keys + size_t((begin + k) / columns_float) * panel, { scores + k, p.stride(), false });
    }

    for (int i = 0; i < n; i++) {
        float * row = scores + size_t(i) * p.stride();
        const ggml_fp16_t * shown = mask ? mask_row(mask, first + i) + here.first + begin : nullptr;
        const row_state before = add ? state[i] : row_state{ -INFINITY, 0 };
        const float largest = std::max(before.largest, own.scale_and_mask(row, shown, parameter(node, 0), here.size() - begin, padded));
        if (largest == -INFINITY) { // a query that has seen nothing
            std::fill_n(row, padded, 0.0f);
            state[i] = before;
            continue;
        }
        const float less = add ? std::exp(before.largest - largest) : 0.0f;
        if (add && less != 1.0f) {
            ggml_vec_scale_f32(int(p.d_v), out + size_t(i) * stride, less);
        }
        state[i] = { largest, ggml_float(less) * before.sum + ggml_vec_soft_max_f32(int(padded), row, row, largest) };
    }

    const operand shares = own.prepare({ scores, p.stride() }, n, n_keys, packed, p.packed_stride());
    const columns parts(p.d_v, own.vectors);
    const float * at = values;
    for (int c = 0; c < parts.n_parts; c++) {
        const int column = parts.begin(c), count = parts.count(c, v->ne[0]), width = (count + 15) / 16 * 16;
        for (int64_t k = begin; k < end; k = (k / keys_apart + 1) * keys_apart) {
            const int64_t part = k / keys_apart * keys_apart;
            const float * rows = at + size_t(part + (k - part) / own.keys_a_row) * size_t(width);
            own.multiply(shares, n, { column, count, k - begin, int(std::min(part + keys_apart, end) - k) }, rows,
                { out + column, stride, add || k > begin });
        }
        at += size_t(here.size()) * size_t(width);
    }
}

// Divides the sums of values by those of their shares.
void divide(const ggml_tensor * node, const plan & p, int64_t head, int64_t first, int n, const row_state * state) {
    const size_t stride = node->ne[0] * size_t(node->ne[1]);
    float * out = (float *) node->data + size_t(first) * stride + size_t(head * p.d_v);
    for (int i = 0; i < n; i++) {
        ggml_vec_scale_f32(int(p.d_v), out + size_t(i) * stride, state[i].sum > 0 ? float(1.0 / state[i].sum) : 0.0f);
    }
}

// Unpacks the keys and the values of a stretch.
void unpack(const ggml_tensor * node, const plan & p, const kernels & own, int64_t head_kv, const range & here, char * scratch) {
    const ggml_tensor * k = node->src[1], * v = node->src[2];
    const weights keys = { GGML_TYPE_F16, false, (const char *) k->data + size_t(head_kv) * k->nb[2], k->nb[1], p.n_kv, p.d_k };
    auto * panel = (float *) scratch;
    for (int64_t key = 0; key < here.size(); key += columns_float) {
        own.pack_keys(keys, { here.first + key, int(std::min<int64_t>(columns_float, here.size() - key)), 0, int(p.d_k) }, panel);
        panel += size_t(columns_float) * size_t(GGML_PAD(p.d_k, step));
    }
    const columns split(p.d_v, own.vectors);
    auto * values = (float *) (scratch + p.keys);
    for (int c = 0; c < split.n_parts; c++) {
        const int count = split.count(c, p.d_v), width = (count + 15) / 16 * 16;
        for (int64_t key = 0; key < here.size(); key += keys_apart) {
            own.pack_values({ v, (const char *) v->data + size_t(head_kv) * v->nb[2], here.first + key,
                std::min(keys_apart, here.size() - key), split.begin(c), count }, values + size_t(key) * size_t(width));
        }
        values += size_t(here.size()) * size_t(width);
    }
}

} // namespace

bool takes(const ggml_tensor * node, int n_threads) {
    if (node->op != GGML_OP_FLASH_ATTN_EXT || !has_avx2()) {
        return false;
    }
    const ggml_tensor * q = node->src[0], * k = node->src[1], * v = node->src[2], * mask = node->src[3];
    const bool types = q->type == GGML_TYPE_F32 && k->type == GGML_TYPE_F16 && v->type == GGML_TYPE_F16 && (!mask || mask->type == GGML_TYPE_F16);
    const bool rows  = q->nb[0] == sizeof(float) && q->nb[1] % sizeof(float) == 0 && k->nb[0] == 2 && v->nb[0] == 2 && ggml_is_contiguous(node);
    const bool shape = q->ne[3] == 1 && k->ne[3] == 1 && v->ne[3] == 1 && k->ne[2] == v->ne[2] && q->ne[2] % k->ne[2] == 0;
    const bool masked = !mask || (mask->ne[2] == 1 && mask->ne[3] == 1 && mask->nb[0] == 2 && mask->ne[1] >= q->ne[1] && mask->ne[0] >= k->ne[1]);
    // position biases, capped scores and sinks are rare enough for ggml
    if (!types || !rows || !shape || !masked || parameter(node, 1) != 0.0f || parameter(node, 2) != 0.0f || node->src[4]) {
        return false;
    }
    if (is_few(node)) {
        return few::takes(node, n_threads);
    }
    return k->ne[0] >= step && v->ne[0] >= 16 && k->ne[0] <= 256 && v->ne[0] <= 256;
}

size_t work_size(const ggml_tensor * node, int n_threads) {
    if (is_few(node)) {
        return few::work_size(node, n_threads);
    }
    const plan p(node);
    return alignment + p.seen + p.bytes() * size_t(n_threads);
}

void compute(const ggml_compute_params * params, ggml_tensor * node) {
    if (is_few(node)) {
        return few::compute(params, node);
    }
    const plan p(node);
    const kernels & kernel = own(node);
    const ggml_tensor * q = node->src[0], * k = node->src[1];
    char * all   = (char *) GGML_PAD((uintptr_t) params->wdata, alignment);
    auto * seen  = (range *) all; // by each block of queries, whatever the head
    char * work  = all + p.seen + p.bytes() * size_t(params->ith);
    auto * states = (row_state *) (work + p.keys + p.values + p.scores + p.packed);

    const int64_t blocks = p.blocks();
    for (int64_t i = params->ith; i < blocks; i += params->nth) {
        seen[i] = keys_seen(node->src[3], i * queries, std::min<int64_t>(queries, p.n_q - i * queries), p.n_kv);
    }
    if (params->ith == 0) {
        ggml_threadpool_chunk_set(params->threadpool, params->nth);
    }
    ggml_barrier(params->threadpool);

    // Heads, and parts of their queries only if there are few heads for the threads.
    const int64_t wanted = params->nth == 1 ? 1 : (4 * params->nth + p.n_head - 1) / p.n_head;
    const int64_t parts  = std::max<int64_t>(1, std::min(wanted, blocks / 4));
    const int64_t apart  = (blocks + parts - 1) / parts * queries;

    for (int64_t chunk = params->ith; chunk < p.n_head * parts; chunk = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        const int64_t head = chunk / parts, first = chunk % parts * apart, end = std::min(first + apart, p.n_q);
        if (first >= end) {
            continue;
        }
        const int64_t head_kv = head / (q->ne[2] / k->ne[2]);
        for (range here = { 0, 0 }; here.first < p.n_kv; here.first = here.end) {
            here.end = std::min(here.first + p.most, p.n_kv);
            unpack(node, p, kernel, head_kv, here, work);
            for (int64_t query = first; query < end; query += queries) {
                const int n = int(std::min<int64_t>(queries, end - query));
                attend(node, p, kernel, head, query, n, here, seen[query / queries], states + query, work);
                if (here.end == p.n_kv) { // while they are in the cache
                    divide(node, p, head, query, n, states + query);
                }
            }
        }
    }
}

} // namespace illava::attention
