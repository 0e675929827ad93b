// The decoder's part of the C boundary: contexts with a segmented cache, prefill with merging, and what happened.

#include "illava.h"

#include "illava-status.h"
#include "llama-context.h"
#include "llama-kv-segments.h"
#include "llama-model.h"
#include "llama-prefill-segments.h"

#include <algorithm>
#include <cstring>
#include <memory>

struct illava_trace {
    std::vector<llama_merge_step> steps;
};

// A quantised cache stores whole blocks of a head.
static void check_kv_type(const char * name, ggml_type type, uint32_t n_embd_head) {
    switch (type) {
        case GGML_TYPE_F32:
        case GGML_TYPE_F16:
        case GGML_TYPE_BF16:
        case GGML_TYPE_Q8_0:
        case GGML_TYPE_Q4_0:
        case GGML_TYPE_Q4_1:
        case GGML_TYPE_IQ4_NL:
        case GGML_TYPE_Q5_0:
        case GGML_TYPE_Q5_1:
            break;
        default:
            illava_fail(ILLAVA_BAD_ARG, "%s = %s: a KV cache is f32, f16, bf16, q8_0, q4_0, q4_1, iq4_nl, q5_0 or q5_1",
                    name, type >= 0 && type < GGML_TYPE_COUNT ? ggml_type_name(type) : "?");
    }
    if (n_embd_head % ggml_blck_size(type) != 0) {
        illava_fail(ILLAVA_UNSUPPORTED, "%s = %s: blocks of %lld do not divide this model's head size of %u",
                name, ggml_type_name(type), (long long) ggml_blck_size(type), n_embd_head);
    }
}

// An enum from C may hold any number, and reading a number it does not name is undefined in C++.
template <typename T>
static int32_t number_of(const T & value) {
    static_assert(sizeof(value) == sizeof(int32_t), "an enum of C");
    int32_t number;
    std::memcpy(&number, &value, sizeof(number));
    return number;
}

static void check_threads(const char * name, int32_t n) {
    if (n < 1 || n > GGML_MAX_N_THREADS) {
        illava_fail(ILLAVA_BAD_ARG, "%s = %d: 1 to %d", name, n, GGML_MAX_N_THREADS);
    }
}

static void check_context_params(const illava_context_params & p, const llama_model & model) {
    if (model.hparams.no_alloc) {
        illava_fail(ILLAVA_BAD_ARG, "the model was loaded without its weights: it cannot compute");
    }
    if (p.n_ctx == 0 || p.n_ubatch == 0 || p.n_batch == 0 || p.n_seq_max == 0) {
        illava_fail(ILLAVA_BAD_ARG, "n_ctx %u, n_batch %u, n_ubatch %u, n_seq_max %u: each must be at least 1",
                p.n_ctx, p.n_batch, p.n_ubatch, p.n_seq_max);
    }
    for (uint32_t n : { p.n_ctx, p.n_batch, p.n_ubatch }) {
        if (n > INT32_MAX) {
            illava_fail(ILLAVA_BAD_ARG, "n_ctx %u, n_batch %u, n_ubatch %u: each at most %d", p.n_ctx, p.n_batch, p.n_ubatch, INT32_MAX);
        }
    }
    if (p.n_seq_max > LLAMA_MAX_SEQ) {
        illava_fail(ILLAVA_BAD_ARG, "n_seq_max %u: at most %d", p.n_seq_max, LLAMA_MAX_SEQ);
    }
    if (p.n_seq_max > p.n_ctx) {
        illava_fail(ILLAVA_BAD_ARG, "n_seq_max %u: n_ctx is %u, and each sequence needs a cell", p.n_seq_max, p.n_ctx);
    }
    check_threads("n_threads",       p.n_threads);
    check_threads("n_threads_batch", p.n_threads_batch);
    check_kv_type("type_k", (ggml_type) number_of(p.type_k), model.hparams.n_embd_head_k());
    check_kv_type("type_v", (ggml_type) number_of(p.type_v), model.hparams.n_embd_head_v());
    if (p.flash_attn == 0 && ggml_is_quantized(p.type_v)) {
        illava_fail(ILLAVA_BAD_ARG, "type_v = %s: a quantised V cache needs flash attention", ggml_type_name(p.type_v));
    }
    if (p.n_merge_layers > 0) {
        illava_require(p.merge_layers, "merge_layers");
    }
}

