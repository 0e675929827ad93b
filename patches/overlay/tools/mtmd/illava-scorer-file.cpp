// The file of a text-image model: every key and every shape is checked before a weight is read.

#include "illava-scorer.h"

#include "../../src/illava-status.h"
#include "ggml-alloc.h"
#include "gguf.h"

#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <initializer_list>

namespace {

// Beyond any such model; larger numbers are damaged ones, and would only be found out by exhausting memory.
constexpr int64_t max_layers = 256, max_width = 1 << 14, max_side = 1 << 11, max_vocab = 1 << 20, max_text = 1 << 12;
// Cells of attention between the patches of one picture.
constexpr int64_t max_patches = 1 << 12;

struct file_reader {
    const char     * path;
    gguf_context_ptr gguf;
    ggml_context_ptr meta;

    explicit file_reader(const char * path) : path(path) {
        std::error_code error;
        const auto status = std::filesystem::status(path, error);
        if (error || !std::filesystem::exists(status)) {
            bad("no such file");
        }
        if (!std::filesystem::is_regular_file(status)) {
            bad("is no regular file; give a GGUF file");
        }
        ggml_context * tensors = nullptr;
        const gguf_init_params params = { /*.no_alloc =*/ true, /*.ctx =*/ &tensors };
        gguf.reset(gguf_init_from_file(path, params));
        meta.reset(tensors);
        if (!gguf) {
            bad("no GGUF file, or a damaged one; write it again with tools/convert_scorer.py");
        }
        const int64_t n_bytes = (int64_t) std::filesystem::file_size(path, error);
        for (int64_t i = 0; i < gguf_get_n_tensors(gguf.get()); i++) {
            const int64_t end = (int64_t) (gguf_get_data_offset(gguf.get()) + gguf_get_tensor_offset(gguf.get(), i)
                + gguf_get_tensor_size(gguf.get(), i));
            if (end < 0 || end > n_bytes) {
                illava_fail(ILLAVA_BAD_FILE, "%s: truncated: tensor %s ends at byte %" PRId64 " of %" PRId64
                    "; copy the file again", path, gguf_get_tensor_name(gguf.get(), i), end, n_bytes);
            }
        }
    }

    [[noreturn]] void bad(const std::string & what) const { illava_fail(ILLAVA_BAD_FILE, "%s: %s", path, what.c_str()); }

    int64_t find(const char * key, gguf_type type, bool is_array = false) const {
        const int64_t id = gguf_find_key(gguf.get(), key);
        if (id < 0) {
            bad(std::string("key ") + key + " is missing; write the file again with tools/convert_scorer.py");
        }
        const gguf_type given = gguf_get_kv_type(gguf.get(), id);
        if (is_array ? given != GGUF_TYPE_ARRAY || gguf_get_arr_type(gguf.get(), id) != type : given != type) {
            bad(std::string("key ") + key + " has another type than " + gguf_type_name(type) + (is_array ? "[]" : ""));
        }
        return id;
    }

    int32_t number(const std::string & key, int64_t low, int64_t high) const {
        const int64_t value = gguf_get_val_u32(gguf.get(), find(key.c_str(), GGUF_TYPE_UINT32));
        if (value < low || value > high) {
            bad("key " + key + " is " + std::to_string(value) + ", outside " + std::to_string(low) + " to "
                + std::to_string(high));
        }
        return (int32_t) value;
    }

    float real(const std::string & key, float low, float high) const {
        const float value = gguf_get_val_f32(gguf.get(), find(key.c_str(), GGUF_TYPE_FLOAT32));
        if (!(value >= low && value <= high)) {
            bad("key " + key + " is " + std::to_string(value) + ", outside " + std::to_string(low) + " to "
                + std::to_string(high));
        }
        return value;
    }

    std::string text(const char * key) const { return gguf_get_val_str(gguf.get(), find(key, GGUF_TYPE_STRING)); }

