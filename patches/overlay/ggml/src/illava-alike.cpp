// Bipartite matching and assignment: out of stock operations, or with the inner steps that a processor has.

#include "illava-alike.h"
#include "illava-alike-cpu.h"

#include <algorithm>

namespace {

// A similarity matrix is made in pieces of at most this many floats (16 MiB). There are at most this many
// pieces, because a graph has room for so many nodes.
constexpr int64_t max_piece  = int64_t(1) << 22;
constexpr int64_t max_pieces = 16;

ggml_tensor * range(ggml_context * ctx, int64_t begin, int64_t end, int64_t step = 1) {
    return ggml_arange(ctx, float(begin), float(end), float(step));
}

ggml_tensor * as_column(ggml_context * ctx, ggml_tensor * x) {
    return ggml_reshape_2d(ctx, x, 1, ggml_nelements(x));
}

ggml_tensor * as_row(ggml_context * ctx, ggml_tensor * x) {
    return ggml_reshape_1d(ctx, x, ggml_nelements(x));
}

// Entries of x [n] at the indices, f32.
ggml_tensor * pick(ggml_context * ctx, ggml_tensor * x, ggml_tensor * indices) {
    return as_row(ctx, ggml_get_rows(ctx, as_column(ctx, x), indices));
}

// 1 where x <= 0, else 0; a value that is no number counts as 0.
ggml_tensor * not_above_zero(ggml_context * ctx, ggml_tensor * x) {
    return ggml_scale_bias(ctx, ggml_step(ctx, x), -1.0f, 1.0f);
}

// Rows of one length, [d, n].
ggml_tensor * directions(ggml_context * ctx, ggml_tensor * features) {
    return ggml_rms_norm(ctx, features, 1e-30f);
}

// A matrix whose products are as exact as f32 on backends that multiply with a shorter mantissa: high has no more bits
// than they keep, low is the rest.
struct split {
    ggml_tensor * high, * low;

