// Groups of tokens as custom nodes of a graph.

#include "illava-groups-graph.h"

#include "ggml-impl.h"

#include <algorithm>

namespace {

const float * row_of(const ggml_tensor * t, int64_t i, int64_t h) {
    return (const float *) ((const char *) t->data + i * t->nb[1] + h * t->nb[2]);
}

// [n, d]: the rows, or their means over the heads.
std::vector<float> rows_of(const ggml_tensor * features, int64_t n) {
    const int64_t d      = features->ne[0];
    const int64_t n_head = features->ne[2];

    std::vector<float>  rows(n * d);
    std::vector<double> sum(d);
    for (int64_t i = 0; i < n; i++) {
        std::fill(sum.begin(), sum.end(), 0.0);
        for (int64_t h = 0; h < n_head; h++) {
            const float * row = row_of(features, i, h);
            for (int64_t e = 0; e < d; e++) {
                sum[e] += row[e];
            }
        }
        for (int64_t e = 0; e < d; e++) {
            rows[i * d + e] = float(sum[e] / double(n_head));
        }
    }
    return rows;
}

const float * data_of(const ggml_tensor * t) {
    return t ? (const float *) t->data : nullptr;
}

std::vector<int32_t> into_of(const ggml_tensor * groups) {
    return illava_read_into(data_of(groups), groups->ne[0]);
}

void compute_groups(ggml_tensor * dst, int ith, int, void * userdata) {
    if (ith != 0) {
        return;
    }
    const auto *  request  = (const illava_group_request *) userdata;
    const int64_t n        = dst->ne[0];
    const auto *  features = dst->src[0];
    // what is not there has the features in its place: sources follow each other without a gap
    const auto *  scores   = dst->src[1] == features ? nullptr : dst->src[1];
    const auto *  sizes    = dst->src[2] == features ? nullptr : dst->src[2];

    const std::vector<float> rows = rows_of(features, n);

    illava_tokens tokens = { size_t(n), size_t(features->ne[0]), rows.data() };
    tokens.scores = data_of(scores);
    tokens.sizes  = data_of(sizes);
    const illava_groups groups = illava_make_groups(request->strategy, tokens, request->r);

    float * out = (float *) dst->data;
    std::copy(groups.into.begin(), groups.into.end(), out);
    std::copy(groups.weights.begin(), groups.weights.end(), out + n);
}

void compute_survivors(ggml_tensor * dst, int ith, int, void *) {
    if (ith == 0) {
        const std::vector<int32_t> survivors = illava_survivors(into_of(dst->src[0]));
        GGML_ASSERT(int64_t(survivors.size()) == dst->ne[0]);
        std::copy(survivors.begin(), survivors.end(), (int32_t *) dst->data);
    }
}

void compute_sizes(ggml_tensor * dst, int ith, int, void *) {
    if (ith == 0) {
        const ggml_tensor * groups = dst->src[0];
        const ggml_tensor * sizes  = dst->src[1] == groups ? nullptr : dst->src[1];
        const auto into = into_of(groups);
        const auto sums = illava_group_sizes(into, data_of(sizes), illava_survivors(into));
        GGML_ASSERT(int64_t(sums.size()) == dst->ne[0]);
        std::copy(sums.begin(), sums.end(), (float *) dst->data);
    }
}

// Every thread takes some of the survivors.
void compute_means(ggml_tensor * dst, int ith, int nth, void * userdata) {
    const auto *        request = (const illava_group_request *) userdata;
    const ggml_tensor * x      = dst->src[0];
    const ggml_tensor * groups = dst->src[1];

    const auto   into      = into_of(groups);
    const auto   survivors = illava_survivors(into);
    const size_t n         = survivors.size();
    GGML_ASSERT(int64_t(n) == dst->ne[1]);
    illava_merge_groups(data_of(x), x->ne[0], into, data_of(groups) + into.size(), illava_strategy_sums(request->strategy), survivors,
            n * ith / nth, n * (ith + 1) / nth, (float *) dst->data);
}

} // namespace

std::vector<int32_t> illava_read_into(const float * groups, size_t n) {
    // indices are small enough for a float to hold exactly
    return std::vector<int32_t>(groups, groups + n);
}

ggml_tensor * illava_build_groups(
        ggml_context * ctx, const illava_group_request * request, ggml_tensor * features, int64_t n,
        ggml_tensor * scores, ggml_tensor * sizes) {
    GGML_ASSERT(features->type == GGML_TYPE_F32 && features->nb[0] == sizeof(float));
    GGML_ASSERT(features->ne[1] >= n && features->ne[3] == 1);
    GGML_ASSERT(n < int64_t(1) << 24);
    for (const ggml_tensor * t : { scores, sizes }) {
        GGML_ASSERT(!t || (t->type == GGML_TYPE_F32 && t->ne[0] == n && ggml_is_contiguous(t)));
    }
    ggml_tensor * sources[] = { features, scores ? scores : features, sizes ? sizes : features };
    return ggml_custom_4d(ctx, GGML_TYPE_F32, n, 2, 1, 1, sources, 3, compute_groups, 1,
            const_cast<illava_group_request *>(request));
}

ggml_tensor * illava_build_survivors(ggml_context * ctx, ggml_tensor * groups, int64_t n_out) {
    return ggml_custom_4d(ctx, GGML_TYPE_I32, n_out, 1, 1, 1, &groups, 1, compute_survivors, 1, nullptr);
}

ggml_tensor * illava_build_group_sizes(ggml_context * ctx, ggml_tensor * groups, ggml_tensor * sizes, int64_t n_out) {
    ggml_tensor * sources[] = { groups, sizes ? sizes : groups };
    return ggml_custom_4d(ctx, GGML_TYPE_F32, n_out, 1, 1, 1, sources, 2, compute_sizes, 1, nullptr);
}

ggml_tensor * illava_build_group_means(
        ggml_context * ctx, const illava_group_request * request, ggml_tensor * x, ggml_tensor * groups, int64_t n_out) {
    GGML_ASSERT(x->type == GGML_TYPE_F32 && ggml_is_contiguous(x) && x->ne[1] == groups->ne[0]);
    ggml_tensor * sources[] = { x, groups };
    return ggml_custom_4d(ctx, GGML_TYPE_F32, x->ne[0], n_out, 1, 1, sources, 2, compute_means, GGML_N_TASKS_MAX,
            const_cast<illava_group_request *>(request));
}
