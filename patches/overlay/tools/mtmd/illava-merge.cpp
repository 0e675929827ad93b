#include "illava-merge.h"

#include "ggml-illava.h"
#include "../../src/illava-status.h"

#include <algorithm>
#include <cstdio>
#include <numeric>

static int64_t n_removed(const illava_merge_schedule & schedule) {
    return std::accumulate(schedule.steps.begin(), schedule.steps.end(), (int64_t) 0,
        [](int64_t sum, const illava_merge_step & step) { return sum + step.r; });
}

int64_t illava_merge_rows_left(const illava_merge_schedule_ptr & schedule, int64_t n_rows) {
    return schedule ? n_rows - n_removed(*schedule) : n_rows;
}

int64_t illava_merge_tokens_left(const illava_merge_schedule_ptr & schedule, int64_t n_tokens) {
    if (!schedule || schedule->pool_side > 0) {
        return n_tokens;
    }
    // which lines have a token left is known later: the graph gives one break behind the tokens
    const int64_t breaks = schedule->line_breaks < 0 ? 0 : schedule->line_breaks - 1;
    return n_tokens - breaks - n_removed(*schedule) / schedule->rows_per_token;
}

void illava_merge_check(const illava_merge_schedule & schedule, int64_t n_rows) {
    const int32_t unit  = schedule.unit_rows;
    const bool    after = schedule.acts_behind();
    const int32_t first = after ? schedule.n_layer : schedule.first_layer;
    // what is dropped may also go behind the last layer, if nothing went before
    const bool    alone = schedule.strategy == ILLAVA_STRATEGY_PRUNE && schedule.steps.size() == 1;
    const int32_t final = after || alone ? schedule.n_layer : schedule.n_layer - 1;

    int64_t left = n_rows;
    int32_t last = -1;

    for (const auto & step : schedule.steps) {
        if (step.layer < first || step.layer > final) {
            illava_fail(ILLAVA_BAD_ARG, "merge layer %d: the image encoder merges at layers %d to %d%s", step.layer,
                schedule.first_layer, schedule.n_layer - 1,
                after ? ", and this strategy acts once behind the last, which is named by the number after it" : "");
        }
        if (step.layer <= last) {
            illava_fail(ILLAVA_BAD_ARG, "merge layer %d follows layer %d: layers must ascend", step.layer, last);
        }
        if (step.r < 0 || step.r % unit != 0) {
            illava_fail(ILLAVA_BAD_ARG, "merge layer %d: r = %d is not a multiple of %d, the patches of one group",
                step.layer, step.r, unit);
        }
        if (step.r > left - unit) {
            illava_fail(ILLAVA_BAD_ARG, "merge layer %d: r = %d leaves nothing of the %lld patches that reach it; at most %lld",
                step.layer, step.r, (long long) left, (long long) (left - unit));
        }
        left -= step.r;
        last  = step.layer;
    }
    if (left % schedule.rows_per_token != 0) {
        illava_fail(ILLAVA_BAD_ARG, "the schedule leaves %lld patches, but the projector takes them by %d",
            (long long) left, schedule.rows_per_token);
    }
}

illava_merge_names::illava_merge_names(int32_t layer) {
    snprintf(scores, sizeof(scores), "illava_scores-%d", layer);
    snprintf(kept,   sizeof(kept),   "illava_kept-%d",   layer);
    snprintf(order,  sizeof(order),  "illava_order-%d",  layer);
    snprintf(groups, sizeof(groups), "illava_groups-%d", layer);
    snprintf(entering, sizeof(entering), "illava_entering-%d", layer);
    snprintf(merged,   sizeof(merged),   "illava_merged-%d",   layer);
}

illava_match_names::illava_match_names(int32_t layer, size_t match) {
    snprintf(gone, sizeof(gone), "illava_gone-%d.%zu", layer, match);
    snprintf(into, sizeof(into), "illava_into-%d.%zu", layer, match);
}