illava_context_params illava_context_default_params(void) {
    const llama_context_params upstream = llama_context_default_params();

    illava_context_params params = {};
    params.size            = sizeof(params);
    params.n_ctx           = 4096;
    params.n_batch         = upstream.n_batch;
    params.n_ubatch        = upstream.n_ubatch;
    params.n_seq_max       = 1;
    params.n_threads       = upstream.n_threads;
    params.n_threads_batch = upstream.n_threads_batch;
    params.flash_attn      = -1;
    params.type_k          = upstream.type_k;
    params.type_v          = upstream.type_v;
    params.offload_kqv     = true;
    params.kv_unified      = true;
    return params;
}

illava_status illava_context_new(llama_model * model, const illava_context_params * given, llama_context ** out) {
    return illava_guard([&] {
        illava_require(out, "out");
        *out = nullptr;
        illava_require(model, "model");
        const auto p = illava_given("illava_context_params", given, illava_context_default_params());
        check_context_params(p, *model);

        llama_context_params params = llama_context_default_params();
        params.n_ctx           = p.n_ctx;
        // a batch has room for a row of each sequence: the library keeps that many outputs, and aborts without
        params.n_batch         = std::max({ p.n_batch, p.n_ubatch, p.n_seq_max });
        params.n_ubatch        = p.n_ubatch;
        params.n_seq_max       = p.n_seq_max;
        // buffers for the logits of every row of a batch would be the largest of all
        params.n_outputs_max   = p.n_seq_max;
        params.n_threads       = p.n_threads;
        params.n_threads_batch = p.n_threads_batch;
        params.flash_attn_type = p.flash_attn < 0 ? LLAMA_FLASH_ATTN_TYPE_AUTO :
                                 p.flash_attn > 0 ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
        params.type_k          = p.type_k;
        params.type_v          = p.type_v;
        params.offload_kqv     = p.offload_kqv;
        params.kv_unified      = p.kv_unified;
        params.merge_layers    = p.merge_layers;
        params.merge_n_ctx     = p.n_ctx_deep;
        params.n_merge_layers  = p.n_merge_layers;
        // cells that stand for several tokens need it, and those may come from the encoder alone
        params.kv_segments     = illava_model_can_merge(model);

        if (params.flash_attn_type == LLAMA_FLASH_ATTN_TYPE_AUTO && ggml_is_quantized(p.type_v)) {
            params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
        }

        // the checks of llama_init_from_model() that matter here stand above, with messages that reach the caller
        *out = new llama_context(*model, params);
    });
}

static const llama_kv_segments * segments_of(const llama_context * ctx) {
    return ctx->get_cparams().merge_n_ctx.empty() ? nullptr : static_cast<const llama_kv_segments *>(ctx->get_memory());
}

static uint64_t sum_bytes(const llama_memory_i & memory) {
    uint64_t res = 0;
    for (const auto & [buft, size] : memory.memory_breakdown()) {
        res += size;
    }
    return res;
}

size_t illava_context_n_segments(const llama_context * ctx) {
    if (!ctx) {
        return 0;
    }
    const auto * kv = segments_of(ctx);
    return kv ? kv->size() : 1;
}

static illava_segment show_segment(const llama_kv_segments & kv, size_t i) {
    const auto   parts = kv.at(i);
    const auto * cache = parts.front()->cache.get();
    illava_segment shown = {};
    shown.il_begin = kv.layers(i).begin;
    shown.il_end   = kv.layers(i).end;
    shown.n_cells  = cache->get_size()*cache->get_n_stream();
    for (const auto * part : parts) {
        shown.bytes += sum_bytes(*part->cache);
    }
    for (uint32_t s = 0; s < cache->get_n_stream(); ++s) {
        shown.n_used = std::max(shown.n_used, cache->get_cells(s).get_used());
    }
    return shown;
}

