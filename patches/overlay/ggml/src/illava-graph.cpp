// Plan and merge out of stock operations, and the question which backend has the fused score.

#include "illava-graph.h"
#include "ggml-illava.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>

namespace {

constexpr int64_t exact = int64_t(1) << 24; // integers up to here are exact in f32

ggml_tensor * range(ggml_context * ctx, int64_t begin, int64_t end) {
    return ggml_arange(ctx, float(begin), float(end), 1.0f);
}

// f32 [n]: i % period.
ggml_tensor * index_modulo(ggml_context * ctx, int64_t n, int64_t period) {
    if (period >= n) {
        return range(ctx, 0, n);
    }
    const int64_t n_period = (n + period - 1) / period;
    return ggml_view_1d(ctx, ggml_repeat_4d(ctx, range(ctx, 0, period), n_period * period, 1, 1, 1), n, 0);
}

// f32 [n], entry i = how many different keys are smaller than key i. `order` sorts the keys.
ggml_tensor * dense_rank(ggml_context * ctx, ggml_tensor * keys, ggml_tensor * order) {
    const int64_t n = keys->ne[0];

    ggml_tensor * sorted = ggml_reshape_1d(ctx, ggml_get_rows(ctx, ggml_reshape_2d(ctx, keys, 1, n), order), n);
    ggml_tensor * rises  = ggml_step(ctx, ggml_sub(ctx,
            ggml_view_1d(ctx, sorted, n - 1, sorted->nb[0]),
            ggml_view_1d(ctx, sorted, n - 1, 0)));
    ggml_tensor * ranks  = ggml_cumsum(ctx, rises);

    // The smallest key's entry stays at the zero it starts with.
    ggml_tensor * zeros = ggml_scale(ctx, range(ctx, 0, n), 0.0f);
    ggml_tensor * by_token = ggml_set_rows(ctx,
            ggml_reshape_2d(ctx, zeros, 1, n),
            ggml_reshape_2d(ctx, ranks, 1, n - 1),
            ggml_view_1d(ctx, order, n - 1, order->nb[0]));
    return ggml_reshape_1d(ctx, by_token, n);
}

// i32 [n]: the tokens in ascending (score, index) order.
//
// ggml_argsort leaves the order of equal keys open. The tokens are therefore ranked by score first. A second
// sort tells equal ranks apart by index: its key rank * base + index is a different integer for every token.
// If such a key would not be exact, the index goes in digit by digit, the highest first, with a new rank
// after each.
ggml_tensor * sort_with_ties(ggml_context * ctx, ggml_tensor * scores) {
    const int64_t n = scores->ne[0];

    int64_t base = 1;
    while (2 * base * n <= exact) {
        base *= 2;
    }
    int64_t period = base; // base^digits
    while (period < n) {
        period *= base;
    }

    // A comparison sort may run astray on a NaN; this makes it a number.
    constexpr float most = std::numeric_limits<float>::max();
    ggml_tensor * keys  = ggml_clamp(ctx, ggml_cont(ctx, scores), -most, most);
    ggml_tensor * order = ggml_argsort(ctx, keys, GGML_SORT_ORDER_ASC);

    for (; period > 1; period /= base) {
        ggml_tensor * digit = index_modulo(ctx, n, period);
        if (period > base) {
            digit = ggml_scale(ctx, ggml_sub(ctx, digit, index_modulo(ctx, n, period / base)), float(base) / float(period));
        }
        keys  = ggml_add(ctx, ggml_scale(ctx, dense_rank(ctx, keys, order), float(base)), digit);
        order = ggml_argsort(ctx, keys, GGML_SORT_ORDER_ASC);
    }
    return order;
}

} // namespace

ggml_tensor * illava_build_order(ggml_context * ctx, ggml_tensor * scores) {
    const int64_t n = scores->ne[0];
    GGML_ASSERT(scores->type == GGML_TYPE_F32 && ggml_is_contiguous(scores) && ggml_nelements(scores) == n);
    GGML_ASSERT(n <= exact / 4);
    return n == 1 ? ggml_argsort(ctx, scores, GGML_SORT_ORDER_ASC) : sort_with_ties(ctx, scores);
}

// Every token's key is its index; the r that go get one behind all others. Sorted, the kept ones stand in front.
ggml_tensor * illava_build_kept(ggml_context * ctx, ggml_tensor * gone, int64_t n) {
    const int64_t r = gone->ne[0];
    ggml_tensor * keys = ggml_set_rows(ctx,
            ggml_reshape_2d(ctx, range(ctx, 0, n), 1, n),
            ggml_reshape_2d(ctx, range(ctx, n, n + r), 1, r),
            gone);
    ggml_tensor * kept = ggml_argsort(ctx, ggml_reshape_1d(ctx, keys, n), GGML_SORT_ORDER_ASC);
    return ggml_view_1d(ctx, kept, n - r, 0);
}

illava_plan_tensors illava_build_plan(ggml_context * ctx, ggml_tensor * scores, int64_t r) {
    GGML_ASSERT(r >= 1 && r < scores->ne[0]);

    ggml_tensor * order = illava_build_order(ctx, scores);
    return {
        illava_build_kept(ctx, ggml_view_1d(ctx, order, r, 0), scores->ne[0]),
        ggml_view_1d(ctx, order, r + 1, 0),
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

// The tensor as supports_op may look at it: type, shape and strides, without the buffer it lies in.
// Another device's buffer would make every backend but that device's own say no.
static ggml_tensor * shape_of(ggml_context * ctx, const ggml_tensor * tensor) {
    ggml_tensor * shape = ggml_new_tensor(ctx, tensor->type, GGML_MAX_DIMS, tensor->ne);
    std::copy_n(tensor->nb, GGML_MAX_DIMS, shape->nb);
    return shape;
}

bool illava_backend_has_score(
        ggml_backend_dev_t device, const ggml_tensor * q, const ggml_tensor * k, const ggml_tensor * mask) {
    // The RPC device says yes to every operation without asking the machine behind it.
    ggml_backend_reg_t reg = ggml_backend_dev_backend_reg(device);
    if (reg && strcmp(ggml_backend_reg_name(reg), "RPC") == 0) {
        return false;
    }

    // An accelerator beside the CPU (BLAS) shares its memory and is given only what it knows.
    if (ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_ACCEL) {
        return true;
    }

    const ggml_init_params params = { 8 * ggml_tensor_overhead(), nullptr, /*no_alloc =*/ true };
    std::unique_ptr<ggml_context, decltype(&ggml_free)> ctx(ggml_init(params), ggml_free);
    return ggml_backend_dev_supports_op(device, ggml_attn_score(ctx.get(),
            shape_of(ctx.get(), q), shape_of(ctx.get(), k), mask ? shape_of(ctx.get(), mask) : nullptr, 1.0f));
}

bool illava_backend_has_score(
        ggml_backend_t backend, const ggml_tensor * q, const ggml_tensor * k, const ggml_tensor * mask) {
    ggml_backend_dev_t device = ggml_backend_get_device(backend);
    return device && illava_backend_has_score(device, q, k, mask);
}