bool illava_merge_in_graph(enum illava_strategy strategy) {
    return strategy == ILLAVA_STRATEGY_BIPARTITE || strategy == ILLAVA_STRATEGY_ASSIGN;
}

std::vector<int32_t> illava_merge_drawn(const illava_merge_schedule & schedule, const illava_merge_step & step, int64_t n) {
    auto order = illava_random_order(schedule.seed, 0, step.layer, n);
    order.erase(order.begin(), order.begin() + step.r / schedule.unit_rows);
    std::sort(order.begin(), order.end());
    return order;
}

// Keeps the tensor's memory until the caller has read it. A view shares its source's memory, so the source is
// marked as well.
static void keep(ggml_tensor * tensor, const char * name) {
    ggml_set_name(tensor, name);
    ggml_set_output(tensor);
    if (tensor->view_src) {
        ggml_set_output(tensor->view_src);
    }
}

illava_merger::illava_merger(illava_merge_schedule_ptr schedule) : schedule(std::move(schedule)) {}

const illava_merge_step * illava_merger::step_at(int il) const {
    for (const auto & step : schedule->steps) {
        if (step.layer == il) {
            return &step;
        }
    }
    return nullptr;
}

void illava_merger::attend(
        ggml_context * ctx, int il, ggml_tensor * q, ggml_tensor * k, ggml_tensor * mask, float scale) {
    const int at = step_at(il) ? il : il + 1 == schedule->n_layer ? schedule->n_layer : -1;
    if (!step_at(at)) {
        return;
    }
    attended = at;
    keys     = k;
    if (illava_strategy_scores(schedule->strategy)) {
        scores = score(ctx, q, k, mask, scale);
        keep(scores, illava_merge_names(at).scores);
    }
}

// Queries that share one mask: the mask has at most 4 Mi values (8 MiB), or a sixteenth of the map where that is more.
static int64_t queries_of_piece(int64_t n_rows) {
    constexpr int64_t most = int64_t(1) << 22, n_pieces = 16, step = 64;
    return std::min(n_rows, std::max({ most / n_rows / step * step, GGML_PAD((n_rows + n_pieces - 1) / n_pieces, step), step }));
}

static ggml_tensor * some_queries(ggml_context * ctx, ggml_tensor * q, int64_t first, int64_t n) {
    return ggml_view_3d(ctx, q, q->ne[0], n, q->ne[2], q->nb[1], q->nb[2], first * q->nb[1]);
}

ggml_tensor * illava_merger::size_mask(ggml_context * ctx, int64_t n) {
    const int64_t n_rows = log_sizes->ne[0];
    if (!mask_rows) {
        mask_rows = ggml_cast(ctx, ggml_repeat_4d(ctx, log_sizes, n_rows, queries_of_piece(n_rows), 1, 1), GGML_TYPE_F16);
    }
    return n == mask_rows->ne[1] ? mask_rows : ggml_view_2d(ctx, mask_rows, n_rows, n, mask_rows->nb[1], 0);
}

ggml_tensor * illava_merger::weighed(ggml_context * ctx, ggml_tensor * mask) {
    if (mask != unweighed_mask) {
        unweighed_mask = mask;
        weighed_mask   = ggml_cast(ctx, ggml_add(ctx, mask->type == GGML_TYPE_F32 ? mask : ggml_cast(ctx, mask, GGML_TYPE_F32), log_sizes),
            GGML_TYPE_F16);
    }
    return weighed_mask;
}

ggml_tensor * illava_merger::flash_attn(
        ggml_context * ctx, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v, ggml_tensor * mask, float scale) {
    if (mask) {
        ggml_tensor * out = ggml_flash_attn_ext(ctx, q, k, v, weighed(ctx, mask), scale, 0.0f, 0.0f);
        ggml_prec_set_acc(out, GGML_PREC_F32);
        return out;
    }
    const int64_t n_rows = q->ne[1], piece = queries_of_piece(n_rows);
    ggml_tensor * out = nullptr;
    for (int64_t first = 0; first < n_rows; first += piece) {
        const int64_t n = std::min(piece, n_rows - first);
        ggml_tensor * part = ggml_flash_attn_ext(ctx, some_queries(ctx, q, first, n), k, v, size_mask(ctx, n), scale, 0.0f, 0.0f);
        ggml_prec_set_acc(part, GGML_PREC_F32);
        out = out ? ggml_concat(ctx, out, part, 2) : part;
    }
    return out;
}

