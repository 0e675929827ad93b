#pragma once

// A context that is cut at merge layers, prompts with pictures in them, and what comes of them.

#include "illava.h"
#include "text-fixture.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace fixture {

using logits_t  = std::vector<float>;
using trace_ptr = std::unique_ptr<illava_trace, releaser<illava_trace_free>>;

struct context_options {
    uint32_t             n_ubatch   = 512;
    uint32_t             n_seq_max  = 1;
    uint32_t             n_ctx      = 512;
    bool                 unified    = true;
    int                  flash_attn = 1;
    ggml_type            type_kv    = GGML_TYPE_F16;
    std::vector<int32_t> layers     = { 2 };
    std::vector<uint32_t> deep      = {};
};

inline illava_status make_context(llama_model * model, const context_options & o, llama_ctx_ptr & out) {
    illava_context_params p = {};
    p.size            = sizeof(p);
    p.n_ctx           = o.n_ctx;
    p.n_batch         = o.n_ctx;
    p.n_ubatch        = o.n_ubatch;
    p.n_seq_max       = o.n_seq_max;
    p.n_threads       = 1;
    p.n_threads_batch = 1;
    p.flash_attn      = o.flash_attn;
    p.type_k          = o.type_kv;
    p.type_v          = o.type_kv;
    p.kv_unified      = o.unified;
    p.merge_layers    = o.layers.data();
    p.n_merge_layers  = o.layers.size();
    p.n_ctx_deep      = o.deep.empty() ? nullptr : o.deep.data();

    llama_context * ctx = nullptr;
    const auto status = illava_context_new(model, &p, &ctx);
    out.reset(ctx);
    return status;
}

// text, one or more visual spans of `n_visual` random rows, text
struct prompt {
    std::vector<llama_token> tokens;
    std::vector<float>       embd; // [rows up to the last picture's, n_embd]: those of text are not to be read
    std::vector<llama_pos>   pos;
    std::vector<illava_span> spans;
    std::vector<int32_t>     r;
    int32_t                  n_pos;
    int32_t                  n_embd;
    llama_pos                next = 0;

    prompt(llama_model * model, std::vector<int32_t> r_per_layer, llama_pos first = 0) :
        r(std::move(r_per_layer)), n_pos(illava_model_n_pos(model)), n_embd(llama_model_n_embd_inp(model)), next(first) {}

    int32_t n_rows() const { return tokens.size(); }

    void text(std::vector<llama_token> ids) {
        for (llama_token id : ids) {
            tokens.push_back(id);
            coordinates.push_back({ next, next, next, 0 });
            next++;
        }
    }

    // a grid for M-RoPE, a line otherwise
    void image(int32_t n, uint32_t seed) {
        const int32_t side = n_pos > 1 ? int32_t(std::lround(std::sqrt(double(n)))) : n;
        spans.push_back({ n_rows(), n, nullptr });
        const auto values = normal(size_t(n)*n_embd, 0.5f, seed);
        embd.resize(size_t(n_rows())*n_embd, NAN);
        embd.insert(embd.end(), values.begin(), values.end());
        for (int32_t i = 0; i < n; ++i) {
            tokens.push_back(-1);
            if (n_pos > 1) {
                coordinates.push_back({ next, next + i/side, next + i%side, 0 });
            } else {
                coordinates.push_back({ next + i, 0, 0, 0 });
            }
        }
        next += side;
    }

    illava_prefill_params params(illava_score score = ILLAVA_SCORE_IMAGE) {
        pos.resize(size_t(n_pos)*n_rows());
        for (int32_t k = 0; k < n_pos; ++k) {
            for (int32_t i = 0; i < n_rows(); ++i) {
                pos[size_t(k)*n_rows() + i] = coordinates[i][k];
            }
        }
        for (auto & span : spans) {
            span.r = r.data();
        }
        embd.shrink_to_fit(); // what lies behind it belongs to nobody
        illava_prefill_params p = {};
        p.size        = sizeof(p);
        p.n_rows      = n_rows();
        p.tokens      = tokens.data();
        p.embd        = embd.data();
        p.pos         = pos.data();
        p.spans       = spans.data();
        p.n_spans     = spans.size();
        p.score       = score;
        p.logits_last = true;
        return p;
    }

private:
    std::vector<std::array<llama_pos, 4>> coordinates;
};

