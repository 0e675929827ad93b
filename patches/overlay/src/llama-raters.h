// The text rows whose attention ranks visual tokens.

#pragma once

#include "illava.h"

#include <vector>

struct llama_model;

// [n_rows] for ILLAVA_SCORE_QUESTION all text rows behind the last span. For ILLAVA_SCORE_RATERS, SparseVLM's raters
// (Zhang et al., 2024): each visual embedding shares a softmax over its products with the text's embeddings; those whose
// mean share is above the mean rate, or all if none is. Empty for other scores and without spans. Throws illava_error
// (ILLAVA_BAD_ARG) if no text follows.
std::vector<bool> llama_choose_raters(const illava_prefill_params & params, const llama_model & model);
