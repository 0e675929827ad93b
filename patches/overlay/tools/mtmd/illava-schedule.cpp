// A caller's parameters as the schedule of one tile.

#include "illava-vision.h"

#include "../../src/illava-status.h"

#include <algorithm>
#include <cstring>
#include <iterator>

illava_merge_schedule_ptr illava_make_schedule(
        const illava_vision & vision, int64_t n_patches, const illava_encode_params & params) {
    // a C caller can put any number there; reading it as the enum would already be undefined
    static_assert(sizeof(params.grid) == sizeof(int32_t), "an enum of C");
    int32_t grid;
    memcpy(&grid, &params.grid, sizeof(grid));
    if (grid != ILLAVA_GRID_FAITHFUL && grid != ILLAVA_GRID_REFERENCE) {
        illava_fail(ILLAVA_BAD_ARG, "grid = %d: 0 (faithful) or 1 (reference)", grid);
    }
    const enum illava_strategy strategy = illava_check_strategy(&params.strategy, /*decoder =*/ false);
    int32_t score;
    memcpy(&score, &params.score, sizeof(score));
    if (score != ILLAVA_TOWER_SCORE_RECEIVED && score != ILLAVA_TOWER_SCORE_CLASS) {
        illava_fail(ILLAVA_BAD_ARG, "score = %d: 0 (attention received) or 1 (the class token's attention)", score);
    }
    if (params.n_steps == 0) {
        return nullptr;
    }
    illava_require(params.steps, "steps");
    // ahead of all bounds, which say nothing about an encoder without layers
    if (const char * reason = vision.why_no_merge()) {
        illava_fail(ILLAVA_UNSUPPORTED, "the image encoder (%s) cannot merge tokens: %s", vision.projector.c_str(), reason);
    }
    if (strategy == ILLAVA_STRATEGY_SPARSEVLM) {
        illava_fail(ILLAVA_BAD_ARG, "strategy %d (sparsevlm) acts in the language model; take another in the image encoder", (int) strategy);
    }
    if (score == ILLAVA_TOWER_SCORE_CLASS && !vision.model().class_embedding) {
        illava_fail(ILLAVA_UNSUPPORTED, "score = 1: the image encoder (%s) has no class token; rank by attention received, 0",
            vision.projector.c_str());
    }
    if (params.count_sizes && !illava_strategy_counts(strategy)) {
        illava_fail(ILLAVA_BAD_ARG, "count_sizes: strategy %d keeps no sizes; take bipartite, kmeans, greedy or assign", (int) strategy);
    }

    if (params.held && strategy != ILLAVA_STRATEGY_BIPARTITE) {
        illava_fail(ILLAVA_BAD_ARG, "held: strategy %d holds no patches; take bipartite", (int) strategy);
    }

    auto schedule = std::make_shared<illava_merge_schedule>();
    schedule->steps.assign(params.steps, params.steps + params.n_steps);
    schedule->rows_per_token = vision.group();
    schedule->unit_rows      = grid == ILLAVA_GRID_FAITHFUL ? vision.group() : 1;
    schedule->protected_rows = vision.model().class_embedding ? 1 : 0;
    schedule->strategy       = strategy;
    schedule->seed           = params.seed;
    schedule->n_layer        = vision.n_layer_run();
    schedule->first_layer    = vision.first_layer();
    schedule->pool_side      = vision.pool_side();
    schedule->raster_side    = vision.raster_side();
    schedule->rotary_keys    = vision.has_rotary_keys();
    schedule->composed_score = params.composed_score;
    schedule->class_scores   = score == ILLAVA_TOWER_SCORE_CLASS;
    schedule->count_sizes    = params.count_sizes;
    schedule->backend        = vision.parts.backend;

    // a step of r = 0 is checked like any other and then leaves no node behind
    illava_merge_check(*schedule, n_patches);
    auto & steps = schedule->steps;
    steps.erase(std::remove_if(steps.begin(), steps.end(), [](const illava_merge_step & step) { return step.r == 0; }), steps.end());
    if (steps.empty()) {
        return nullptr;
    }
    if (grid == ILLAVA_GRID_REFERENCE && vision.model().n_deepstack_layers > 0) {
        illava_fail(ILLAVA_UNSUPPORTED, "grid = 1: the image encoder (%s) gives features of earlier layers for whole groups of patches; "
            "take 0, in which groups stay whole", vision.projector.c_str());
    }
    if (grid == ILLAVA_GRID_REFERENCE && vision.pool_side() > 0) {
        illava_fail(ILLAVA_UNSUPPORTED, "grid = 1: the projector (%s) averages patches where they stand; take 0, in which they stay there",
            vision.projector.c_str());
    }
    if (params.held) {
        const size_t n_units = size_t(n_patches / schedule->unit_rows);
        if (params.n_held != n_units) {
            illava_fail(ILLAVA_BAD_ARG, "n_held = %zu: the tile has %zu patches or groups", params.n_held, n_units);
        }
        std::transform(params.held, params.held + n_units, std::back_inserter(schedule->held), [](uint8_t flag) { return flag ? 1.0f : 0.0f; });
    }
    if (illava_strategy_groups(strategy)) {
        for (const auto & step : steps) {
            schedule->requests.push_back({ strategy, step.r / schedule->unit_rows });
        }
    }
    return schedule;
}
