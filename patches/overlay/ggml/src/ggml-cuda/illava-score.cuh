#pragma once

// GGML_OP_ATTN_SCORE on CUDA (ggml-illava.h says what it computes).

#include "common.cuh"

void ggml_cuda_op_attn_score(ggml_backend_cuda_context & ctx, ggml_tensor * dst);

// Claims what ggml_cuda_op_attn_score computes on that device, no more.
bool ggml_cuda_attn_score_supported(int device, const ggml_tensor * dst);
