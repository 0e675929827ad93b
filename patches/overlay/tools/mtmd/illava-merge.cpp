#include "illava-merge.h"

#include "ggml-illava.h"
#include "../../src/illava-status.h"

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

void illava_merge_check(const illava_merge_schedule & schedule, int64_t n_rows, int32_t n_layer) {
    const int32_t unit = schedule.unit_rows;

    int64_t left = n_rows;
    int32_t last = -1;

    for (const auto & step : schedule.steps) {
        if (step.layer < 0 || step.layer >= n_layer) {
            illava_fail(ILLAVA_BAD_ARG, "merge layer %d: the image encoder runs layers 0 to %d", step.layer, n_layer - 1);
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
    if (!step_at(il)) {
        return;
    }
    const bool fused = !schedule->composed_score &&
        (!schedule->backend || illava_backend_has_score(schedule->backend, q, k, mask));
    ggml_tensor * received = !fused
        ? ggml_attn_score_composed(ctx, q, k, mask, scale)
        : ggml_attn_score         (ctx, q, k, mask, scale);

    const int64_t n_rows = received->ne[0] - schedule->protected_rows;
    if (schedule->protected_rows > 0) {
        received = ggml_view_1d(ctx, received, n_rows, 0);
    }
    if (schedule->unit_rows > 1) {
        received = ggml_reshape_2d(ctx, received, schedule->unit_rows, n_rows / schedule->unit_rows);
        received = ggml_sum_rows(ctx, received);
        received = ggml_reshape_1d(ctx, received, n_rows / schedule->unit_rows);
    }
    keep(received, illava_merge_names(il).scores);

    scores = received;
    scored = il;
}

ggml_tensor * illava_merger::merge(ggml_context * ctx, int il, ggml_tensor * x, int64_t & n_pos) {
    const auto * step = step_at(il);
    if (!step) {
        return x;
    }
    GGML_ASSERT(scored == il && "attend() comes first");
    GGML_ASSERT(ggml_is_contiguous(x) && x->ne[1] == n_pos);

    const int64_t n_embd      = x->ne[0];
    const int64_t unit        = schedule->unit_rows;
    const int64_t n_protected = schedule->protected_rows;
    const int64_t n_in        = x->ne[1] - n_protected;
    const int64_t n_out       = n_in - step->r;

    plan   = illava_build_plan(ctx, scores, step->r / unit);
    merged = il;
    keep(plan.kept,  illava_merge_names(il).kept);
    keep(plan.order, illava_merge_names(il).order);

    // one unit is one row of [unit * n_embd]: patch k of a group meets patch k of the others
    ggml_tensor * units = ggml_view_2d(ctx, x, n_embd * unit, n_in / unit, x->nb[1] * unit, 0);
    ggml_tensor * y     = illava_build_merge(ctx, units, plan);
    y = ggml_reshape_2d(ctx, y, n_embd, n_out);

    if (n_protected > 0) {
        y = ggml_concat(ctx, y, ggml_view_2d(ctx, x, n_embd, n_protected, x->nb[1], x->nb[1] * n_in), 1);
    }
    n_pos = n_out + n_protected;
    return y;
}

ggml_tensor * illava_merger::positions(ggml_context * ctx, int il, ggml_tensor * pos) const {
    if (merged != il) {
        return pos;
    }
    const int64_t unit    = schedule->unit_rows;
    const int64_t n_units = scores->ne[0];
    const int64_t n_kept  = plan.kept->ne[0];

    // The four sections are gathered alike. Not by ggml_repeat: CUDA repeats no integers, and the node would
    // go to the CPU and back.
    ggml_tensor * kept = ggml_concat(ctx, plan.kept, plan.kept, 1);
    kept = ggml_concat(ctx, kept, kept, 1);
    ggml_tensor * rows = ggml_get_rows(ctx, ggml_reshape_3d(ctx, pos, unit, n_units, 4), kept);
    return ggml_reshape_1d(ctx, rows, 4 * n_kept * unit);
}

std::shared_ptr<illava_merger> illava_make_merger(const illava_merge_schedule_ptr & schedule) {
    return schedule ? std::make_shared<illava_merger>(schedule) : nullptr;
}