ggml_tensor * illava_merger::weigh(ggml_context * ctx, ggml_tensor * kq, float scale) const {
    return ggml_add(ctx, kq, ggml_scale(ctx, log_sizes, 1.0f / scale));
}

// Makes the bias behind a step that counted: the logs of the sizes, for every row of a unit alike; the class
// token stands for one.
void illava_merger::weigh_from_here(ggml_context * ctx) {
    const int64_t unit = schedule->unit_rows, n = sizes->ne[0];
    log_sizes = ggml_log(ctx, sizes);
    if (unit > 1) {
        log_sizes = ggml_repeat_4d(ctx, ggml_reshape_2d(ctx, log_sizes, 1, n), unit, n, 1, 1);
        log_sizes = ggml_reshape_1d(ctx, log_sizes, unit * n);
    }
    if (schedule->protected_rows > 0) {
        log_sizes = ggml_pad(ctx, log_sizes, schedule->protected_rows, 0, 0, 0);
    }
    mask_rows      = nullptr;
    unweighed_mask = nullptr;
}

ggml_tensor * illava_merger::received(
        ggml_context * ctx, ggml_tensor * q, ggml_tensor * k, ggml_tensor * mask, float scale) const {
    const bool fused = !schedule->composed_score &&
        (!schedule->backend || illava_backend_has_score(schedule->backend, q, k, mask));
    return !fused
        ? ggml_attn_score_composed(ctx, q, k, mask, scale)
        : ggml_attn_score         (ctx, q, k, mask, scale);
}

ggml_tensor * illava_merger::score(ggml_context * ctx, ggml_tensor * q, ggml_tensor * k, ggml_tensor * mask, float scale) {
    GGML_ASSERT(!mask || schedule->protected_rows == 0);
    if (schedule->class_asks()) {
        q = some_queries(ctx, q, q->ne[1] - 1, 1);
    }
    ggml_tensor * sum = nullptr;
    if (mask) {
        sum = received(ctx, q, k, counts_sizes() ? weighed(ctx, mask) : mask, scale);
    } else if (counts_sizes()) {
        const int64_t n_rows = q->ne[1], piece = queries_of_piece(k->ne[1]);
        for (int64_t first = 0; first < n_rows; first += piece) {
            const int64_t n    = std::min(piece, n_rows - first);
            ggml_tensor * part = received(ctx, some_queries(ctx, q, first, n), k, size_mask(ctx, n), scale);
            sum = sum ? ggml_add(ctx, sum, part) : part;
        }
    } else {
        sum = received(ctx, q, k, nullptr, scale);
    }

    const int64_t n_rows = sum->ne[0] - schedule->protected_rows;
    if (schedule->protected_rows > 0) {
        sum = ggml_view_1d(ctx, sum, n_rows, 0);
    }
    if (schedule->unit_rows > 1) {
        sum = ggml_reshape_2d(ctx, sum, schedule->unit_rows, n_rows / schedule->unit_rows);
        sum = ggml_sum_rows(ctx, sum);
        sum = ggml_reshape_1d(ctx, sum, n_rows / schedule->unit_rows);
    }
    return sum;
}

