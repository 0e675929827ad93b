// An encoder's weights in the layout that the CPU's matrix kernels read fastest.

#pragma once

#include "ggml-backend.h"
#include "ggml-cpp.h"

#include <vector>

// Allocates weights of `ctx` in the extra buffer types of the CPU device (ggml's repack, AMX and the like),
// as llama_model does with the text model's. It takes those that `graph` uses for nothing but matrix products
// which such a buffer type supports. Setting their data converts them. The products of a repacked weight
// round otherwise than those of the weight as stored, and its data cannot be read back.
//
// Returns the buffers, none if `backend` is no CPU or has no kernel for these weights. The caller allocates
// the rest of `ctx`.
std::vector<ggml_backend_buffer_ptr> illava_repack_weights(ggml_context * ctx, ggml_cgraph * graph, ggml_backend_t backend);
