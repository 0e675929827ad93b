// Layers at which a context merges visual tokens, and the size of each segment of its cache.

#pragma once

#include "illava.h"

struct llama_cparams;

// Takes the merge layers and the cells of each segment from the context's parameters. Throws illava_error for a
// layer the model does not have or an architecture whose graph cannot be cut.
void llama_set_merge_layers(llama_cparams & cparams, const llama_context_params & params, const llama_model & model);