ggml_tensor * illava_merger::merge(ggml_context * ctx, int il, ggml_tensor * x, int64_t & n_pos, ggml_tensor ** beside) {
    const auto * step = step_at(il);
    if (!step) {
        return x;
    }
    GGML_ASSERT(attended == il && "attend() comes first");
    GGML_ASSERT(ggml_is_contiguous(x) && x->ne[1] == n_pos);

    const int64_t n_embd      = x->ne[0];
    const int64_t unit        = schedule->unit_rows;
    const int64_t n_protected = schedule->protected_rows;
    const int64_t n_in        = x->ne[1] - n_protected;
    const int64_t n_out       = n_in - step->r;

    merged  = il;
    n_units = n_in / unit;

    // one unit is one row of [unit * n_embd]: patch k of a group meets patch k of the others
    ggml_tensor * units = ggml_view_2d(ctx, x, n_embd * unit, n_units, x->nb[1] * unit, 0);
    ggml_tensor * rows  = units;
    if (beside && *beside) {
        rows = ggml_concat(ctx, ggml_cont(ctx, units), ggml_reshape_2d(ctx, *beside, (*beside)->ne[0], n_units), 0);
    }
    ggml_tensor * y = reduce(ctx, *step, rows, units);
    if (rows != units) {
        ggml_tensor * all = y;
        y       = ggml_cont(ctx, ggml_view_2d(ctx, all, units->ne[0], all->ne[1], all->nb[1], 0));
        *beside = ggml_cont(ctx, ggml_view_2d(ctx, all, all->ne[0] - units->ne[0], all->ne[1], all->nb[1], units->ne[0] * all->nb[0]));
    }
    const illava_merge_names names(step->layer);
    ggml_set_name(x, names.entering);
    ggml_set_name(y, names.merged);
    if (schedule->count_sizes) {
        weigh_from_here(ctx);
    }
    if (schedule->pool_side > 0) {
        places = places ? ggml_reshape_1d(ctx, ggml_get_rows(ctx, ggml_reshape_2d(ctx, places, 1, n_units), kept), kept->ne[0]) : kept;
    }
    y = ggml_reshape_2d(ctx, y, n_embd, n_out);

    if (n_protected > 0) {
        y = ggml_concat(ctx, y, ggml_view_2d(ctx, x, n_embd, n_protected, x->nb[1], x->nb[1] * n_in), 1);
    }
    n_pos = n_out + n_protected;
    return y;
}

illava_held_tensors * illava_merger::held_units(ggml_context * ctx) {
    if (schedule->held.empty()) {
        return nullptr;
    }
    if (!held.flags) {
        held = { ggml_new_tensor_1d(ctx, GGML_TYPE_F32, n_units), std::count(schedule->held.begin(), schedule->held.end(), 0.0f) };
        ggml_set_name(held.flags, illava_merge_held);
        ggml_set_input(held.flags);
    }
    return &held;
}

// f32 [d * unit's rows, n_units]: row k of a unit is compared with row k of the others
ggml_tensor * illava_merger::key_features(ggml_context * ctx) const {
    const int64_t unit = schedule->unit_rows;
    ggml_tensor * features = illava_build_key_features(ctx, keys, n_units * unit);
    return unit == 1 ? features : ggml_reshape_2d(ctx, features, features->ne[0] * unit, n_units);
}

