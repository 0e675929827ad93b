#include "illava-projector-file.h"

#include "ggml-cpp.h"
#include "gguf.h"
#include "illava-mtmd.h"
#include "../../src/illava-status.h"

#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <initializer_list>
#include <utility>
#include <vector>

namespace {

// Beyond any tower in use; what is larger is a damaged number, and would only be found out by exhausting memory.
constexpr int32_t max_layers    = 512;
constexpr int32_t max_width     = 1 << 16;
constexpr int32_t max_side      = 1 << 14; // pixels
constexpr int64_t max_pixels    = 1 << 28;
constexpr int64_t any           = -1;

struct key_type {
    const char * key;
    gguf_type    type;
    bool         is_array;
};

// Every key upstream reads for the families below; its accessors abort on another type.
const key_type key_types[] = {
    { "general.architecture",                        GGUF_TYPE_STRING,  false },
    { "general.name",                                GGUF_TYPE_STRING,  false },
    { "general.description",                         GGUF_TYPE_STRING,  false },
    { "general.file_type",                           GGUF_TYPE_UINT32,  false },
    { "clip.projector_type",                         GGUF_TYPE_STRING,  false },
    { "clip.vision.projector_type",                  GGUF_TYPE_STRING,  false },
    { "clip.has_vision_encoder",                     GGUF_TYPE_BOOL,    false },
    { "clip.has_audio_encoder",                      GGUF_TYPE_BOOL,    false },
    { "clip.has_gen_audio_encoder",                  GGUF_TYPE_BOOL,    false },
    { "clip.use_gelu",                               GGUF_TYPE_BOOL,    false },
    { "clip.use_silu",                               GGUF_TYPE_BOOL,    false },
    { "clip.minicpmv_version",                       GGUF_TYPE_INT32,   false },
    { "clip.minicpmv_query_num",                     GGUF_TYPE_UINT32,  false },
    { "clip.vision.embedding_length",                GGUF_TYPE_UINT32,  false },
    { "clip.vision.feed_forward_length",             GGUF_TYPE_UINT32,  false },
    { "clip.vision.block_count",                     GGUF_TYPE_UINT32,  false },
    { "clip.vision.projection_dim",                  GGUF_TYPE_UINT32,  false },
    { "clip.vision.attention.head_count",            GGUF_TYPE_UINT32,  false },
    { "clip.vision.attention.head_count_kv",         GGUF_TYPE_UINT32,  false },
    { "clip.vision.attention.head_dim",              GGUF_TYPE_UINT32,  false },
    { "clip.vision.attention.layer_norm_epsilon",    GGUF_TYPE_FLOAT32, false },
    { "clip.vision.image_size",                      GGUF_TYPE_UINT32,  false },
    { "clip.vision.patch_size",                      GGUF_TYPE_UINT32,  false },
    { "clip.vision.n_wa_pattern",                    GGUF_TYPE_UINT32,  false },
    { "clip.vision.spatial_merge_size",              GGUF_TYPE_UINT32,  false },
    { "clip.vision.mm_patch_merge_type",             GGUF_TYPE_STRING,  false },
    { "clip.vision.feature_layer",                   GGUF_TYPE_INT32,   true  },
    { "clip.vision.image_grid_pinpoints",            GGUF_TYPE_INT32,   true  },
    { "clip.vision.image_mean",                      GGUF_TYPE_FLOAT32, true  },
    { "clip.vision.image_std",                       GGUF_TYPE_FLOAT32, true  },
    { "clip.vision.hidden_act",                      GGUF_TYPE_STRING,  false },
    { "clip.vision.projector.hidden_act",            GGUF_TYPE_STRING,  false },
    { "clip.vision.class_token",                     GGUF_TYPE_STRING,  false },
    { "illava.vision.class_token",                   GGUF_TYPE_STRING,  false },
    { "illava.vision.projector_activation",          GGUF_TYPE_STRING,  false },
};

class projector_gguf {
  public:
    explicit projector_gguf(const char * path) : path(path) {
        // opening a pipe would wait for its other end
        std::error_code error;
        const auto status = std::filesystem::status(path, error);
        if (!error && std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) {
            illava_fail(ILLAVA_BAD_FILE, "%s: is no regular file", path);
        }
        FILE * file = fopen(path, "rb");
        if (!file) {
            illava_fail(ILLAVA_BAD_FILE, "%s: cannot be opened", path);
        }
        fseek(file, 0, SEEK_END);
        n_bytes = (int64_t) ftell(file);
        fclose(file);

        ggml_context * tensors = nullptr;
        gguf_init_params params = { /*.no_alloc =*/ true, /*.ctx =*/ &tensors };
        gguf.reset(gguf_init_from_file(path, params));
        meta.reset(tensors);
        if (!gguf) {
            illava_fail(ILLAVA_BAD_FILE, "%s: no GGUF file, or a damaged one", path);
        }
    }

