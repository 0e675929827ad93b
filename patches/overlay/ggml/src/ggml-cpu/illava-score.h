#pragma once

// CPU kernel of GGML_OP_ATTN_SCORE (see ggml-illava.h for what it computes).

#include "ggml.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ggml_compute_params;

void ggml_compute_forward_attn_score(const struct ggml_compute_params * params, struct ggml_tensor * dst);

// Bytes of the work buffer for n_tasks threads.
size_t ggml_attn_score_work_size(const struct ggml_tensor * dst, int n_tasks);

#ifdef __cplusplus
}
#endif