ggml_tensor * illava_merger::reduce(ggml_context * ctx, const illava_merge_step & step, ggml_tensor * rows, ggml_tensor * units) {
    const illava_merge_names names(step.layer);
    const int64_t r     = step.r / schedule->unit_rows;
    const int64_t n_out = n_units - r;

    switch (schedule->strategy) {
        case ILLAVA_STRATEGY_MERGE:
        case ILLAVA_STRATEGY_PRUNE: {
            const illava_plan_tensors plan = illava_build_plan(ctx, scores, r);
            kept = plan.kept;
            keep(plan.kept, names.kept);
            if (schedule->strategy == ILLAVA_STRATEGY_PRUNE) {
                return ggml_get_rows(ctx, rows, kept);
            }
            keep(plan.order, names.order);
            return illava_build_merge(ctx, rows, plan);
        }
        case ILLAVA_STRATEGY_RANDOM:
            // chance needs nothing of the picture: the probe fills it in
            kept = ggml_new_tensor_1d(ctx, GGML_TYPE_I32, n_out);
            ggml_set_name(kept, names.kept);
            ggml_set_input(kept);
            return ggml_get_rows(ctx, rows, kept);
        default:
            break;
    }
    const int64_t unit = schedule->unit_rows;
    if (illava_merge_in_graph(schedule->strategy)) {
        ggml_tensor * features = schedule->rotary_keys ? units : key_features(ctx);
        const illava_place place = schedule->composed_score ? ILLAVA_PLACE_ANY : illava_place_of(schedule->backend);
        const auto alike = schedule->strategy == ILLAVA_STRATEGY_BIPARTITE
            ? illava_build_bipartite(ctx, place, rows, features, sizes, r, held_units(ctx))
            : illava_build_assign   (ctx, place, rows, features, sizes, scores, r);
        for (size_t i = 0; i < alike.matches.size(); i++) {
            const illava_match_names match(step.layer, i);
            keep(alike.matches[i].gone, match.gone);
            keep(alike.matches[i].into, match.into);
        }
        kept  = alike.kept;
        sizes = alike.sizes;
        return alike.x;
    }
    const auto & request = schedule->requests[&step - schedule->steps.data()];
    ggml_tensor * features = schedule->rotary_keys ? units : unit > 1 ? key_features(ctx) : keys;
    ggml_tensor * weighing = schedule->acts_behind() ? scores : nullptr;
    ggml_tensor * groups   = illava_build_groups(ctx, &request, features, n_units, weighing, sizes);
    keep(groups, names.groups);
    kept  = illava_build_survivors  (ctx, groups, n_out);
    sizes = illava_build_group_sizes(ctx, groups, sizes, n_out);
    return illava_build_group_means(ctx, &request, rows, groups, n_out);
}

// The four sections of positions, each a row for every one of n units, gathered alike. Not by ggml_repeat: CUDA repeats
// no integers, and the node would go to the CPU and back.
static ggml_tensor * gather_positions(ggml_context * ctx, ggml_tensor * pos, ggml_tensor * units, int64_t n, int64_t unit) {
    ggml_tensor * sections = ggml_concat(ctx, units, units, 1);
    sections = ggml_concat(ctx, sections, sections, 1);
    ggml_tensor * rows = ggml_get_rows(ctx, ggml_reshape_3d(ctx, pos, unit, n, 4), sections);
    return ggml_reshape_1d(ctx, rows, 4 * units->ne[0] * unit);
}

// Rows and columns of a square of n units a side.
static ggml_tensor * gather_square(ggml_context * ctx, ggml_tensor * square, ggml_tensor * units, int64_t n, int64_t unit) {
    for (int side = 0; side < 2; side++) {
        const int64_t width = square->ne[0];
        ggml_tensor * rows = ggml_get_rows(ctx, ggml_reshape_2d(ctx, square, width * unit, n), units);
        rows   = ggml_reshape_2d(ctx, rows, width, unit * units->ne[0]);
        square = ggml_cont(ctx, ggml_transpose(ctx, rows));
    }
    return square;
}

ggml_tensor * illava_merger::positions(ggml_context * ctx, int il, ggml_tensor * pos) const {
    return merged == il ? gather_positions(ctx, pos, kept, n_units, schedule->unit_rows) : pos;
}

ggml_tensor * illava_merger::mask(ggml_context * ctx, int il, ggml_tensor * mask) const {
    return mask && merged == il ? gather_square(ctx, mask, kept, n_units, schedule->unit_rows) : mask;
}