    [[noreturn]] void bad(const std::string & what) const {
        illava_fail(ILLAVA_BAD_FILE, "%s: %s", path, what.c_str());
    }

    void check_key_types() const {
        for (const auto & expected : key_types) {
            const int64_t id = gguf_find_key(gguf.get(), expected.key);
            if (id < 0) {
                continue;
            }
            const bool      is_array = gguf_get_kv_type(gguf.get(), id) == GGUF_TYPE_ARRAY;
            const gguf_type type     = is_array ? gguf_get_arr_type(gguf.get(), id) : gguf_get_kv_type(gguf.get(), id);
            if (is_array != expected.is_array || type != expected.type) {
                bad(std::string("key ") + expected.key + " has type " + gguf_type_name(type) + (is_array ? "[]" : "")
                    + " instead of " + gguf_type_name(expected.type) + (expected.is_array ? "[]" : ""));
            }
        }
    }

    void check_data_is_there() const {
        const int64_t data = (int64_t) gguf_get_data_offset(gguf.get());
        for (int64_t i = 0; i < gguf_get_n_tensors(gguf.get()); i++) {
            const int64_t end = data + (int64_t) gguf_get_tensor_offset(gguf.get(), i) + (int64_t) gguf_get_tensor_size(gguf.get(), i);
            if (end < data || end > n_bytes) {
                illava_fail(ILLAVA_BAD_FILE, "%s: truncated: tensor %s ends at byte %" PRId64 " of %" PRId64,
                    path, gguf_get_tensor_name(gguf.get(), i), end, n_bytes);
            }
        }
    }

    std::string text(const char * key) const {
        const int64_t id = gguf_find_key(gguf.get(), key);
        return id < 0 ? "" : gguf_get_val_str(gguf.get(), id);
    }

    // Refuses a text under a key that is none of `known`: it asks for what this engine cannot do.
    void check_text(const char * key, std::initializer_list<const char *> known) const {
        const std::string value = text(key);
        if (value.empty() || std::find(known.begin(), known.end(), value) != known.end()) {
            return;
        }
        std::string names;
        for (const char * name : known) {
            names += (names.empty() ? "\"" : ", \"") + std::string(name) + "\"";
        }
        illava_fail(ILLAVA_UNSUPPORTED, "%s: key %s is \"%s\"; known are %s", path, key, value.c_str(), names.c_str());
    }

    bool flag(const char * key) const {
        const int64_t id = gguf_find_key(gguf.get(), key);
        return id >= 0 && gguf_get_val_bool(gguf.get(), id);
    }

    // The number under a key, within [low, high]; absent: `otherwise`, or an error if that is below low.
    int32_t number(const char * key, int64_t low, int64_t high, int64_t otherwise = -1) const {
        const int64_t id = gguf_find_key(gguf.get(), key);
        if (id < 0 && otherwise < low) {
            bad(std::string("key ") + key + " is missing");
        }
        const int64_t value = id < 0 ? otherwise : (int64_t) gguf_get_val_u32(gguf.get(), id);
        if (value < low || value > high) {
            bad(std::string("key ") + key + " is " + std::to_string(value) + ", outside "
                + std::to_string(low) + " to " + std::to_string(high));
        }
        return (int32_t) value;
    }

    template <typename T>
    std::vector<T> numbers(const char * key) const {
        const int64_t id = gguf_find_key(gguf.get(), key);
        if (id < 0) {
            return {};
        }
        const T * data = (const T *) gguf_get_arr_data(gguf.get(), id);
        return std::vector<T>(data, data + gguf_get_arr_n(gguf.get(), id));
    }

    const ggml_tensor * find(const std::string & name) const {
        return ggml_get_tensor(meta.get(), name.c_str());
    }

