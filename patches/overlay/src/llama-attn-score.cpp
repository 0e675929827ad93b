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
        const llama_score_rows & rows,
        bool composed) {
    // a merging call serves one sequence, so there is one stream
    GGML_ASSERT(k->ne[3] == 1 && kq_mask->ne[3] == 1);

    k = ggml_permute(ctx, k, 0, 2, 1, 3);

    ggml_tensor * sum = nullptr;
    for (const auto & [first, n] : rows) {
        ggml_tensor * q_run    = ggml_view_3d(ctx, q, q->ne[0], q->ne[1], n, q->nb[1], q->nb[2], first*q->nb[2]);
        ggml_tensor * mask_run = ggml_view_2d(ctx, kq_mask, kq_mask->ne[0], n, kq_mask->nb[1], first*kq_mask->nb[1]);

        q_run = ggml_permute(ctx, q_run, 0, 2, 1, 3);

        ggml_tensor * part = composed || !all_backends_have_score(sched, q_run, k, mask_run) ?
            ggml_attn_score_composed(ctx, q_run, k, mask_run, kq_scale) :
            ggml_attn_score         (ctx, q_run, k, mask_run, kq_scale);
        sum = sum ? ggml_add(ctx, sum, part) : part;
    }
    return sum;
}

ggml_tensor * llama_build_key_features(ggml_context * ctx, ggml_tensor * k) {
    if (k->op == GGML_OP_ROPE) {
        k = k->src[0];
    }
    ggml_tensor * sum = ggml_sum_rows(ctx, ggml_cont(ctx, ggml_permute(ctx, k, 1, 0, 2, 3)));
    return ggml_reshape_2d(ctx, sum, k->ne[0], k->ne[2]);
}