struct outcome {
    illava_status                     status = ILLAVA_INTERNAL;
    logits_t                          logits;
    std::vector<std::vector<int32_t>> kept;
};

inline logits_t last_logits(llama_context * ctx) {
    const int32_t n = llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(ctx)));
    const float * row = llama_get_logits_ith(ctx, -1);
    return row ? logits_t(row, row + n) : logits_t();
}

inline outcome run(llama_context * ctx, const illava_prefill_params & p) {
    outcome res;
    illava_trace * trace = nullptr;
    res.status = illava_prefill(ctx, &p, &trace);
    trace_ptr owner(trace);
    if (res.status == ILLAVA_OK) {
        res.logits = last_logits(ctx);
        for (size_t i = 0; i < illava_trace_n_steps(trace); ++i) {
            illava_step step = {};
            step.size = sizeof(step);
            if (illava_trace_step(trace, i, &step) == ILLAVA_OK) {
                res.kept.emplace_back(step.kept, step.kept + step.n_out);
            }
        }
    }
    return res;
}

inline logits_t decode_text(llama_context * ctx, std::vector<llama_token> ids, llama_pos first, llama_seq_id seq = 0) {
    llama_batch batch = llama_batch_init(ids.size(), 0, 1);
    for (size_t i = 0; i < ids.size(); ++i) {
        batch.token[i]     = ids[i];
        batch.pos[i]       = first + llama_pos(i);
        batch.n_seq_id[i]  = 1;
        batch.seq_id[i][0] = seq;
        batch.logits[i]    = i + 1 == ids.size();
    }
    batch.n_tokens = ids.size();
    const int status = llama_decode(ctx, batch);
    llama_batch_free(batch);
    return status == 0 ? last_logits(ctx) : logits_t();
}

// Runs `body` with the library started and silent; the exit code of its checks.
inline int run_checks(void (*body)(checks & t)) {
    checks t;
    llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    llama_backend_init();
    body(t);
    llama_backend_free();
    return t.finish();
}

inline double distance(const logits_t & a, const logits_t & b) {
    if (a.size() != b.size() || a.empty()) {
        return INFINITY;
    }
    double diff = 0, norm = 0;
    for (size_t i = 0; i < a.size(); ++i) {
        diff += double(a[i] - b[i])*(a[i] - b[i]);
        norm += double(b[i])*b[i];
    }
    return std::sqrt(diff/norm);
}

// A text model, where it merges, and how many tokens go at each place.
struct subject {
    std::string          name;
    model_ptr            model;
    std::vector<int32_t> layers;
    std::vector<int32_t> r;

    std::string label(const std::string & what) const { return name + ": " + what; }

    context_options options() const {
        context_options o;
        o.layers = layers;
        return o;
    }

    prompt one_image() const {
        prompt p(model.get(), r);
        p.text({ 5, 6, 7 });
        p.image(64, 1);
        p.text({ 8, 9 });
        return p;
    }
};

// Every architecture, merging at one layer and at several. Without a model the check fails and says so.
inline std::vector<subject> subjects(checks & t) {
    std::vector<subject> all;
    for (const char * pair : { "siglip-qwen2-f32", "clip-llama-f32", "qwen2vl-f32" }) {
        all.push_back({ std::string(pair) + " K=2", load_text(pair), { 2 }, { 19 } });
        all.push_back({ std::string(pair) + " K=6,7,8", load_text(pair), { 6, 7, 8 }, { 6, 5, 4 } });
    }
    for (const char * arch : { "ernie4_5", "gemma3", "gemma4", "gemma4-moe", "glm4", "glm4moe", "granite", "internlm2",
            "mistral3", "paddleocr", "phi3", "qwen3", "qwen3moe", "qwen3vl", "qwen3vlmoe" }) {
        all.push_back({ std::string(arch) + " K=2,3", load_text(std::string("decoder-") + arch), { 2, 3 }, { 14, 5 } });
    }
    for (const auto & s : all) {
        if (!t.expect(s.model != nullptr, s.label("loads from " + test_models()))) {
            return {};
        }
    }
    return all;
}

} // namespace fixture
