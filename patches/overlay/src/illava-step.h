// One step of either half as it happened, and how the C boundary shows it.

#pragma once

#include "illava-groups.h"
#include "illava.h"

#include <cstdint>
#include <vector>

// Indices are original ones: units of the tile in the encoder, rows of the span in the decoder.
struct illava_step_trace {
    int32_t span  = 0;
    int32_t layer = 0;
    int32_t n_in  = 0;
    int32_t into  = -1; // as in illava_step

    std::vector<float>   scores; // [n_in], or empty
    std::vector<int32_t> kept;   // [n_out], ascending
    std::vector<int32_t> merged; // as in illava_step
    std::vector<float>   sizes;  // [n_out], or empty
    illava_group_lists   groups;
};

// `out` points into `step` afterwards.
void illava_show_step(const illava_step_trace & step, illava_step * out);

// The strategy a caller named, who may have put any number there. Throws illava_error (ILLAVA_BAD_ARG) for one that
// there is not, or, in the decoder, for one that acts behind the encoder.
enum illava_strategy illava_check_strategy(const enum illava_strategy * value, bool decoder);
