// Private parts of a context that a merging prefill needs, all of them in one place: the friend that
// patches/llama-context-prefill.patch declares.

#pragma once

#include "llama-context.h"
#include "llama-kv-segments.h"

class llama_context_parts {
public:
    explicit llama_context_parts(llama_context & ctx) : ctx(ctx) {}

    const llama_model   & model()   const { return ctx.model; }
    const llama_cparams & cparams() const { return ctx.cparams; }
    llama_memory_i      & memory()  const { return *ctx.memory; }

    size_t n_cuts() const { return ctx.cparams.merge_layers.size(); }

    bool is_segmented() const { return !ctx.cparams.merge_n_ctx.empty(); }

    // the memory of a context that is segmented
    llama_kv_segments & segments() const { return static_cast<llama_kv_segments &>(*ctx.memory); }

    // Forgets what a decode() has left behind, and makes room for one row of logits; false without memory for it.
    bool prepare(bool composed_score) const;

    // Computes the ubatch of `mctx`; `output`: its last row gives logits. Null on failure, which `status` names.
    llm_graph_result * compute(llama_kv_segments_context & mctx, bool output, ggml_status & status) const;

    // the row that prepare() made room for
    float * logits() const { return ctx.logits.data; }

    int      decode(const llama_batch & batch) const { return ctx.decode(batch); }
    uint32_t n_ctx() const { return ctx.n_ctx(); }
    void     set_causal_attn(bool value) const { ctx.set_causal_attn(value); }

private:
    llama_context & ctx;
};
