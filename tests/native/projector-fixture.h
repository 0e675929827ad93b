#pragma once

// Tiny projector files with random weights, one per family of image encoder, written where a test wants them.

#include "ggml-cpp.h"
#include "ggml.h"
#include "gguf.h"

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace fixture {

enum class family { siglip, clip, janus, qwen2vl, qwen2_5vl };

struct projector_shape {
    int n_layer    = 5;
    int n_embd     = 32;
    int n_head     = 2;
    int n_ff       = 48;
    int image_size = 64;
    int patch_size = 8;
    int n_out      = 24;
    ggml_type weights = GGML_TYPE_F32; // of the linear layers; rows are to be whole blocks of it
};

class projector_file {
  public:
    explicit projector_file(family kind, uint32_t seed = 1, const projector_shape & shape = {}) :
        kind(kind), shape(shape), random(seed) {
        const ggml_init_params params = { 1 << 24, nullptr, /*.no_alloc =*/ false };
        ctx.reset(ggml_init(params));
        gguf.reset(gguf_init_empty());
        write_keys();
        write_tensors();
    }

    // Direct access, for files that are to be wrong.
    gguf_context * raw() { return gguf.get(); }

    void write(const std::string & path) const { GGML_ASSERT(gguf_write_to_file(gguf.get(), path.c_str(), false)); }

  private:
    bool qwen() const { return kind == family::qwen2vl || kind == family::qwen2_5vl; }

    void number(const char * key, uint32_t value) { gguf_set_val_u32(gguf.get(), key, value); }

    void write_keys() {
        const char * projector = kind == family::janus ? "janus_pro" : kind == family::qwen2vl ? "qwen2vl_merger"
            : kind == family::qwen2_5vl ? "qwen2.5vl_merger" : "mlp";
        gguf_set_val_str (gguf.get(), "general.architecture", "clip");
        gguf_set_val_str (gguf.get(), "clip.projector_type", projector);
        gguf_set_val_bool(gguf.get(), "clip.has_vision_encoder", true);
        gguf_set_val_bool(gguf.get(), "clip.use_gelu", true);
        number("clip.vision.image_size",           shape.image_size);
        number("clip.vision.patch_size",           shape.patch_size);
        number("clip.vision.embedding_length",     shape.n_embd);
        number("clip.vision.feed_forward_length",  shape.n_ff);
        number("clip.vision.block_count",          shape.n_layer);
        number("clip.vision.projection_dim",       shape.n_out);
        number("clip.vision.attention.head_count", shape.n_head);
        gguf_set_val_f32(gguf.get(), "clip.vision.attention.layer_norm_epsilon", 1e-6f);
        const float half[] = { 0.5f, 0.5f, 0.5f };
        gguf_set_arr_data(gguf.get(), "clip.vision.image_mean", GGUF_TYPE_FLOAT32, half, 3);
        gguf_set_arr_data(gguf.get(), "clip.vision.image_std",  GGUF_TYPE_FLOAT32, half, 3);
        if (kind == family::qwen2_5vl) {
            number("clip.vision.n_wa_pattern", 2);
        }
    }

    void tensor(const std::string & name, std::vector<int64_t> ne, float scale, float mean = 0.0f,
            ggml_type type = GGML_TYPE_F32) {
        ggml_tensor * t = ggml_new_tensor(ctx.get(), type, (int) ne.size(), ne.data());
        ggml_set_name(t, name.c_str());
        std::normal_distribution<float> value(mean, scale);
        std::vector<float> values((size_t) ggml_nelements(t));
        for (float & x : values) {
            x = value(random);
        }
        ggml_quantize_chunk(type, values.data(), t->data, 0, ggml_nrows(t), t->ne[0], nullptr);
        gguf_add_tensor(gguf.get(), t);
    }

    void linear(const std::string & name, int64_t n_in, int64_t n_out, float scale) {
        tensor(name + ".weight", { n_in, n_out }, scale, 0.0f, shape.weights);
        tensor(name + ".bias",   { n_out }, 0.02f);
    }

    void norm(const std::string & name) {
        tensor(name + ".weight", { shape.n_embd }, 0.1f, 1.0f);
        tensor(name + ".bias",   { shape.n_embd }, 0.1f);
    }

    void write_tensors() {
        const int64_t n_embd = shape.n_embd;
        const int64_t patch  = shape.patch_size;
        const int64_t side   = shape.image_size / shape.patch_size;

        tensor("v.patch_embd.weight", { patch, patch, 3, n_embd }, 0.1f);
        if (qwen()) {
            tensor("v.patch_embd.weight.1", { patch, patch, 3, n_embd }, 0.1f);
        } else {
            tensor("v.patch_embd.bias", { n_embd }, 0.1f);
            const int64_t n_cls = kind == family::clip ? 1 : 0;
            tensor("v.position_embd.weight", { n_embd, side * side + n_cls }, 0.5f);
            if (n_cls) {
                tensor("v.class_embd", { n_embd }, 0.5f);
                norm("v.pre_ln");
            }
        }
        for (int il = 0; il < shape.n_layer; il++) {
            const std::string blk = "v.blk." + std::to_string(il) + ".";
            norm(blk + "ln1");
            norm(blk + "ln2");
            for (const char * name : { "attn_q", "attn_k" }) {
                linear(blk + name, n_embd, n_embd, 0.35f); // wide enough for scores that differ
            }
            for (const char * name : { "attn_v", "attn_out" }) {
                linear(blk + name, n_embd, n_embd, 0.15f);
            }
            linear(blk + "ffn_up",   n_embd, shape.n_ff, 0.15f);
            linear(blk + "ffn_down", shape.n_ff, n_embd, 0.15f);
        }
        if (qwen()) {
            norm("v.post_ln");
            linear("mm.0", n_embd * 4, n_embd * 4, 0.1f);
            linear("mm.2", n_embd * 4, shape.n_out, 0.1f);
        } else {
            linear("mm.0", n_embd, shape.n_out, 0.15f);
            linear(kind == family::janus ? "mm.1" : "mm.2", shape.n_out, shape.n_out, 0.15f);
        }
    }

    family           kind;
    projector_shape  shape;
    std::mt19937     random;
    ggml_context_ptr ctx;
    gguf_context_ptr gguf;
};

} // namespace fixture
