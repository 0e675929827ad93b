#pragma once

// The attention-received score (ggml-illava.h) on Metal: kernels/attn_score.metal, dispatched.

#include "ggml-metal-device.h"
#include "ggml-metal-impl.h"

#ifdef __cplusplus
extern "C" {
#endif

// Whether the kernels take this node. `op` is a GGML_OP_ATTN_SCORE; bf16 keys are for the caller to
// rule out where the device has no such type.
bool illava_metal_score_supported(const struct ggml_tensor * op, bool has_simdgroup_mm, bool has_simdgroup_reduction);

// Bytes behind the node's result that its dispatches pass their intermediate values in.
size_t illava_metal_score_scratch(const struct ggml_tensor * op);

// Encodes the node. `barrier` is called where what follows reads what came before.
void illava_metal_score_encode(
        ggml_metal_library_t       lib,
        ggml_metal_encoder_t       enc,
        const struct ggml_tensor * op,
        void (* barrier)(void * context),
        void                     * context);

#ifdef __cplusplus
}
#endif