    // Shape [ne...] as ggml counts, `any` where it does not matter. A vector must be f32 (it is added or multiplied
    // element by element), a matrix of a type that matrix multiplication takes.
    const ggml_tensor * tensor(const std::string & name, std::initializer_list<int64_t> ne, bool required = true) const {
        const ggml_tensor * found = find(name);
        if (!found) {
            if (required) {
                bad("tensor " + name + " is missing");
            }
            return nullptr;
        }
        int dim = 0;
        for (int64_t expected : ne) {
            if (expected != any && found->ne[dim] != expected) {
                bad("tensor " + name + " has " + std::to_string(found->ne[dim]) + " instead of "
                    + std::to_string(expected) + " in dimension " + std::to_string(dim));
            }
            dim++;
        }
        for (; dim < GGML_MAX_DIMS; dim++) {
            if (found->ne[dim] != 1) {
                bad("tensor " + name + " has too many dimensions");
            }
        }
        const bool is_float = found->type == GGML_TYPE_F32 || found->type == GGML_TYPE_F16 || found->type == GGML_TYPE_BF16;
        const bool is_block = ggml_is_quantized(found->type) && found->type != GGML_TYPE_Q8_1 && found->type != GGML_TYPE_Q8_K;
        if (ne.size() == 1 ? found->type != GGML_TYPE_F32 : !(is_float || is_block)) {
            bad("tensor " + name + " has type " + ggml_type_name(found->type) + ", which cannot be used there");
        }
        return found;
    }

    void convolution(const std::string & name, int64_t patch, int64_t n_embd) const {
        const auto * kernel = tensor(name, { patch, patch, 3, n_embd });
        if (kernel->type != GGML_TYPE_F32 && kernel->type != GGML_TYPE_F16) {
            bad("tensor " + name + " has type " + ggml_type_name(kernel->type) + "; a convolution takes f32 or f16");
        }
    }

    // weight [n_in, n_out] and bias [n_out]
    int64_t linear(const std::string & name, int64_t n_in, int64_t n_out, bool bias_required) const {
        const auto * weight = tensor(name + ".weight", { n_in, n_out });
        tensor(name + ".bias", { weight->ne[1] }, bias_required);
        return weight->ne[1];
    }

    void norm(const std::string & name, int64_t n_embd, bool required) const {
        tensor(name + ".weight", { n_embd }, required);
        tensor(name + ".bias",   { n_embd }, false);
    }

    const char * path;