    template <typename T>
    std::vector<T> array(const char * key, gguf_type type, size_t n) const {
        const int64_t id = find(key, type, true);
        if (gguf_get_arr_n(gguf.get(), id) != n) {
            bad(std::string("key ") + key + " has " + std::to_string(gguf_get_arr_n(gguf.get(), id)) + " values instead of "
                + std::to_string(n));
        }
        const T * data = (const T *) gguf_get_arr_data(gguf.get(), id);
        return std::vector<T>(data, data + n);
    }

    illava_activation activation(const char * key) const {
        const std::string name = text(key);
        if (name == "quick_gelu") {
            return ILLAVA_QUICK_GELU;
        }
        if (name == "gelu") {
            return ILLAVA_GELU;
        }
        illava_fail(ILLAVA_UNSUPPORTED, "%s: key %s is \"%s\"; quick_gelu and gelu are known", path, key, name.c_str());
    }
};

// Makes the tensors that the graphs use, in the shapes that the keys ask for.
struct weight_list {
    const file_reader & file;
    ggml_context      * ctx;

    // `plain`: added or multiplied element by element, so f32. Otherwise a product of matrices takes it.
    ggml_tensor * tensor(const std::string & name, std::vector<int64_t> ne, bool plain) const {
        const ggml_tensor * stored = ggml_get_tensor(file.meta.get(), name.c_str());
        if (!stored) {
            file.bad("tensor " + name + " is missing; write the file again with tools/convert_scorer.py");
        }
        ne.resize(GGML_MAX_DIMS, 1);
        for (int i = 0; i < GGML_MAX_DIMS; i++) {
            if (stored->ne[i] != ne[i]) {
                file.bad("tensor " + name + " has " + std::to_string(stored->ne[i]) + " instead of "
                    + std::to_string(ne[i]) + " in dimension " + std::to_string(i));
            }
        }
        const bool known = stored->type == GGML_TYPE_F32
            || (!plain && (stored->type == GGML_TYPE_F16 || stored->type == GGML_TYPE_Q8_0));
        if (!known) {
            file.bad("tensor " + name + " has type " + ggml_type_name(stored->type) + ", which cannot be used there");
        }
        ggml_tensor * made = ggml_dup_tensor(ctx, stored);
        ggml_set_name(made, name.c_str());
        return made;
    }

    illava_linear linear(const std::string & name, int64_t n_in, int64_t n_out) const {
        return { tensor(name + ".weight", { n_in, n_out }, false), tensor(name + ".bias", { n_out }, true) };
    }

    illava_linear norm(const std::string & name, int64_t n) const {
        return { tensor(name + ".weight", { n }, true), tensor(name + ".bias", { n }, true) };
    }

