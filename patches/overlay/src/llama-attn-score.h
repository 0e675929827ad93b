// The graph node that reads attention received out of one layer's attention.

#pragma once

#include "llama-segment.h"

#include "ggml-backend.h"
#include "ggml.h"

// Adds up, for every cell of the cache, the softmaxed attention weights it receives from the query rows `rows`,
// over all heads. The caller divides by the number of heads and rows.
//
//   q       [n_embd_head, n_head, n_tokens]           f32, rotated as the keys are
//   k       [n_embd_head, n_head_kv, n_kv]            as stored: f32, f16, bf16 or quantised
//   kq_mask [n_kv, n_tokens]                          f32 or f16, -inf where a key is not seen
//   result  [n_kv]                                    f32
//
// The fused op runs where every backend of the scheduler has it for these operands; otherwise, or when `composed` asks for it, the
// same sum is composed of stock ops.
ggml_tensor * llama_build_attn_score(
        ggml_context * ctx,
        ggml_backend_sched_t sched,
        ggml_tensor * q,
        ggml_tensor * k,
        ggml_tensor * kq_mask,
        float kq_scale,
        const llama_score_rows & rows,
        bool composed);

// Features by which tokens are alike: the layer's keys before their positions turn them, summed over the heads. Only
// directions count, so the sum serves as well as the mean.
//
//   k       [n_embd_head, n_head_kv, n_tokens]        f32, as attention takes them
//   result  [n_embd_head, n_tokens]                   f32
ggml_tensor * llama_build_key_features(ggml_context * ctx, ggml_tensor * k);