  private:
    int64_t          n_bytes = 0;
    gguf_context_ptr gguf;
    ggml_context_ptr meta;
};

struct tower_shape {
    int32_t n_layer, n_embd, image_size, patch_size;
};

void check_layers(const projector_gguf & file, const tower_shape & tower, bool qkv_bias_required) {
    const int64_t n_embd = tower.n_embd;

    file.norm("v.pre_ln",  n_embd, false);
    file.norm("v.post_ln", n_embd, false);

    for (int32_t il = 0; il < tower.n_layer; il++) {
        const std::string blk = "v.blk." + std::to_string(il) + ".";
        for (const char * name : { "attn_q", "attn_k", "attn_v" }) {
            file.linear(blk + name, n_embd, n_embd, qkv_bias_required);
        }
        file.linear(blk + "attn_out", n_embd, n_embd, false);
        file.norm(blk + "ln1", n_embd, true);
        file.norm(blk + "ln2", n_embd, true);

        // files converted long ago have the two swapped; upstream tells them by the first dimension of "down"
        const auto * down    = file.tensor(blk + "ffn_down.weight", { any, any });
        const bool   swapped = down->ne[0] == n_embd;
        const char * first   = swapped ? "ffn_down" : "ffn_up";
        const char * second  = swapped ? "ffn_up"   : "ffn_down";
        const int64_t n_ff   = file.linear(blk + first, n_embd, any, false);
        file.linear(blk + second, n_ff, n_embd, false);
        if (file.find(blk + "ffn_gate.weight")) {
            file.linear(blk + "ffn_gate", n_embd, n_ff, false);
        }

        // variants of a block that none of the families here has
        for (const char * name : { "attn_qkv.weight", "attn_q_norm.weight", "attn_k_norm.weight", "ls1.weight",
                "ls2.weight", "out_scale.weight", "attn_post_norm.weight", "ffn_post_norm.weight",
                "ffn_gate_exps.weight", "attn_sinks" }) {
            if (file.find(blk + name)) {
                illava_fail(ILLAVA_UNSUPPORTED, "%s: tensor %s%s belongs to no encoder that is supported",
                    file.path, blk.c_str(), name);
            }
        }
    }
}

void check_llava(const projector_gguf & file, const tower_shape & tower) {
    const int64_t n_embd = tower.n_embd;
    const int64_t side   = tower.image_size / tower.patch_size;
    const int64_t n_cls  = file.tensor("v.class_embd", { n_embd }, false) ? 1 : 0;

    file.convolution("v.patch_embd.weight", tower.patch_size, n_embd);
    file.tensor("v.patch_embd.bias", { n_embd }, false);
    const auto * positions = file.tensor("v.position_embd.weight", { n_embd, any });
    if (positions->ne[1] < side * side + n_cls) {
        file.bad("v.position_embd.weight holds " + std::to_string(positions->ne[1]) + " positions, the image has "
            + std::to_string(side * side + n_cls));
    }
    check_layers(file, tower, false);

    const auto features = file.numbers<int32_t>("clip.vision.feature_layer");
    for (int32_t layer : features) {
        if (layer < 0 || layer > tower.n_layer) {
            file.bad("clip.vision.feature_layer names layer " + std::to_string(layer) + " of " + std::to_string(tower.n_layer));
        }
    }
    const int64_t n_in = n_embd * (features.empty() ? 1 : (int64_t) features.size());

    const int64_t n_mid = file.linear("mm.0", n_in, any, true);
    if (file.find("mm.3.weight")) { // two norms between and behind the layers: Yi
        file.tensor("mm.1.weight", { n_mid });
        file.tensor("mm.1.bias",   { n_mid });
        const int64_t n_out = file.linear("mm.3", n_mid, any, true);
        file.tensor("mm.4.weight", { n_out });
        file.tensor("mm.4.bias",   { n_out });
    } else {
        file.linear("mm.2", n_mid, any, true);
    }

    const auto pinpoints = file.numbers<int32_t>("clip.vision.image_grid_pinpoints");
    for (int32_t size : pinpoints) {
        if (size <= 0 || size > max_side || size % tower.image_size != 0) {
            file.bad("clip.vision.image_grid_pinpoints has " + std::to_string(size) + ", not a multiple of the image size "
                + std::to_string(tower.image_size));
        }
    }
    if (pinpoints.size() % 2 != 0 || pinpoints.size() > 1024) {
        file.bad("clip.vision.image_grid_pinpoints has " + std::to_string(pinpoints.size()) + " numbers");
    }
}

void check_janus(const projector_gguf & file, const tower_shape & tower) {
    const int64_t side = tower.image_size / tower.patch_size;
    file.convolution("v.patch_embd.weight", tower.patch_size, tower.n_embd);
    file.tensor("v.patch_embd.bias", { tower.n_embd }, false);
    const auto * positions = file.tensor("v.position_embd.weight", { tower.n_embd, side * side });
    if (positions->type != GGML_TYPE_F32) {
        file.bad("v.position_embd.weight has type " + std::string(ggml_type_name(positions->type)) + ", it is added as f32");
    }
    check_layers(file, tower, false);
    file.linear("mm.1", file.linear("mm.0", tower.n_embd, any, true), any, true);
}

void check_qwen2vl(const projector_gguf & file, const tower_shape & tower, bool windows) {
    file.convolution("v.patch_embd.weight",   tower.patch_size, tower.n_embd);
    file.convolution("v.patch_embd.weight.1", tower.patch_size, tower.n_embd);
    if (file.find("v.class_embd") || file.find("v.patch_embd.bias")) {
        file.bad("a Qwen2-VL encoder has neither class token nor patch bias");
    }
    check_layers(file, tower, true);
    file.linear("mm.2", file.linear("mm.0", (int64_t) tower.n_embd * 4, any, true), any, true);

    file.number("clip.vision.spatial_merge_size", 2, 2, 2);
    // with a pattern of 1 no layer uses the window mask that upstream wants to fill
    file.number("clip.vision.n_wa_pattern", windows ? 2 : 0, windows ? max_layers : 0, windows ? -1 : 0);
}

void check_token_limit(const tower_shape & tower, const char * name, int32_t n_tokens) {
    const int64_t pixels = (int64_t) n_tokens * tower.patch_size * tower.patch_size * 4;
    if (n_tokens < 0 || pixels > max_pixels) {
        illava_fail(ILLAVA_BAD_ARG, "%s = %d: with patches of %d pixels at most %" PRId64, name, n_tokens,
            tower.patch_size, max_pixels / ((int64_t) tower.patch_size * tower.patch_size * 4));
    }
}

// A projector that upstream's own code reads: numbers that it would divide by or allocate for, and the data.
illava_projector_file check_library(const projector_gguf & file, const std::string & projector) {
    if (const char * reason = illava_mtmd_why_not(clip_projector_type_from_string(projector))) {
        illava_fail(ILLAVA_UNSUPPORTED, "%s: projector \"%s\" is not supported: %s", file.path, projector.c_str(), reason);
    }
    file.number("clip.vision.block_count",      0, max_layers);
    file.number("clip.vision.embedding_length", 1, max_width);
    file.number("clip.vision.image_size",       1, max_side);
    file.number("clip.vision.patch_size",       1, 1024);
    file.number("clip.vision.attention.head_count", 1, max_width);
    file.check_data_is_there();

    illava_projector_file found;
    found.projector  = projector;
    found.by_library = true;
    return found;
}

} // namespace