ggml_tensor * illava_merger::gather(ggml_context * ctx, ggml_tensor * x, int64_t n_x, int64_t n_y) const {
    const int64_t side = schedule->raster_side;
    if (side < 2) {
        return x;
    }
    const int64_t n_embd = x->ne[0], n = n_x * n_y;
    GGML_ASSERT(n_x % side == 0 && n_y % side == 0 && ggml_is_contiguous(x));
    ggml_tensor * y = ggml_view_4d(ctx, x, n_embd * side, n_x / side, side, n_y / side,
        side * x->nb[1], n_x * x->nb[1], side * n_x * x->nb[1], 0);
    y = ggml_cont_2d(ctx, ggml_permute(ctx, y, 0, 2, 1, 3), n_embd, n);
    const int64_t behind = x->ne[1] - n;
    return behind == 0 ? y : ggml_concat(ctx, y, ggml_view_2d(ctx, x, n_embd, behind, x->nb[1], n * x->nb[1]), 1);
}

ggml_tensor * illava_merger::left(ggml_context * ctx, ggml_tensor * numbers, int64_t n_rows) const {
    if (numbers->ne[0] == n_rows) {
        return numbers;
    }
    const int64_t unit = schedule->unit_rows;
    GGML_ASSERT(numbers->ne[0] == n_units * unit && kept->ne[0] * unit == n_rows);
    return ggml_reshape_1d(ctx, ggml_get_rows(ctx, ggml_reshape_2d(ctx, numbers, unit, n_units), kept), n_rows);
}

ggml_tensor * illava_merger::tokens(ggml_context * ctx, ggml_tensor * x, int64_t n_rows) const {
    const int64_t rows = schedule->rows_per_token;
    GGML_ASSERT(n_rows % rows == 0);
    return ggml_cont(ctx, ggml_view_2d(ctx, x, x->ne[0] * rows, n_rows / rows, x->nb[1] * rows, 0));
}

ggml_tensor * illava_merger::pool(ggml_context * ctx, ggml_tensor * x, int64_t n_x, int64_t n_y) const {
    const int64_t side = schedule->pool_side, n_left = x->ne[1], across = n_x / side, down = n_y / side, n = across * down;
    GGML_ASSERT(places && places->ne[0] == n_left && n_x % side == 0 && n_y % side == 0);

    // the square of every patch, then of every row that is left, then a one there and zeros elsewhere
    ggml_tensor * squares = ggml_reshape_4d(ctx, ggml_arange(ctx, 0.0f, (float) n, 1.0f), 1, across, 1, down);
    squares = ggml_reshape_2d(ctx, ggml_repeat_4d(ctx, squares, side, across, side, down), 1, n_x * n_y);
    squares = ggml_reshape_1d(ctx, ggml_get_rows(ctx, squares, places), n_left);
    ggml_tensor * ones = ggml_diag(ctx, ggml_scale_bias(ctx, ggml_arange(ctx, 0.0f, (float) n, 1.0f), 0.0f, 1.0f));
    ggml_tensor * in   = ggml_get_rows(ctx, ones, ggml_cast(ctx, squares, GGML_TYPE_I32)); // [n, n_left]
    in = ggml_cont(ctx, ggml_transpose(ctx, in));

    ggml_tensor * sums   = ggml_mul_mat(ctx, ggml_cont(ctx, ggml_transpose(ctx, x)), in); // [n_embd, n]
    ggml_tensor * counts = ggml_clamp(ctx, ggml_sum_rows(ctx, in), 1.0f, (float) (side * side));
    return ggml_div(ctx, sums, counts);
}

void illava_merger::leave_windows(
        ggml_context * ctx, ggml_tensor * order, ggml_tensor *& x, ggml_tensor *& pos, ggml_tensor *& mask) const {
    const int64_t n_embd = x->ne[0], n = order->ne[0], group = x->ne[1] / n;
    x    = ggml_get_rows(ctx, ggml_reshape_2d(ctx, x, n_embd * group, n), order);
    x    = ggml_reshape_2d(ctx, x, n_embd, group * n);
    pos  = gather_positions(ctx, pos, order, n, group);
    mask = gather_square(ctx, mask, order, n, group);
}

std::shared_ptr<illava_merger> illava_make_merger(const illava_merge_schedule_ptr & schedule) {
    return schedule ? std::make_shared<illava_merger>(schedule) : nullptr;
}
