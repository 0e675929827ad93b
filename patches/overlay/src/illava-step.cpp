#include "illava-step.h"

#include "illava-status.h"

#include <cstring>

void illava_show_step(const illava_step_trace & step, illava_step * out) {
    illava_check_size("illava_step", out->size, sizeof(*out));
    out->span          = step.span;
    out->layer         = step.layer;
    out->n_in          = step.n_in;
    out->n_out         = (int32_t) step.kept.size();
    out->scores        = step.scores.data();
    out->kept          = step.kept.data();
    out->merged        = step.merged.data();
    out->into          = step.into;
    out->n_scores      = (int32_t) step.scores.size();
    out->n_merged      = (int32_t) step.merged.size();
    out->n_groups      = (int32_t) step.groups.lengths.size();
    out->group_lengths = step.groups.lengths.data();
    out->group_members = step.groups.members.data();
}

enum illava_strategy illava_check_strategy(const enum illava_strategy * value, enum illava_strategy last) {
    // reading a number that the enum does not name is undefined in C++
    static_assert(sizeof(*value) == sizeof(int32_t), "an enum of C");
    int32_t strategy;
    std::memcpy(&strategy, value, sizeof(strategy));
    if (strategy < ILLAVA_STRATEGY_MERGE || strategy > last) {
        illava_fail(ILLAVA_BAD_ARG, "strategy %d: this half of the model takes 0 to %d", strategy, (int) last);
    }
    return (enum illava_strategy) strategy;
}
