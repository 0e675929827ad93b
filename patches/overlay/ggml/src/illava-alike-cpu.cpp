// The two inner steps of a matching as single nodes that a processor computes. Out of stock operations they are some
// sixty nodes, each of which ends with all threads waiting for each other.

#include "illava-alike-cpu.h"

#include "ggml-impl.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace {

const float * row(const ggml_tensor * t, int64_t i) {
    return (const float *) ((const char *) t->data + i * t->nb[1]);
}

// Eight sums side by side, so that a compiler keeps them in registers of any width.
float dot(const float * a, const float * b, int64_t d) {
    float   sums[8] = {};
    int64_t e = 0;
    for (; e + 8 <= d; e += 8) {
        for (int64_t k = 0; k < 8; k++) {
            sums[k] += a[e + k] * b[e + k];
        }
    }
    float sum = ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
    for (; e < d; e++) {
        sum += a[e] * b[e];
    }
    return sum;
}

// Every thread takes some rows of a.
void compute_most_alike(ggml_tensor * dst, int ith, int nth, void *) {
    const ggml_tensor * a = dst->src[0];
    const ggml_tensor * b = dst->src[1];
    const int64_t d = a->ne[0], n_a = a->ne[1], n_b = b->ne[1];

    float * similarity = (float *) dst->data;
    float * index      = similarity + n_a;
    for (int64_t i = n_a * ith / nth; i < n_a * (ith + 1) / nth; i++) {
        // less than any product of two rows, and a number, so that what is none counts for nothing
        float   most = -2.0f * float(d);
        int64_t best = 0;
        for (int64_t j = 0; j < n_b; j++) {
            const float s = dot(row(a, i), row(b, j), d);
            if (s > most) {
                most = s;
                best = j;
            }
        }
        similarity[i] = std::min(most, 2.0f * float(d));
        index[i]      = float(best);
    }
}

// Every thread takes some columns of z, for all rows in their order.
void compute_fold(ggml_tensor * dst, int ith, int nth, void *) {
    const ggml_tensor * z = dst->src[0];
    const auto *  gone = (const int32_t *) dst->src[1]->data;
    const auto *  into = (const float *)   dst->src[2]->data;
    const int64_t w = z->ne[0], n = z->ne[1], r = dst->src[1]->ne[0];
    const int64_t begin = w * ith / nth, end = w * (ith + 1) / nth;

    float * out = (float *) dst->data;
    for (int64_t i = 0; i < n; i++) {
        memcpy(out + i * w + begin, row(z, i) + begin, (end - begin) * sizeof(float));
    }
    for (int64_t k = 0; k < r; k++) {
        const int64_t to = int64_t(into[k]);
        GGML_ASSERT(gone[k] >= 0 && gone[k] < n && to >= 0 && to < n);
        for (int64_t e = begin; e < end; e++) {
            out[to * w + e] += row(z, gone[k])[e];
        }
    }
}

} // namespace

illava_best_match illava_most_alike_cpu(ggml_context * ctx, ggml_tensor * a, ggml_tensor * b) {
    GGML_ASSERT(a->type == GGML_TYPE_F32 && b->type == GGML_TYPE_F32 && a->ne[0] == b->ne[0]);
    const int64_t n_a = a->ne[1];
    ggml_tensor * sources[] = { a, b };
    ggml_tensor * both  = ggml_custom_4d(ctx, GGML_TYPE_F32, n_a, 2, 1, 1, sources, 2, compute_most_alike, GGML_N_TASKS_MAX, nullptr);
    ggml_tensor * index = ggml_view_1d(ctx, both, n_a, both->nb[1]);
    return { ggml_cast(ctx, index, GGML_TYPE_I32), ggml_view_1d(ctx, both, n_a, 0) };
}

ggml_tensor * illava_fold_cpu(ggml_context * ctx, ggml_tensor * z, ggml_tensor * gone, ggml_tensor * into) {
    GGML_ASSERT(z->type == GGML_TYPE_F32 && z->nb[0] == sizeof(float));
    GGML_ASSERT(gone->type == GGML_TYPE_I32 && into->type == GGML_TYPE_F32 && gone->ne[0] == into->ne[0]);
    GGML_ASSERT(ggml_is_contiguous(gone) && ggml_is_contiguous(into));
    ggml_tensor * sources[] = { z, gone, into };
    return ggml_custom_4d(ctx, GGML_TYPE_F32, z->ne[0], z->ne[1], 1, 1, sources, 3, compute_fold, GGML_N_TASKS_MAX, nullptr);
}