// The one memory of a context without merge layers, of whatever kind.
static illava_segment show_memory(const llama_context & ctx) {
    const auto * memory = ctx.get_memory();
    const auto * cache  = dynamic_cast<const llama_kv_cache *>(memory);
    illava_segment shown = {};
    shown.il_end  = ctx.get_model().hparams.n_layer();
    shown.n_cells = cache ? cache->get_size()*cache->get_n_stream() : ctx.n_ctx();
    shown.bytes   = memory ? sum_bytes(*memory) : 0;
    shown.n_used  = cache ? cache->get_cells(0).get_used() : 0;
    return shown;
}

illava_status illava_context_segment(const llama_context * ctx, size_t i, illava_segment * out) {
    return illava_guard([&] {
        illava_require(ctx, "ctx");
        if (i >= illava_context_n_segments(ctx)) {
            illava_fail(ILLAVA_BAD_ARG, "segment %zu: this context has %zu", i, illava_context_n_segments(ctx));
        }
        const auto * kv = segments_of(ctx);
        illava_give("illava_segment", out, kv ? show_segment(*kv, i) : show_memory(*ctx));
    });
}

uint64_t illava_context_compute_bytes(const llama_context * ctx) {
    if (!ctx) {
        return 0;
    }
    uint64_t res = 0;
    ggml_backend_sched_t sched = ctx->get_sched();
    for (int i = 0; i < ggml_backend_sched_get_n_backends(sched); ++i) {
        res += ggml_backend_sched_get_buffer_size(sched, ggml_backend_sched_get_backend(sched, i));
    }
    return res;
}

illava_prefill_params illava_prefill_default_params(void) {
    illava_prefill_params params = {};
    params.size        = sizeof(params);
    params.score       = ILLAVA_SCORE_IMAGE;
    params.logits_last = true;
    params.strategy    = ILLAVA_STRATEGY_MERGE;
    return params;
}

static void check_thinning(const llama_context & ctx, const illava_prefill_params & params) {
    const int32_t how = number_of(params.thinning);
    if (how < ILLAVA_THINNING_NONE || how > ILLAVA_THINNING_WEIGHTED) {
        illava_fail(ILLAVA_BAD_ARG, "thinning %d: 0 (none), 1 (pivotal), 2 (averaged) or 3 (weighted)", how);
    }
    if (how == ILLAVA_THINNING_NONE) {
        return;
    }
    const auto * kv = segments_of(&ctx);
    if (!kv) {
        illava_fail(ILLAVA_UNSUPPORTED, "thinning: architecture '%s' has no cache that can lose single cells; take another strategy",
                ctx.get_model().arch_name().c_str());
    }
    if (params.n_spans > 0) {
        illava_require(params.thinned, "thinned");
    }
    for (size_t i = 0; i < params.n_spans*kv->size(); ++i) {
        const auto & span = params.spans[i/kv->size()];
        if (params.thinned[i] < 0 || params.thinned[i] >= span.n) {
            illava_fail(ILLAVA_BAD_ARG, "span %zu, segment %zu: %d of %d rows thinned, at least one must remain",
                    i/kv->size(), i%kv->size(), params.thinned[i], span.n);
        }
        for (size_t k = 0; k + 1 < kv->size(); ++k) {
            if (span.r[k] != 0 || (params.mass && params.mass[k] > 0.0f)) {
                illava_fail(ILLAVA_BAD_ARG, "span %zu, merge layer %zu: rows go before the cache is thinned; take one of both",
                        i/kv->size(), k);
            }
        }
    }
}

