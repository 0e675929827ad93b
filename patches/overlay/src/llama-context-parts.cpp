#include "llama-context-parts.h"

bool llama_context_parts::prepare(bool composed_score) const {
    ctx.cparams.score_composed = composed_score;
    ctx.embd_seq.clear();
    ctx.output_swaps.clear();
    ctx.embd_batch_idxs.clear();

    ctx.sched_reserve();
    ctx.memory_update(false);

    return ctx.output_reserve(1) >= 1;
}

llm_graph_result * llama_context_parts::compute(llama_kv_segments_context & mctx, bool output, ggml_status & status) const {
    ctx.n_outputs = output;

    auto * res = ctx.process_ubatch(mctx.get_ubatch(), LLM_GRAPH_TYPE_DEFAULT, &mctx, status);
    if (res) {
        ggml_backend_sched_synchronize(ctx.sched.get());
    }
    return res;
}