    void blocks(illava_tower & tower, const std::string & prefix) const {
        for (int32_t i = 0; i < tower.n_layer; i++) {
            const std::string at = prefix + ".blk." + std::to_string(i) + ".";
            const int64_t n = tower.n_embd;
            tower.blocks.push_back({ norm(at + "ln1", n), norm(at + "ln2", n), linear(at + "attn_q", n, n),
                linear(at + "attn_k", n, n), linear(at + "attn_v", n, n), linear(at + "attn_out", n, n),
                linear(at + "ffn_up", n, tower.n_ff), linear(at + "ffn_down", tower.n_ff, n) });
        }
    }
};

void read_tower(const file_reader & file, illava_tower & tower, const std::string & prefix) {
    const std::string key = "scorer." + prefix + ".";
    tower.n_embd  = file.number(key + "embedding_length",     1, max_width);
    tower.n_ff    = file.number(key + "feed_forward_length",  1, 4 * max_width);
    tower.n_head  = file.number(key + "attention.head_count", 1, tower.n_embd);
    tower.n_layer = file.number(key + "block_count",          1, max_layers);
    tower.eps     = file.real(key + "attention.layer_norm_epsilon", 0.0f, 1.0f);
    if (tower.n_embd % tower.n_head != 0) {
        file.bad("key " + key + "attention.head_count is " + std::to_string(tower.n_head) + ", which does not divide "
            + std::to_string(tower.n_embd));
    }
}

void read_keys(const file_reader & file, illava_scorer & s) {
    const std::string arch = file.text("general.architecture");
    if (arch != "scorer") {
        file.bad("a file of architecture \"" + arch + "\", not a text-image model; write one with tools/convert_scorer.py");
    }
    s.n_projection = file.number("scorer.projection_length", 1, max_width);
    s.logit_scale  = std::exp(file.real("scorer.logit_scale", -20.0f, 20.0f));

    read_tower(file, s.text, "text");
    s.text.act = file.activation("scorer.text.activation");
    s.n_vocab  = file.number("scorer.text.vocab_size", 1, max_vocab);
    s.n_text   = file.number("scorer.text.context_length", 3, max_text);

    read_tower(file, s.vision, "vision");
    s.vision.act = file.activation("scorer.vision.activation");
    s.patch_size = file.number("scorer.vision.patch_size", 1, max_side);
    s.image_size = file.number("scorer.vision.image_size", s.patch_size, max_side);
    if (s.image_size % s.patch_size != 0 || s.n_patches() > max_patches) {
        file.bad("key scorer.vision.image_size is " + std::to_string(s.image_size) + ": not 1 to "
            + std::to_string(max_patches) + " whole patches of " + std::to_string(s.patch_size) + " pixels");
    }
    const auto mean = file.array<float>("scorer.vision.image_mean", GGUF_TYPE_FLOAT32, 3);
    const auto std  = file.array<float>("scorer.vision.image_std",  GGUF_TYPE_FLOAT32, 3);
    for (int i = 0; i < 3; i++) {
        if (!std::isfinite(mean[i]) || !(std[i] > 0.0f && std::isfinite(std[i]))) {
            file.bad("keys scorer.vision.image_mean and image_std have no usable values");
        }
        s.mean[i] = mean[i];
        s.std[i]  = std[i];
    }
    const std::string filter = file.text("scorer.vision.resampling");
    if (filter != "bicubic" && filter != "bilinear") {
        file.bad("key scorer.vision.resampling is \"" + filter + "\"; bicubic and bilinear are known");
    }
    s.bilinear = filter == "bilinear";

    const std::string kind = file.text("scorer.kind");
    if (kind == "clip") {
        return;
    }
    if (kind != "clipseg") {
        file.bad("key scorer.kind is \"" + kind + "\"; clip and clipseg are known");
    }
    read_tower(file, s.decoder, "decoder");
    s.decoder.act = ILLAVA_RELU;
    s.conditional = file.number("scorer.decoder.conditional_layer", 0, s.decoder.n_layer - 1);
    s.taken       = file.array<int32_t>("scorer.decoder.taken_layers", GGUF_TYPE_INT32, (size_t) s.decoder.n_layer);
    for (int32_t layer : s.taken) {
        if (layer < 0 || layer >= s.vision.n_layer) {
            file.bad("key scorer.decoder.taken_layers names layer " + std::to_string(layer) + " of "
                + std::to_string(s.vision.n_layer));
        }
    }
    s.up1_side = file.number("scorer.decoder.last_side",  1, s.patch_size);
    s.up0_side = file.number("scorer.decoder.first_side", 0, s.patch_size); // 0: one step
}

void list_weights(const weight_list & list, illava_scorer & s) {
    const int64_t n_text = s.text.n_embd, n_vision = s.vision.n_embd, n_decoder = s.decoder.n_embd;
    const int64_t n_projection = s.n_projection;
    s.token_embd      = list.tensor("t.token_embd.weight",    { n_text, s.n_vocab }, false);
    s.text_positions  = list.tensor("t.position_embd.weight", { n_text, s.n_text }, true);
    s.text_norm       = list.norm("t.post_ln", n_text);
    s.text_projection = list.tensor("t.projection.weight", { n_text, n_projection }, false);
    list.blocks(s.text, "t");

    s.class_embd = list.tensor("v.class_embd", { n_vision }, true);
    s.patch_embd = list.tensor("v.patch_embd.weight", { 3 * (int64_t) s.patch_size * s.patch_size, n_vision }, false);
    s.positions  = list.tensor("v.position_embd.weight", { n_vision, s.n_patches() + 1 }, true);
    s.pre_norm   = list.norm("v.pre_ln", n_vision);
    s.post_norm  = list.norm("v.post_ln", n_vision);
    s.vision_projection = list.tensor("v.projection.weight", { n_vision, n_projection }, false);
    list.blocks(s.vision, "v");

    if (!s.has_map()) {
        return;
    }
    list.blocks(s.decoder, "d");
    for (int32_t i = 0; i < s.decoder.n_layer; i++) {
        s.reduce.push_back(list.linear("d.reduce." + std::to_string(i), n_vision, n_decoder));
    }
    s.film_mul = list.linear("d.film_mul", n_projection, n_decoder);
    s.film_add = list.linear("d.film_add", n_projection, n_decoder);
    int64_t n_last = n_decoder;
    if (s.up0_side > 0) {
        n_last = n_decoder / 2;
        s.conv = { list.tensor("d.conv.weight", { 3, 3, n_decoder, n_decoder }, false), list.tensor("d.conv.bias", { n_decoder }, true) };
        s.up0  = { list.tensor("d.up.0.weight", { n_decoder, n_last * s.up0_side * s.up0_side }, false),
                   list.tensor("d.up.0.bias", { n_last }, true) };
        if (s.conv.weight->type == GGML_TYPE_Q8_0) {
            list.file.bad("tensor d.conv.weight has type q8_0; a convolution takes f32 or f16");
        }
    }
    s.up1 = { list.tensor("d.up.1.weight", { n_last, s.up1_side * (int64_t) s.up1_side }, false), list.tensor("d.up.1.bias", { 1 }, true) };
}

} // namespace