static illava_prefill_params checked(const llama_context * ctx, const illava_prefill_params * given) {
    illava_require(ctx, "ctx");
    const auto params = illava_given("illava_prefill_params", given, illava_prefill_default_params());
    if (!ctx->get_memory()) {
        illava_fail(ILLAVA_UNSUPPORTED, "this model keeps no cache: it cannot be prefilled");
    }
    illava_require(params.tokens, "tokens");
    illava_require(params.pos,    "pos");
    if (params.n_spans > 0) {
        illava_require(params.spans, "spans");
    }
    for (size_t i = 0; i < params.n_spans && !ctx->get_cparams().merge_layers.empty(); ++i) {
        illava_require(params.spans[i].r, "the span's r");
    }
    const int32_t score = number_of(params.score);
    if (score < ILLAVA_SCORE_IMAGE || score > ILLAVA_SCORE_PROMPT) {
        illava_fail(ILLAVA_BAD_ARG, "score %d: 0 (image), 1 (last token), 2 (question), 3 (raters) or 4 (prompt)", score);
    }
    check_thinning(*ctx, params);
    const auto strategy = illava_check_strategy(&params.strategy, /*decoder =*/ true);
    for (size_t k = 0; params.mass && k < ctx->get_cparams().merge_layers.size(); ++k) {
        if (!(params.mass[k] >= 0.0f && params.mass[k] < 1.0f)) {
            illava_fail(ILLAVA_BAD_ARG, "merge layer %zu: mass %g, a share of the scores below 1, or 0", k, params.mass[k]);
        }
        if (params.mass[k] > 0.0f && !illava_strategy_scores(strategy)) {
            illava_fail(ILLAVA_BAD_ARG, "mass: strategy %d looks at no attention; take merge, prune, assign or sparsevlm", (int) strategy);
        }
    }
    return params;
}

static illava_trace * take_trace(illava_prefill_run & run) {
    auto res = std::make_unique<illava_trace>();
    res->steps = std::move(run.steps);
    return res.release();
}

illava_status illava_prefill(llama_context * ctx, const illava_prefill_params * given, illava_trace ** trace) {
    return illava_guard([&] {
        if (trace) {
            *trace = nullptr;
        }
        const auto params = checked(ctx, given);
        illava_prefill_run run(*ctx, params);
        while (!run.step()) {
        }
        if (trace) {
            *trace = take_trace(run);
        }
    });
}

illava_status illava_prefill_begin(llama_context * ctx, const illava_prefill_params * given, illava_prefill_run ** out) {
    return illava_guard([&] {
        illava_require(out, "out");
        *out = nullptr;
        const auto params = checked(ctx, given);
        *out = new illava_prefill_run(*ctx, params);
    });
}

illava_status illava_prefill_step(illava_prefill_run * run, bool * done, illava_trace ** trace) {
    return illava_guard([&] {
        if (trace) {
            *trace = nullptr;
        }
        illava_require(done, "done");
        *done = false;
        illava_require(run, "run");
        *done = run->step();
        if (*done && trace) {
            *trace = take_trace(*run);
        }
    });
}

void illava_prefill_free(illava_prefill_run * run) {
    delete run;
}

void illava_trace_free(illava_trace * trace) {
    delete trace;
}

size_t illava_trace_n_steps(const illava_trace * trace) {
    return trace ? trace->steps.size() : 0;
}

static const llama_merge_step & step_of(const illava_trace * trace, size_t i) {
    illava_require(trace, "trace");
    if (i >= trace->steps.size()) {
        illava_fail(ILLAVA_BAD_ARG, "step %zu: the trace has %zu", i, trace->steps.size());
    }
    return trace->steps[i];
}

illava_status illava_trace_step(const illava_trace * trace, size_t i, illava_step * out) {
    return illava_guard([&] {
        illava_show_step(step_of(trace, i), out);
    });
}

illava_status illava_trace_residual(const illava_trace * trace, size_t i, const float ** rows, size_t * n_floats) {
    return illava_guard([&] {
        illava_require(rows,     "rows");
        illava_require(n_floats, "n_floats");
        const auto & step = step_of(trace, i);
        if (step.residual.empty()) {
            illava_fail(ILLAVA_BAD_ARG, "step %zu has no residual: the call did not ask to keep it", i);
        }
        *rows     = step.residual.data();
        *n_floats = step.residual.size();
    });
}
