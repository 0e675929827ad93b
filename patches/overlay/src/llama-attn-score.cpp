#include "llama-attn-score.h"

#include "ggml-illava.h"
#include "illava-graph.h"

static bool all_backends_have_score(
        ggml_backend_sched_t sched, const ggml_tensor * q, const ggml_tensor * k, const ggml_tensor * mask) {
    for (int i = 0; i < ggml_backend_sched_get_n_backends(sched); ++i) {
        if (!illava_backend_has_score(ggml_backend_sched_get_backend(sched, i), q, k, mask)) {
            return false;
        }
    }
    return true;
}

ggml_tensor * llama_build_attn_score(
        ggml_context * ctx,
        ggml_backend_sched_t sched,
        ggml_tensor * q,
        ggml_tensor * k,
        ggml_tensor * kq_mask,
        float kq_scale,
        llama_score_rows rows,
        bool composed) {
    // a merging call serves one sequence, so there is one stream
    GGML_ASSERT(k->ne[3] == 1 && kq_mask->ne[3] == 1);

    if (rows == LLAMA_SCORE_ROWS_LAST) {
        const int64_t last = q->ne[2] - 1;
        q       = ggml_view_3d(ctx, q, q->ne[0], q->ne[1], 1, q->nb[1], q->nb[2], last*q->nb[2]);
        kq_mask = ggml_view_2d(ctx, kq_mask, kq_mask->ne[0], 1, kq_mask->nb[1], last*kq_mask->nb[1]);
    }

    q = ggml_permute(ctx, q, 0, 2, 1, 3);
    k = ggml_permute(ctx, k, 0, 2, 1, 3);

    return composed || !all_backends_have_score(sched, q, k, kq_mask) ?
        ggml_attn_score_composed(ctx, q, k, kq_mask, kq_scale) :
        ggml_attn_score         (ctx, q, k, kq_mask, kq_scale);
}

ggml_tensor * llama_build_key_features(ggml_context * ctx, ggml_tensor * k) {
    if (k->op == GGML_OP_ROPE) {
        k = k->src[0];
    }
    ggml_tensor * sum = ggml_sum_rows(ctx, ggml_cont(ctx, ggml_permute(ctx, k, 1, 0, 2, 3)));
    return ggml_reshape_2d(ctx, sum, k->ne[0], k->ne[2]);
}
