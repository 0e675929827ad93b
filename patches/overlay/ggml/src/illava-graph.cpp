// Plan and merge out of stock operations, and the question which backend has the fused score.

#include "illava-graph.h"
#include "ggml-illava.h"

#include <algorithm>
#include <cstring>
#include <memory>

namespace {

// The pairwise comparison is made for a range of tokens at a time: about this many floats, but never
// in more than max_ranges ranges, so that the number of graph nodes stays bounded too.
constexpr int64_t max_pairs  = int64_t(1) << 20;
constexpr int64_t max_ranges = 64;

// f32 [n] with entry i = number of tokens that come after token i in (score, index) order.
// Distinct integers below 2^24, so exact and free of ties: any sort orders them alike.
ggml_tensor * count_after(ggml_context * ctx, ggml_tensor * scores) {
    const int64_t n       = scores->ne[0];
    const int64_t n_range = std::min(n, std::max(max_pairs / n, (n + max_ranges - 1) / max_ranges));

    // Index i as i/2^b < 1: decides where scores are equal, cannot outweigh a sign of +-1, and every
    // sum below is a multiple of 2^-b under 2, hence exact.
    float unit = 1.0f;
    while (unit * n > 1.0f) {
        unit *= 0.5f;
    }
    ggml_tensor * index = ggml_scale(ctx, ggml_arange(ctx, 0.0f, float(n), 1.0f), unit);

    ggml_tensor * counts = nullptr;
    for (int64_t i0 = 0; i0 < n; i0 += n_range) {
        const int64_t m = std::min(n_range, n - i0);

        // [j, i]: does token j come after token i?
        ggml_tensor * score_i = ggml_view_2d(ctx, scores, 1, m, scores->nb[0], i0 * scores->nb[0]);
        ggml_tensor * index_i = ggml_view_2d(ctx, index,  1, m, index->nb[0],  i0 * index->nb[0]);

        ggml_tensor * after = ggml_repeat_4d(ctx, scores, n, m, 1, 1);
        after = ggml_sgn(ctx, ggml_sub(ctx, after, score_i));
        after = ggml_sub(ctx, ggml_add(ctx, after, index), index_i);
        after = ggml_step(ctx, after);

        ggml_tensor * count = ggml_reshape_1d(ctx, ggml_sum_rows(ctx, after), m);
        counts = counts ? ggml_concat(ctx, counts, count, 0) : count;
    }
    return counts;
}

} // namespace

illava_plan_tensors illava_build_plan(ggml_context * ctx, ggml_tensor * scores, int64_t r) {
    const int64_t n = scores->ne[0];
    GGML_ASSERT(scores->type == GGML_TYPE_F32 && ggml_is_contiguous(scores) && ggml_nelements(scores) == n);
    GGML_ASSERT(r >= 1 && r < n);
    GGML_ASSERT(n <= (int64_t(1) << 23)); // the counts and the halves below are exact up to here

    ggml_tensor * after = count_after(ctx, scores);

    ggml_tensor * by_score = ggml_argsort(ctx, after, GGML_SORT_ORDER_DESC);

    // Removed are those with at least n - r tokens after them. Moved behind all others, each part in
    // index order, they leave the kept ones in front.
    ggml_tensor * removed = ggml_step(ctx, ggml_scale_bias(ctx, after, 1.0f, 0.5f - float(n - r)));
    ggml_tensor * key     = ggml_add(ctx, ggml_arange(ctx, 0.0f, float(n), 1.0f), ggml_scale(ctx, removed, float(n)));
    ggml_tensor * by_slot = ggml_argsort(ctx, key, GGML_SORT_ORDER_ASC);

    return {
        ggml_view_1d(ctx, by_slot,  n - r, 0),
        ggml_view_1d(ctx, by_score, r + 1, 0),
    };
}

ggml_tensor * illava_build_merge(ggml_context * ctx, ggml_tensor * x, illava_plan_tensors plan) {
    const int64_t d = x->ne[0];
    const int64_t m = plan.order->ne[0]; // r + 1
    GGML_ASSERT(x->type == GGML_TYPE_F32 && ggml_is_contiguous(x));
    GGML_ASSERT(x->ne[2] == 1 && x->ne[3] == 1);
    GGML_ASSERT(x->ne[1] == plan.kept->ne[0] + m - 1);

    // A weighted sum by multiply and sum_rows, not by mul_mat: some backends lower a matrix product
    // of f32 to a type with a shorter mantissa.
    ggml_tensor * weights = ggml_scale_bias(ctx, ggml_arange(ctx, 0.0f, float(m), 1.0f), -1.0f, float(m));
    ggml_tensor * merging = ggml_cont(ctx, ggml_transpose(ctx, ggml_get_rows(ctx, x, plan.order)));
    ggml_tensor * merged  = ggml_sum_rows(ctx, ggml_mul(ctx, merging, weights));
    merged = ggml_scale(ctx, ggml_reshape_2d(ctx, merged, d, 1), float(2.0 / (double(m) * double(m + 1))));

    // Into a copy: x may have other readers.
    ggml_tensor * slot = ggml_view_1d(ctx, plan.order, 1, (m - 1) * plan.order->nb[0]);
    ggml_tensor * all  = ggml_set_rows(ctx, ggml_cont(ctx, x), merged, slot);
    return ggml_get_rows(ctx, all, plan.kept);
}

bool illava_backend_has_score(ggml_backend_dev_t device) {
    // The RPC device says yes to every operation without asking the machine behind it.
    ggml_backend_reg_t reg = ggml_backend_dev_backend_reg(device);
    if (reg && strcmp(ggml_backend_reg_name(reg), "RPC") == 0) {
        return false;
    }

    const ggml_init_params params = { 8 * ggml_tensor_overhead(), nullptr, /*no_alloc =*/ true };
    std::unique_ptr<ggml_context, decltype(&ggml_free)> ctx(ggml_init(params), ggml_free);
    ggml_tensor * q = ggml_new_tensor_3d(ctx.get(), GGML_TYPE_F32, 64, 32, 2);
    ggml_tensor * k = ggml_new_tensor_3d(ctx.get(), GGML_TYPE_F32, 64, 32, 2);
    return ggml_backend_dev_supports_op(device, ggml_attn_score(ctx.get(), q, k, nullptr, 0.125f));
}

bool illava_backend_has_score(ggml_backend_t backend) {
    ggml_backend_dev_t device = ggml_backend_get_device(backend);
    return device && illava_backend_has_score(device);
}