void illava_scorer_read(illava_scorer & scorer, const char * path) {
    const file_reader file(path);
    scorer.path = path;
    read_keys(file, scorer);

    const ggml_init_params params = {
        ggml_tensor_overhead() * (size_t) (gguf_get_n_tensors(file.gguf.get()) + 1), nullptr, /*.no_alloc =*/ true };
    scorer.weights.reset(ggml_init(params));
    list_weights({ file, scorer.weights.get() }, scorer);

    scorer.buffer.reset(ggml_backend_alloc_ctx_tensors(scorer.weights.get(), scorer.backends.front()));
    if (!scorer.buffer) {
        illava_fail(ILLAVA_NO_MEMORY, "%s: no memory for its weights", path);
    }
    ggml_backend_buffer_set_usage(scorer.buffer.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    std::ifstream in(path, std::ios::binary);
    std::vector<char> bytes;
    for (ggml_tensor * tensor = ggml_get_first_tensor(scorer.weights.get()); tensor;
            tensor = ggml_get_next_tensor(scorer.weights.get(), tensor)) {
        const int64_t id = gguf_find_tensor(file.gguf.get(), ggml_get_name(tensor));
        bytes.resize(ggml_nbytes(tensor));
        in.seekg((std::streamoff) (gguf_get_data_offset(file.gguf.get()) + gguf_get_tensor_offset(file.gguf.get(), id)));
        in.read(bytes.data(), (std::streamsize) bytes.size());
        if (!in) {
            file.bad(std::string("tensor ") + ggml_get_name(tensor) + " cannot be read");
        }
        ggml_backend_tensor_set(tensor, bytes.data(), 0, bytes.size());
    }
}
