#include "shapes.h"

#include "machine.h"

#include "gguf.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <random>
#include <tuple>

namespace gpu {
namespace {

// Tensors of equal type and spread share their values: a file of many gigabytes is written from a few buffers.
class gguf_writer {
public:
    gguf_writer() : ctx_(ggml_init({ 4096 * ggml_tensor_overhead(), nullptr, true })), file_(gguf_init_empty()) {}

    gguf_context * file() { return file_.get(); }

    void add(const std::string & name, ggml_type type, std::array<int64_t, 4> shape, double spread, float mean = 0.0f) {
        ggml_tensor * t = ggml_new_tensor(ctx_.get(), type, 4, shape.data());
        ggml_set_name(t, name.c_str());
        users_[{ type, float(spread), mean }].push_back(t);
    }
    void f16(const std::string & name, int64_t columns, int64_t rows, double gain = 1.0) {
        add(name, GGML_TYPE_F16, { columns, rows, 1, 1 }, gain / std::sqrt(double(columns)));
    }
    void f32(const std::string & name, int64_t n, float spread, float mean = 0.0f) {
        add(name, GGML_TYPE_F32, { n, 1, 1, 1 }, spread, mean);
    }

    void write(const std::string & path) {
        std::vector<std::vector<uint8_t>> buffers;
        for (const auto & [kind, tensors] : users_) {
            int64_t n = 0;
            for (const ggml_tensor * t : tensors) {
                n = std::max(n, ggml_nelements(t));
            }
            buffers.push_back(values(kind, n));
            for (ggml_tensor * t : tensors) {
                t->data = buffers.back().data();
                gguf_add_tensor(file_.get(), t);
            }
        }
        require(gguf_write_to_file(file_.get(), path.c_str(), false), path + " cannot be written: is there room?");
    }

private:
    struct kind {
        ggml_type type;
        float     spread, mean;
        bool operator<(const kind & o) const { return std::tie(type, spread, mean) < std::tie(o.type, o.spread, o.mean); }
    };

    static std::vector<uint8_t> values(const kind & k, int64_t n) {
        // A prime period of bell-shaped values: rows differ.
        constexpr size_t period = 1'000'003;
        static const std::vector<float> bell = [] {
            std::mt19937 random(1);
            std::normal_distribution<float> normal;
            std::vector<float> x(period);
            for (float & v : x) {
                v = normal(random);
            }
            return x;
        }();
        std::vector<uint8_t> bytes(size_t(n) * ggml_type_size(k.type));
        for (int64_t i = 0; i < n; i++) {
            const float v = k.mean + k.spread * bell[size_t(i) % period];
            if (k.type == GGML_TYPE_F32) {
                ((float *) bytes.data())[i] = v;
            } else {
                ((ggml_fp16_t *) bytes.data())[i] = ggml_fp32_to_fp16(v);
            }
        }
        return bytes;
    }

