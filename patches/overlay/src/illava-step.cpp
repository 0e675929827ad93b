#include "illava-step.h"

#include "illava-status.h"

#include <cstring>

void illava_show_step(const illava_step_trace & step, illava_step * out) {
    illava_step shown = {};
    shown.span          = step.span;
    shown.layer         = step.layer;
    shown.n_in          = step.n_in;
    shown.n_out         = (int32_t) step.kept.size();
    shown.scores        = step.scores.data();
    shown.kept          = step.kept.data();
    shown.merged        = step.merged.data();
    shown.into          = step.into;
    shown.n_scores      = (int32_t) step.scores.size();
    shown.n_merged      = (int32_t) step.merged.size();
    shown.n_groups      = (int32_t) step.groups.lengths.size();
    shown.group_lengths = step.groups.lengths.data();
    shown.group_members = step.groups.members.data();
    shown.sizes         = step.sizes.empty() ? nullptr : step.sizes.data();
    illava_give("illava_step", out, shown);
}

enum illava_strategy illava_check_strategy(const enum illava_strategy * value, bool decoder) {
    // reading a number that the enum does not name is undefined in C++
    static_assert(sizeof(*value) == sizeof(int32_t), "an enum of C");
    int32_t strategy;
    std::memcpy(&strategy, value, sizeof(strategy));
    if (strategy < ILLAVA_STRATEGY_MERGE || strategy > ILLAVA_STRATEGY_SPARSEVLM) {
        illava_fail(ILLAVA_BAD_ARG, "strategy %d: there are 0 to %d", strategy, (int) ILLAVA_STRATEGY_SPARSEVLM);
    }
    if (decoder && (strategy == ILLAVA_STRATEGY_PRUMERGE || strategy == ILLAVA_STRATEGY_VISIONZIP)) {
        illava_fail(ILLAVA_BAD_ARG, "strategy %d (%s) acts behind the image encoder; take another in the language model", strategy,
            strategy == ILLAVA_STRATEGY_PRUMERGE ? "prumerge" : "visionzip");
    }
    return (enum illava_strategy) strategy;
}