    split(ggml_context * ctx, ggml_tensor * x) :
        high(ggml_cast(ctx, ggml_cast(ctx, x, GGML_TYPE_F16), GGML_TYPE_F32)), low(ggml_sub(ctx, x, high)) {}
};

ggml_tensor * product(ggml_context * ctx, ggml_tensor * a, ggml_tensor * b) {
    ggml_tensor * res = ggml_mul_mat(ctx, a, b);
    ggml_prec_set_acc(res, GGML_PREC_F32);
    return res;
}

illava_best_match most_alike(ggml_context * ctx, illava_place place, ggml_tensor * a, ggml_tensor * b) {
    if (place == ILLAVA_PLACE_CPU) {
        return illava_most_alike_cpu(ctx, a, b);
    }
    const int64_t d   = a->ne[0];
    const int64_t n_a = a->ne[1];
    const int64_t n_b = b->ne[1];

    const split sa(ctx, a), sb(ctx, b);
    ggml_tensor * from_last = ggml_scale_bias(ctx, range(ctx, 0, n_b), -1.0f, float(n_b)); // n_b, ..., 1

    // the rows of a piece begin at a multiple of 64, which an address on Vulkan has to be
    const int64_t rows = std::max({ max_piece / n_b / 64 * 64, GGML_PAD((n_a + max_pieces - 1) / max_pieces, 64), int64_t(64) });

    illava_best_match all = {};
    for (int64_t first = 0; first < n_a; first += rows) {
        const int64_t n = std::min(rows, n_a - first);
        const auto part = [&](ggml_tensor * x) { return ggml_view_2d(ctx, x, d, n, x->nb[1], first * x->nb[1]); };

        ggml_tensor * similarity = ggml_add(ctx, product(ctx, sb.high, part(sa.high)),
            ggml_add(ctx, product(ctx, sb.low, part(sa.high)), product(ctx, sb.high, part(sa.low))));
        // makes a number of what is none: an index of it would be out of bounds on some backends
        const float most = 2.0f * float(d);
        similarity = ggml_clamp(ctx, similarity, -most, most);

        // argmax leaves open which of equals it takes, so it gives the value first; then the index counts
        ggml_tensor * peak = ggml_get_rows(ctx,
            ggml_reshape_3d(ctx, similarity, 1, n_b, n), ggml_reshape_2d(ctx, ggml_argmax(ctx, similarity), 1, n));
        peak = ggml_reshape_2d(ctx, peak, 1, n);
        ggml_tensor * below = ggml_scale(ctx, ggml_sub(ctx, similarity, peak), -1.0f);
        ggml_tensor * index = ggml_argmax(ctx, ggml_mul(ctx, not_above_zero(ctx, below), from_last));

        all.index      = all.index      ? ggml_concat(ctx, all.index, index, 0)                   : index;
        all.similarity = all.similarity ? ggml_concat(ctx, all.similarity, as_row(ctx, peak), 0) : as_row(ctx, peak);
    }
    return all;
}

// z [w, n] plus, in row into[i], row gone[i] of z. Several may go into one row: they are brought together by sorting,
// summed up in steps that double, and the last of each row's carries the sum.
ggml_tensor * fold(ggml_context * ctx, illava_place place, ggml_tensor * z, const illava_match_tensors & match) {
    if (place == ILLAVA_PLACE_CPU) {
        return illava_fold_cpu(ctx, z, match.gone, match.into);
    }
    const int64_t w = z->ne[0];
    const int64_t n = z->ne[1];
    const int64_t r = match.gone->ne[0];

    ggml_tensor * order = ggml_argsort(ctx, match.into, GGML_SORT_ORDER_ASC);
    ggml_tensor * into  = pick(ctx, match.into, order);
    ggml_tensor * gone  = ggml_get_rows(ctx, ggml_reshape_2d(ctx, match.gone, 1, r), order);
    ggml_tensor * sums  = ggml_get_rows(ctx, z, ggml_reshape_1d(ctx, gone, r));

    const auto rises = [&](int64_t by) { // f32 [r - by]: into[i + by] - into[i]
        return ggml_sub(ctx, ggml_view_1d(ctx, into, r - by, by * into->nb[0]), ggml_view_1d(ctx, into, r - by, 0));
    };
    for (int64_t by = 1; by < r; by *= 2) {
        ggml_tensor * same = as_column(ctx, not_above_zero(ctx, rises(by)));
        ggml_tensor * add  = ggml_mul(ctx, ggml_view_2d(ctx, sums, w, r - by, sums->nb[1], 0), same);
        sums = ggml_concat(ctx,
            ggml_view_2d(ctx, sums, w, by, sums->nb[1], 0),
            ggml_add(ctx, add, ggml_view_2d(ctx, sums, w, r - by, sums->nb[1], by * sums->nb[1])), 1);
    }

    // all but the last of each go to a row behind the others, which nobody reads
    ggml_tensor * target = into;
    if (r > 1) {
        ggml_tensor * later = not_above_zero(ctx, rises(1)); // 1: the next has the same row
        ggml_tensor * away  = ggml_scale_bias(ctx, ggml_view_1d(ctx, into, r - 1, 0), -1.0f, float(n));
        target = ggml_add(ctx, into, ggml_pad(ctx, ggml_mul(ctx, later, away), 1, 0, 0, 0));
    }
    ggml_tensor * none  = ggml_scale(ctx, range(ctx, 0, 1), 0.0f);
    ggml_tensor * added = ggml_set_rows(ctx,
        ggml_repeat_4d(ctx, none, w, n + 1, 1, 1), sums, ggml_cast(ctx, target, GGML_TYPE_I32));
    return ggml_add(ctx, z, ggml_view_2d(ctx, added, w, n, added->nb[1], 0));
}

// The tokens on their way: sums of values and of sizes below each other, [d + 1, n], and directions of one length.
struct state {
    illava_place  place;
    ggml_tensor * z;
    ggml_tensor * kept = nullptr; // f32 [n], indices among the tokens there were at first; null: all of them
    std::vector<illava_match_tensors> matches;
};

state begin(ggml_context * ctx, illava_place place, ggml_tensor * x, ggml_tensor * sizes) {
    const int64_t n = x->ne[1];
    if (!sizes) {
        sizes = ggml_scale_bias(ctx, range(ctx, 0, n), 0.0f, 1.0f);
        return { place, ggml_concat(ctx, x, as_column(ctx, sizes), 0), nullptr, {} };
    }
    ggml_tensor * column = as_column(ctx, sizes);
    return { place, ggml_concat(ctx, ggml_mul(ctx, x, column), column, 0), nullptr, {} };
}

void apply(ggml_context * ctx, state & s, const illava_match_tensors & match) {
    ggml_tensor * left = illava_build_kept(ctx, match.gone, s.z->ne[1]);
    s.z    = ggml_get_rows(ctx, fold(ctx, s.place, s.z, match), left);
    s.kept = s.kept ? pick(ctx, s.kept, left) : ggml_cast(ctx, left, GGML_TYPE_F32);
    s.matches.push_back(match);
}

illava_alike_tensors finish(ggml_context * ctx, const state & s, int64_t d) {
    const int64_t n = s.z->ne[1];
    ggml_tensor * sizes = ggml_cont(ctx, ggml_view_2d(ctx, s.z, 1, n, s.z->nb[1], d * s.z->nb[0]));
    return {
        ggml_div(ctx, ggml_view_2d(ctx, s.z, d, n, s.z->nb[1], 0), sizes),
        ggml_reshape_1d(ctx, sizes, n),
        ggml_cast(ctx, s.kept, GGML_TYPE_I32),
        s.matches,
    };
}

void check(const ggml_tensor * x, const ggml_tensor * features, const ggml_tensor * sizes, int64_t r) {
    const int64_t n = x->ne[1];
    GGML_ASSERT(x->type == GGML_TYPE_F32 && ggml_is_contiguous(x) && ggml_is_matrix(x));
    GGML_ASSERT(features->type == GGML_TYPE_F32 && ggml_is_contiguous(features) && features->ne[1] == n);
    GGML_ASSERT(!sizes || (sizes->type == GGML_TYPE_F32 && ggml_is_contiguous(sizes) && ggml_nelements(sizes) == n));
    GGML_ASSERT(r >= 1 && r < n);
    GGML_ASSERT(n < int64_t(1) << 22); // indices are whole numbers in f32
}

} // namespace

