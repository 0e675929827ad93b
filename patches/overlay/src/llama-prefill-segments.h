// Prefill with merging: rows of one sequence go through the decoder segment by segment, and between two segments
// the least attended rows of each visual span are folded into one.

#pragma once

#include "illava.h"

#include <cstdint>
#include <vector>

struct llama_cparams;
struct llama_model;

// One merge step as it happened. Indices name rows of the span as it entered the call.
struct llama_merge_step {
    int32_t span;
    int32_t layer;
    int32_t into;

    std::vector<float>   scores;   // [n_in]
    std::vector<int32_t> kept;     // [n_out]
    std::vector<int32_t> merged;   // [r + 1]
    std::vector<float>   residual; // [n_out, n_embd], only if the call keeps it
};

// Takes the merge layers and the cells of each segment from the context's parameters. Throws illava_error for a
// layer the model does not have or an architecture whose graph cannot be cut.
void llama_set_merge_layers(llama_cparams & cparams, const llama_context_params & params, const llama_model & model);
