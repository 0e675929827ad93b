#include "pair.h"

#include "illava-vision.h"

#include <algorithm>
#include <cmath>

namespace gpu {

static void check(illava_status status, const std::string & what) {
    require(status == ILLAVA_OK, what + ": " + illava_last_error());
}

static step copy_of(const illava_step & s) {
    return { s.layer, { s.scores, s.scores + s.n_in }, { s.kept, s.kept + s.n_out }, { s.merged, s.merged + (s.n_in - s.n_out) + 1 } };
}

tower::tower(const std::string & path, bool on_device, int n_threads) : n_threads_(n_threads) {
    illava_vision_params params = {};
    params.size       = sizeof(params);
    params.use_gpu    = on_device;
    params.flash_attn = -1; // where the device has it: not for the tiny pairs' head sizes
    params.n_threads  = n_threads;
    illava_vision * out = nullptr;
    check(illava_vision_load(path.c_str(), &params, &out), path);
    vision_.reset(out);
}

illava_vision_info tower::info() const {
    illava_vision_info out = {};
    out.size = sizeof(out);
    check(illava_vision_describe(vision_.get(), &out), "the tower");
    return out;
}

int tower::n_splits() const {
    return ggml_backend_sched_get_n_splits(vision_->parts.sched);
}

void tower::picture(uint32_t nx, uint32_t ny) {
    // Coarse shapes and some grain: patches that differ, and neighbours that are alike.
    std::vector<float> rgb(size_t(nx) * ny * 3);
    uint32_t noise = 1;
    for (size_t i = 0; i < rgb.size(); i++) {
        const size_t x = i / 3 % nx, y = i / 3 / nx;
        noise = noise * 1664525 + 1013904223;
        rgb[i] = 0.8f * std::sin(float(x / 16 * 7 + y / 24 * 5 + i % 3)) + 0.2f * (float(noise >> 8) / float(1 << 23) - 1.0f);
    }
    illava_image * out = nullptr;
    check(illava_image_from_f32(vision_.get(), rgb.data(), nx, ny, &out), "the picture");
    image_.reset(out);
}

encoded tower::encode(const schedule & steps) {
    illava_encode_params params = {};
    params.size      = sizeof(params);
    params.steps     = steps.data();
    params.n_steps   = steps.size();
    params.n_threads = n_threads_;
    illava_encoded * raw = nullptr;
    check(illava_encode(vision_.get(), image_.get(), 0, &params, &raw), "encoding");
    const handle<illava_encoded, illava_encoded_free> owner(raw);

    illava_encoded_view view = {};
    view.size = sizeof(view);
    check(illava_encoded_get(raw, &view), "the embeddings");
    encoded out;
    out.n_tokens     = int32_t(view.n_tokens);
    out.embd.assign(view.embd, view.embd + size_t(view.n_tokens) * view.n_embd);
    out.encoder_ms   = view.encoder_ms;
    out.projector_ms = view.projector_ms;
    for (size_t i = 0; i < view.n_steps; i++) {
        illava_step s = {};
        s.size = sizeof(s);
        check(illava_encoded_step(raw, i, &s), "a step");
        out.steps.push_back(copy_of(s));
    }
    return out;
}

decoder::decoder(const std::string & path, bool on_device, int n_threads) : on_device_(on_device), n_threads_(n_threads) {
    ggml_backend_dev_t none[] = { nullptr };
    llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = on_device ? 9999 : 0;
    params.devices      = on_device ? nullptr : none;
    model_.reset(llama_model_load_from_file(path.c_str(), params));
    require(model_ != nullptr, path + " cannot be loaded");
}

void decoder::context(const schedule & steps, int32_t n_rows) {
    std::vector<int32_t>  layers;
    std::vector<uint32_t> deep;
    uint32_t cells = uint32_t(n_rows + n_text_before + n_text_after);
    const uint32_t first = cells;
    for (const illava_merge_step & s : steps) {
        cells -= uint32_t(s.r);
        layers.push_back(s.layer);
        deep.push_back(cells);
    }
    illava_context_params params = {};
    params.size            = sizeof(params);
    params.n_ctx           = first;
    params.n_batch         = first;
    params.n_ubatch        = std::min<uint32_t>(first, 2048);
    params.n_seq_max       = 1;
    params.n_threads       = n_threads_;
    params.n_threads_batch = n_threads_;
    params.flash_attn      = -1;
    params.type_k          = GGML_TYPE_F16;
    params.type_v          = GGML_TYPE_F16;
    params.offload_kqv     = on_device_;
    params.kv_unified      = true;
    params.merge_layers    = layers.data();
    params.n_merge_layers  = layers.size();
    params.n_ctx_deep      = deep.data();
    llama_context * out = nullptr;
    context_.reset(); // its memory first
    check(illava_context_new(model_.get(), &params, &out), "the context");
    context_.reset(out);
}

prefilled decoder::prefill(const std::vector<float> & embd, int32_t n_visual, const schedule & steps) {
    llama_memory_clear(llama_get_memory(context_.get()), false);

    const int32_t n       = n_text_before + n_visual + n_text_after;
    const int32_t n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model_.get()));
    const int32_t side    = std::max(1, int32_t(std::lround(std::sqrt(double(n_visual)))));

    std::vector<llama_token> tokens(n, -1);
    std::vector<float>       rows(size_t(n) * n_embd(), 0.0f);
    std::copy(embd.begin(), embd.end(), rows.begin() + size_t(n_text_before) * n_embd());
    std::vector<llama_pos> pos(size_t(n) * n_pos());
    for (int32_t i = 0; i < n; i++) {
        const int32_t visual = i - n_text_before;
        const bool    text   = visual < 0 || visual >= n_visual;
        if (text) {
            tokens[i] = (5 + 7 * i) % n_vocab;
        }
        // M-RoPE: a picture's rows share their first position and stand in a grid; the text goes on behind the grid
        const bool    grid  = n_pos() > 1;
        const int32_t after = grid ? n_text_before + side + (visual - n_visual) : i;
        for (int32_t p = 0; p < n_pos(); p++) {
            llama_pos at = i;
            if (grid && !text) {
                at = n_text_before + (p == 1 ? visual / side : p == 2 ? visual % side : 0);
            } else if (grid && visual >= n_visual) {
                at = after;
            }
            pos[size_t(p) * n + i] = at;
        }
    }
    std::vector<int32_t> removed;
    for (const illava_merge_step & s : steps) {
        removed.push_back(s.r);
    }
    const illava_span span = { n_text_before, n_visual, removed.data() };

    illava_prefill_params params = {};
    params.size        = sizeof(params);
    params.n_rows      = n;
    params.tokens      = tokens.data();
    params.embd        = rows.data();
    params.pos         = pos.data();
    params.spans       = &span;
    params.n_spans     = steps.empty() ? 0 : 1;
    params.score       = ILLAVA_SCORE_IMAGE;
    params.logits_last = true;
    illava_trace * trace = nullptr;
    check(illava_prefill(context_.get(), &params, &trace), "the prefill");
    const handle<illava_trace, illava_trace_free> owner(trace);

    prefilled out;
    const float * logits = llama_get_logits_ith(context_.get(), -1);
    require(logits, "no logits");
    out.logits.assign(logits, logits + n_vocab);
    for (size_t i = 0; i < illava_trace_n_steps(trace); i++) {
        illava_step s = {};
        s.size = sizeof(s);
        check(illava_trace_step(trace, i, &s), "a step");
        out.steps.push_back(copy_of(s));
    }
    return out;
}

uint64_t decoder::kv_bytes() const {
    uint64_t bytes = 0;
    for (size_t i = 0; i < illava_context_n_segments(context_.get()); i++) {
        illava_segment s = {};
        s.size = sizeof(s);
        check(illava_context_segment(context_.get(), i, &s), "the cache");
        bytes += s.bytes / s.n_cells * s.n_used;
    }
    return bytes;
}

} // namespace gpu