illava_projector_file illava_check_projector_file(const char * path, int32_t image_min_tokens, int32_t image_max_tokens) {
    const projector_gguf file(path);
    file.check_key_types();

    const std::string arch = file.text("general.architecture");
    if (arch != "clip") {
        file.bad(arch.empty() ? "no model: general.architecture is missing"
            : "a text model (" + arch + "), not an image projector; give it as the model");
    }
    if (!file.flag("clip.has_vision_encoder")) {
        file.bad("has no image encoder");
    }
    std::string projector = file.text("clip.projector_type");
    if (projector.empty()) {
        projector = file.text("clip.vision.projector_type");
    }
    const bool llava   = projector == "mlp";
    const bool janus   = projector == "janus_pro";
    const bool qwen2   = projector == "qwen2vl_merger";
    const bool qwen2_5 = projector == "qwen2.5vl_merger";
    // sound beside the pictures: the same projector, without the checks and the merging of ours
    const bool sound = file.flag("clip.has_audio_encoder") || file.flag("clip.has_gen_audio_encoder");
    if (sound || (!llava && !janus && !qwen2 && !qwen2_5)) {
        return check_library(file, projector);
    }

    tower_shape tower;
    tower.n_layer    = file.number("clip.vision.block_count",      1, max_layers);
    tower.n_embd     = file.number("clip.vision.embedding_length", 1, max_width);
    tower.image_size = file.number("clip.vision.image_size",       1, max_side);
    tower.patch_size = file.number("clip.vision.patch_size",       1, 1024);
    if (tower.patch_size > tower.image_size) {
        file.bad("patches of " + std::to_string(tower.patch_size) + " pixels in an image of " + std::to_string(tower.image_size));
    }

    const int32_t n_head = file.number("clip.vision.attention.head_count", 1, tower.n_embd);
    if (tower.n_embd % n_head != 0) {
        file.bad(std::to_string(n_head) + " heads do not divide the width " + std::to_string(tower.n_embd));
    }
    const int32_t d_head = tower.n_embd / n_head;
    file.number("clip.vision.attention.head_count_kv", n_head, n_head, n_head);
    file.number("clip.vision.attention.head_dim",      d_head, d_head, d_head);
    if ((qwen2 || qwen2_5) && d_head % 4 != 0) {
        file.bad("heads of " + std::to_string(d_head) + " do not divide into four position sections");
    }
    for (const char * key : { "clip.vision.image_mean", "clip.vision.image_std" }) {
        const auto values = file.numbers<float>(key);
        if (values.size() < 3) {
            file.bad(std::string("key ") + key + " needs three numbers");
        }
        for (int c = 0; c < 3; c++) {
            if (!std::isfinite(values[c]) || (strstr(key, "std") && values[c] == 0.0f)) {
                file.bad(std::string("key ") + key + " has a value that no pixel can be normalised with");
            }
        }
    }

    if (llava) {
        check_llava(file, tower);
    } else if (janus) {
        check_janus(file, tower);
    } else {
        check_qwen2vl(file, tower, qwen2_5);
        check_token_limit(tower, "image_min_tokens", image_min_tokens);
        check_token_limit(tower, "image_max_tokens", image_max_tokens);
        if (image_max_tokens > 0 && image_min_tokens > image_max_tokens) {
            illava_fail(ILLAVA_BAD_ARG, "image_min_tokens = %d is above image_max_tokens = %d", image_min_tokens, image_max_tokens);
        }
    }
    file.check_data_is_there();

    file.check_text("clip.vision.hidden_act", { "gelu", "gelu_pytorch_tanh", "gelu_new", "quick_gelu" });
    for (const char * key : { "clip.vision.projector.hidden_act", "illava.vision.projector_activation" }) {
        file.check_text(key, { "gelu", "gelu_pytorch_tanh" });
    }
    for (const char * key : { "clip.vision.class_token", "illava.vision.class_token" }) {
        file.check_text(key, { "first", "last" });
    }
    illava_projector_file found;
    found.projector = projector;
    return found;
}