ggml_tensor * illava_build_key_features(ggml_context * ctx, ggml_tensor * keys, int64_t n) {
    const int64_t d = keys->ne[0];
    const int64_t h = keys->ne[2];
    GGML_ASSERT(keys->type == GGML_TYPE_F32 && keys->ne[1] >= n && keys->ne[3] == 1);
    ggml_tensor * rows = ggml_view_3d(ctx, keys, d, n, h, keys->nb[1], keys->nb[2], 0);
    if (h == 1) {
        return ggml_reshape_2d(ctx, ggml_cont(ctx, rows), d, n);
    }
    return ggml_reshape_2d(ctx, ggml_sum_rows(ctx, ggml_cont(ctx, ggml_permute(ctx, rows, 1, 2, 0, 3))), d, n);
}

illava_place illava_place_of(ggml_backend_t backend) {
    ggml_backend_dev_t device = backend ? ggml_backend_get_device(backend) : nullptr;
    const bool is_cpu = device && ggml_backend_dev_type(device) == GGML_BACKEND_DEVICE_TYPE_CPU;
    return is_cpu ? ILLAVA_PLACE_CPU : ILLAVA_PLACE_ANY;
}

illava_alike_tensors illava_build_bipartite(
        ggml_context * ctx, illava_place place, ggml_tensor * x, ggml_tensor * features, ggml_tensor * sizes, int64_t r,
        illava_held_tensors * held) {
    check(x, features, sizes, r);
    GGML_ASSERT(!held || (ggml_nelements(held->flags) == x->ne[1] && held->n_free >= 0 && held->n_free <= x->ne[1]));
    const int64_t d = features->ne[0];

    state         s    = begin(ctx, place, x, sizes);
    ggml_tensor * unit = directions(ctx, features);
    ggml_tensor * sums = nullptr; // of directions times sizes, where another matching follows
    for (int64_t n = x->ne[1]; r > 0; ) {
        // those that take part come first in the order by (flag, index)
        const bool    some = held && held->n_free >= 2 && held->n_free < n;
        const int64_t m    = some ? held->n_free : n;
        ggml_tensor * part = some ? ggml_view_1d(ctx, illava_build_order(ctx, held->flags), m, 0) : nullptr;
        ggml_tensor * dealt = some ? ggml_get_rows(ctx, unit, part) : unit;
        const int64_t n_a = (m + 1) / 2, n_b = m / 2;
        const int64_t now = std::min(r, n_b);

        const auto half = [&](int64_t begin, int64_t count) {
            return ggml_cont(ctx, ggml_view_2d(ctx, dealt, d, count, 2 * dealt->nb[1], begin * dealt->nb[1]));
        };
        const auto named = [&](ggml_tensor * indices) { // f32, of those that entered the matching
            return some ? pick(ctx, ggml_cast(ctx, part, GGML_TYPE_F32), ggml_cast(ctx, indices, GGML_TYPE_I32)) : indices;
        };
        const illava_best_match best = most_alike(ctx, place, half(0, n_a), half(1, n_b));
        ggml_tensor * order = illava_build_order(ctx, ggml_scale(ctx, best.similarity, -1.0f));
        ggml_tensor * pairs = ggml_view_1d(ctx, order, now, 0);

        const illava_match_tensors match = {
            ggml_cast(ctx, named(pick(ctx, range(ctx, 0, m, 2), pairs)), GGML_TYPE_I32),
            named(pick(ctx, pick(ctx, range(ctx, 1, m, 2), best.index), pairs)),
        };
        if (held) {
            held->flags  = pick(ctx, held->flags, illava_build_kept(ctx, match.gone, n));
            held->n_free = some || held->n_free == n ? held->n_free - now : 0;
        }
        r -= now;
        if (r > 0) {
            if (!sums) {
                sums = sizes ? ggml_mul(ctx, unit, as_column(ctx, sizes)) : unit;
            }
            sums = ggml_get_rows(ctx, fold(ctx, place, sums, match), illava_build_kept(ctx, match.gone, n));
            unit = directions(ctx, sums);
        }
        apply(ctx, s, match);
        n -= now;
    }
    return finish(ctx, s, x->ne[0]);
}

illava_alike_tensors illava_build_assign(
        ggml_context * ctx, illava_place place, ggml_tensor * x, ggml_tensor * features, ggml_tensor * sizes, ggml_tensor * scores,
        int64_t r) {
    check(x, features, sizes, r);
    const illava_plan_tensors plan = illava_build_plan(ctx, scores, r);
    ggml_tensor * gone = ggml_view_1d(ctx, plan.order, r, 0);
    ggml_tensor * unit = directions(ctx, features);

    const illava_best_match best = most_alike(ctx, place, ggml_get_rows(ctx, unit, gone), ggml_get_rows(ctx, unit, plan.kept));
    state s = begin(ctx, place, x, sizes);
    apply(ctx, s, { ggml_cont(ctx, gone), pick(ctx, ggml_cast(ctx, plan.kept, GGML_TYPE_F32), best.index) });
    return finish(ctx, s, x->ne[0]);
}
