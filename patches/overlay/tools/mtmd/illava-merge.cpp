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
    return schedule ? n_tokens - n_removed(*schedule) / schedule->rows_per_token : n_tokens;
}

void illava_merge_check(const illava_merge_schedule & schedule, int64_t n_rows) {
    const int32_t unit  = schedule.unit_rows;
    const bool    after = schedule.strategy == ILLAVA_STRATEGY_PRUMERGE;
    const int32_t first = after ? schedule.n_layer : 0;
    const int32_t final = after ? schedule.n_layer : schedule.n_layer - 1;

    int64_t left = n_rows;
    int32_t last = -1;

    for (const auto & step : schedule.steps) {
        if (step.layer < first || step.layer > final) {
            illava_fail(ILLAVA_BAD_ARG, "merge layer %d: the image encoder runs layers 0 to %d%s", step.layer, schedule.n_layer - 1,
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

ggml_tensor * illava_merger::flash_attn(ggml_context * ctx, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v, float scale) {
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
    mask_rows = nullptr;
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
    GGML_ASSERT(!mask); // windows do not merge
    if (schedule->class_asks()) {
        q = some_queries(ctx, q, q->ne[1] - 1, 1);
    }
    ggml_tensor * sum = nullptr;
    if (counts_sizes()) {
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

ggml_tensor * illava_merger::merge(ggml_context * ctx, int il, ggml_tensor * x, int64_t & n_pos) {
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
    ggml_tensor * y     = reduce(ctx, *step, units);
    const illava_merge_names names(step->layer);
    ggml_set_name(x, names.entering);
    ggml_set_name(y, names.merged);
    if (schedule->count_sizes) {
        weigh_from_here(ctx);
    }
    y = ggml_reshape_2d(ctx, y, n_embd, n_out);

    if (n_protected > 0) {
        y = ggml_concat(ctx, y, ggml_view_2d(ctx, x, n_embd, n_protected, x->nb[1], x->nb[1] * n_in), 1);
    }
    n_pos = n_out + n_protected;
    return y;
}

ggml_tensor * illava_merger::reduce(ggml_context * ctx, const illava_merge_step & step, ggml_tensor * units) {
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
                return ggml_get_rows(ctx, units, kept);
            }
            keep(plan.order, names.order);
            return illava_build_merge(ctx, units, plan);
        }
        case ILLAVA_STRATEGY_RANDOM:
            // chance needs nothing of the picture: the probe fills it in
            kept = ggml_new_tensor_1d(ctx, GGML_TYPE_I32, n_out);
            ggml_set_name(kept, names.kept);
            ggml_set_input(kept);
            return ggml_get_rows(ctx, units, kept);
        default:
            break;
    }
    if (illava_merge_in_graph(schedule->strategy)) {
        ggml_tensor * features = schedule->rotary_keys ? units : illava_build_key_features(ctx, keys, n_units);
        const illava_place place = schedule->composed_score ? ILLAVA_PLACE_ANY : illava_place_of(schedule->backend);
        const auto alike = schedule->strategy == ILLAVA_STRATEGY_BIPARTITE
            ? illava_build_bipartite(ctx, place, units, features, sizes, r)
            : illava_build_assign   (ctx, place, units, features, sizes, scores, r);
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
    ggml_tensor * features = schedule->rotary_keys ? units : keys;
    ggml_tensor * weighing = schedule->strategy == ILLAVA_STRATEGY_PRUMERGE ? scores : nullptr;
    ggml_tensor * groups   = illava_build_groups(ctx, &request, features, n_units, weighing, sizes);
    keep(groups, names.groups);
    kept  = illava_build_survivors  (ctx, groups, n_out);
    sizes = illava_build_group_sizes(ctx, groups, sizes, n_out);
    return illava_build_group_means(ctx, units, groups, n_out);
}

ggml_tensor * illava_merger::positions(ggml_context * ctx, int il, ggml_tensor * pos) const {
    if (merged != il) {
        return pos;
    }
    const int64_t unit   = schedule->unit_rows;
    const int64_t n_kept = kept->ne[0];

    // The four sections are gathered alike. Not by ggml_repeat: CUDA repeats no integers, and the node would
    // go to the CPU and back.
    ggml_tensor * sections = ggml_concat(ctx, kept, kept, 1);
    sections = ggml_concat(ctx, sections, sections, 1);
    ggml_tensor * rows = ggml_get_rows(ctx, ggml_reshape_3d(ctx, pos, unit, n_units, 4), sections);
    return ggml_reshape_1d(ctx, rows, 4 * n_kept * unit);
}

std::shared_ptr<illava_merger> illava_make_merger(const illava_merge_schedule_ptr & schedule) {
    return schedule ? std::make_shared<illava_merger>(schedule) : nullptr;
}