    std::map<kind, std::vector<ggml_tensor *>> users_;
    handle<ggml_context, ggml_free>            ctx_;
    handle<gguf_context, gguf_free>            file_;
};

void norm(gguf_writer & w, const std::string & name, int64_t width, bool bias) {
    w.f32(name + ".weight", width, 0.1f, 1.0f);
    if (bias) {
        w.f32(name + ".bias", width, 0.1f);
    }
}

void linear(gguf_writer & w, const std::string & name, int64_t rows, int64_t columns, double gain, float bias) {
    w.f16(name + ".weight", columns, rows, gain);
    w.f32(name + ".bias", rows, bias);
}

} // namespace

double tower_shape::block_flops(int64_t n) const {
    return 2.0 * double(n) * (4.0 * double(width) * double(width) + 2.0 * double(width) * double(mlp) + 2.0 * double(n) * double(width));
}

double decoder_shape::layer_flops(int64_t n) const {
    const double kv = double(width) / double(heads) * double(kv_heads);
    return 2.0 * double(n) * (2.0 * double(width) * double(width) + 2.0 * double(width) * kv
        + 3.0 * double(width) * double(mlp) + double(n) * double(width));
}

void write_tower(const std::string & path, const tower_shape & s) {
    gguf_writer w;
    gguf_context * f = w.file();
    gguf_set_val_str (f, "general.architecture", "clip");
    gguf_set_val_u32 (f, "general.file_type", 1);
    gguf_set_val_bool(f, "clip.has_vision_encoder", true);
    gguf_set_val_bool(f, "clip.has_llava_projector", true);
    gguf_set_val_str (f, "clip.projector_type", "mlp");
    gguf_set_val_bool(f, "clip.use_gelu", true);
    gguf_set_val_u32 (f, "clip.vision.image_size", uint32_t(s.image));
    gguf_set_val_u32 (f, "clip.vision.patch_size", uint32_t(s.patch));
    gguf_set_val_u32 (f, "clip.vision.embedding_length", uint32_t(s.width));
    gguf_set_val_u32 (f, "clip.vision.feed_forward_length", uint32_t(s.mlp));
    gguf_set_val_u32 (f, "clip.vision.block_count", uint32_t(s.stored));
    gguf_set_val_u32 (f, "clip.vision.attention.head_count", uint32_t(s.heads));
    gguf_set_val_u32 (f, "clip.vision.projection_dim", uint32_t(s.output));
    gguf_set_val_f32 (f, "clip.vision.attention.layer_norm_epsilon", 1e-6f);
    const float half[3] = { 0.5f, 0.5f, 0.5f };
    gguf_set_arr_data(f, "clip.vision.image_mean", GGUF_TYPE_FLOAT32, half, 3);
    gguf_set_arr_data(f, "clip.vision.image_std",  GGUF_TYPE_FLOAT32, half, 3);

    w.add("v.patch_embd.weight", GGML_TYPE_F16, { s.patch, s.patch, 3, s.width }, 0.5 / std::sqrt(3.0 * double(s.patch)));
    w.f32("v.patch_embd.bias", s.width, 0.1f);
    w.add("v.position_embd.weight", GGML_TYPE_F32, { s.width, s.tokens(), 1, 1 }, 0.5);
    for (int64_t i = 0; i < s.stored; i++) {
        const std::string block = "v.blk." + std::to_string(i);
        norm(w, block + ".ln1", s.width, true);
        linear(w, block + ".attn_q",   s.width, s.width, 1.0,  0.9f);
        linear(w, block + ".attn_k",   s.width, s.width, 1.0,  0.1f);
        linear(w, block + ".attn_v",   s.width, s.width, 1.0,  0.1f);
        linear(w, block + ".attn_out", s.width, s.width, 0.7,  0.1f);
        norm(w, block + ".ln2", s.width, true);
        linear(w, block + ".ffn_up",   s.mlp,   s.width, 1.0,  0.1f);
        linear(w, block + ".ffn_down", s.width, s.mlp,   0.25, 0.1f);
    }
    linear(w, "mm.0", s.output, s.width,  1.0,  0.1f);
    linear(w, "mm.2", s.output, s.output, 0.35, 0.8f);
    w.write(path);
}

void write_decoder(const std::string & path, const decoder_shape & s) {
    gguf_writer w;
    gguf_context * f = w.file();
    gguf_set_val_str(f, "general.architecture", "qwen2");
    gguf_set_val_u32(f, "general.file_type", 1);
    gguf_set_val_u32(f, "qwen2.context_length", 32768);
    gguf_set_val_u32(f, "qwen2.embedding_length", uint32_t(s.width));
    gguf_set_val_u32(f, "qwen2.block_count", uint32_t(s.layers));
    gguf_set_val_u32(f, "qwen2.feed_forward_length", uint32_t(s.mlp));
    gguf_set_val_u32(f, "qwen2.attention.head_count", uint32_t(s.heads));
    gguf_set_val_u32(f, "qwen2.attention.head_count_kv", uint32_t(s.kv_heads));
    gguf_set_val_f32(f, "qwen2.attention.layer_norm_rms_epsilon", 1e-6f);
    gguf_set_val_f32(f, "qwen2.rope.freq_base", 1e6f);
    gguf_set_val_u32(f, "qwen2.vocab_size", uint32_t(s.vocabulary));
    gguf_set_val_str(f, "tokenizer.ggml.model", "no_vocab");

    const int64_t kv = s.width / s.heads * s.kv_heads;
    w.add("token_embd.weight", GGML_TYPE_F16, { s.width, s.vocabulary, 1, 1 }, 1.0);
    for (int64_t i = 0; i < s.layers; i++) {
        const std::string block = "blk." + std::to_string(i);
        norm(w, block + ".attn_norm", s.width, false);
        linear(w, block + ".attn_q", s.width, s.width, 1.0, 0.9f);
        linear(w, block + ".attn_k", kv,      s.width, 1.0, 0.1f);
        linear(w, block + ".attn_v", kv,      s.width, 1.0, 0.1f);
        w.f16(block + ".attn_output.weight", s.width, s.width, 0.7);
        norm(w, block + ".ffn_norm", s.width, false);
        w.f16(block + ".ffn_gate.weight", s.width, s.mlp);
        w.f16(block + ".ffn_up.weight",   s.width, s.mlp);
        w.f16(block + ".ffn_down.weight", s.mlp, s.width, 0.7);
    }
    norm(w, "output_norm", s.width, false);
    w.f16("output.weight", s.width, s.vocabulary);
    w.write(path);
}

} // namespace gpu
