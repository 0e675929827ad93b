#pragma once

// Attention received: how much softmaxed attention the keys of one layer get.
//
//   s[i] = sum over heads h and queries j of softmax_i(scale * q[:,j,h] . k[:,i,h/g] + mask[i,j])
//
// with g = n_head / n_head_kv query heads to one key head. The result is a sum; dividing it by
// n_head * n_q gives the score of the iLLaVA paper. A query that sees no key at all (its mask row
// is -inf throughout) adds nothing.
//
//   q     f32  [d, n_q, n_head]       rows contiguous, any other strides (what ggml_flash_attn_ext takes)
//   k     any  [d, n_kv, n_head_kv]   rows contiguous, any other strides; n_head % n_head_kv == 0
//   mask  f32 or f16 [n_kv, >= n_q], contiguous, or NULL
//   ->    f32  [n_kv]

#include "ggml.h"

#ifdef __cplusplus
extern "C" {
#endif

// One fused node. The CPU backend computes it; ask illava_backend_has_score() before giving it to
// another one.
GGML_API struct ggml_tensor * ggml_attn_score(
        struct ggml_context * ctx,
        struct ggml_tensor  * q,
        struct ggml_tensor  * k,
        struct ggml_tensor  * mask,
        float                 scale);

// The same value out of operations that every backend has. The softmax map is made and summed in pieces: a
// range of queries by a range of heads. Its memory therefore does not grow with n_q.
GGML_API struct ggml_tensor * ggml_attn_score_composed(
        struct ggml_context * ctx,
        struct ggml_tensor  * q,
        struct ggml_tensor  * k,
        struct ggml_tensor  * mask,
        float                 scale);

// Lets this library's kernels compute an attention in bf16 (see illava_use_own_kernels()), if the products around it are in
// bf16 anyway: `weight`, a matrix of the same layer, is BF16, or F16 with values that bf16 holds, as in files of checkpoints in
// bf16. A null weight or one on another device changes nothing. `attention` may be a concatenation of attentions.
GGML_API void illava_attention_like(struct ggml_tensor * attention, const struct ggml_tensor * weight);

// Whether it was let.
GGML_API bool illava_attention_in_bf16(const struct ggml_tensor * attention);

#ifdef __cplusplus
}
#endif
