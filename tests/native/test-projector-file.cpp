// Loading a projector that is truncated, damaged, of another kind or made to hurt gives a status and a
// sentence that names the file. It never ends the process. If a changed byte leaves a usable file, it must
// also encode.

#include "illava.h"
#include "projector-fixture.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace {

int n_failed  = 0;
int n_refused = 0;
int n_loaded  = 0;

#define CHECK(condition, ...)                                                \
    do {                                                                     \
        if (!(condition)) {                                                  \
            n_failed++;                                                      \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);  \
            fprintf(stderr, __VA_ARGS__);                                    \
            fprintf(stderr, " [%s]\n", illava_last_error());                 \
        }                                                                    \
    } while (0)

std::vector<char> read_file(const std::string & path) {
    std::ifstream file(path, std::ios::binary);
    return { std::istreambuf_iterator<char>(file), {} };
}

void write_file(const std::string & path, const std::vector<char> & bytes) {
    std::ofstream(path, std::ios::binary).write(bytes.data(), (std::streamsize) bytes.size());
}

illava_status load(const std::string & path, illava_vision ** vision, int32_t min_tokens = 0, int32_t max_tokens = 0) {
    illava_vision_params params = {};
    params.size             = sizeof(params);
    params.flash_attn       = -1;
    params.n_threads        = 1;
    params.image_min_tokens = min_tokens;
    params.image_max_tokens = max_tokens;
    return illava_vision_load(path.c_str(), &params, vision);
}

// Loads, and if that works encodes a small picture with and without merging. Any status will do.
void survive(const std::string & path) {
    illava_vision * vision = nullptr;
    if (load(path, &vision) != ILLAVA_OK) {
        CHECK(!vision && illava_last_error()[0] != '\0', "a refusal without a sentence");
        n_refused++;
        return;
    }
    n_loaded++;
    const std::vector<uint8_t> rgb(48 * 32 * 3, 77);
    illava_image * image = nullptr;
    if (illava_image_from_rgb(vision, rgb.data(), 48, 32, &image) == ILLAVA_OK) {
        const illava_merge_step step = { 1, 4 };
        illava_encode_params params = {};
        params.size      = sizeof(params);
        params.n_threads = 1;
        params.steps     = &step;
        for (size_t n_steps : { 0, 1 }) {
            params.n_steps = n_steps;
            illava_encoded * encoded = nullptr;
            illava_encode(vision, image, 0, &params, &encoded);
            illava_encoded_free(encoded);
        }
    }
    illava_image_free(image);
    illava_vision_free(vision);
}

void refuse(const std::string & path, illava_status expected, const char * says, const char * what) {
    illava_vision * vision = nullptr;
    const auto status = load(path, &vision);
    CHECK(status == expected && !vision, "%s: status %d", what, status);
    CHECK(strstr(illava_last_error(), says) && strstr(illava_last_error(), path.c_str()), "%s: should say %s", what, says);
    illava_vision_free(vision);
}

void check_truncations(const std::string & path, const std::string & broken) {
    const auto bytes = read_file(path);
    std::mt19937 random(1);
    for (int i = 0; i < 60; i++) {
        // half of them in the header, where the numbers are
        const size_t length = random() % (i % 2 == 0 ? std::min<size_t>(bytes.size(), 6000) : bytes.size() - 1);
        write_file(broken, { bytes.begin(), bytes.begin() + (std::ptrdiff_t) length });
        illava_vision * vision = nullptr;
        CHECK(load(broken, &vision) == ILLAVA_BAD_FILE && !vision, "%zu of %zu bytes", length, bytes.size());
        illava_vision_free(vision);
    }
}

void check_flipped_bytes(const std::string & path, const std::string & broken, int n_rounds) {
    const auto bytes = read_file(path);
    std::mt19937 random(2);
    for (int i = 0; i < n_rounds; i++) {
        auto damaged = bytes;
        for (int k = 0; k < 1 + i % 3; k++) {
            damaged[random() % std::min<size_t>(bytes.size(), 8000)] = (char) random();
        }
        write_file(broken, damaged);
        survive(broken);
    }
}

// Damages the entry of one tensor: its name, each dimension, its type.
void check_tensor_entries(const std::string & path, const std::string & broken, const std::vector<std::string> & names) {
    const auto bytes = read_file(path);
    for (const auto & name : names) {
        // an entry: length (u64), name, number of dimensions (u32), dimensions (i64), type (i32), offset (u64)
        const uint64_t length = name.size();
        std::string entry((const char *) &length, sizeof(length));
        entry += name;
        const auto at = std::search(bytes.begin(), bytes.end(), entry.begin(), entry.end());
        CHECK(at != bytes.end(), "%s", name.c_str());
        const size_t end = (size_t) (at - bytes.begin()) + entry.size();

        auto renamed = bytes;
        renamed[end - 1]++;
        write_file(broken, renamed);
        survive(broken);

        uint32_t n_dims;
        memcpy(&n_dims, &bytes[end], sizeof(n_dims));
        for (uint32_t dim = 0; dim < n_dims; dim++) {
            for (int64_t ne : { (int64_t) 0, (int64_t) 1, (int64_t) 7, (int64_t) 1 << 20, (int64_t) -1, INT64_MAX }) {
                auto reshaped = bytes;
                memcpy(&reshaped[end + 4 + dim * 8], &ne, sizeof(ne));
                write_file(broken, reshaped);
                survive(broken);
            }
        }
        for (int32_t type = -1; type < 45; type++) {
            auto retyped = bytes;
            memcpy(&retyped[end + 4 + n_dims * 8], &type, sizeof(type));
            write_file(broken, retyped);
            survive(broken);
        }
    }
}

void check_keys(fixture::family kind, const std::string & broken) {
    const auto with = [&](const std::function<void(gguf_context *)> & change) {
        fixture::projector_file file(kind);
        change(file.raw());
        file.write(broken);
    };
    fixture::projector_file sound(kind);
    std::vector<std::string> keys;
    for (int64_t i = 0; i < gguf_get_n_kv(sound.raw()); i++) {
        keys.push_back(gguf_get_key(sound.raw(), i));
    }
    for (const auto & key : keys) {
        with([&](gguf_context * gguf) { gguf_remove_key(gguf, key.c_str()); });
        survive(broken);
        for (uint32_t value : { 0u, 1u, 3u, 1000u, 1u << 20, 0x7fffffffu, 0xffffffffu }) {
            with([&](gguf_context * gguf) { gguf_set_val_u32(gguf, key.c_str(), value); });
            survive(broken);
        }
        with([&](gguf_context * gguf) { gguf_set_val_str(gguf, key.c_str(), "something"); });
        survive(broken);
        const float one = 1.0f;
        with([&](gguf_context * gguf) { gguf_set_arr_data(gguf, key.c_str(), GGUF_TYPE_FLOAT32, &one, 1); });
        survive(broken);
    }
    for (const char * key : { "clip.vision.feature_layer", "clip.vision.image_grid_pinpoints" }) {
        for (int32_t value : { -1, 0, 2, 64, 63, 1 << 30 }) {
            const int32_t values[] = { value, value };
            with([&](gguf_context * gguf) { gguf_set_arr_data(gguf, key, GGUF_TYPE_INT32, values, 2); });
            survive(broken);
        }
    }
}

void check_sentences(const std::string & sound, const std::string & broken) {
    refuse(broken + ".missing", ILLAVA_BAD_FILE, "opened", "no such file");
    write_file(broken, {});
    refuse(broken, ILLAVA_BAD_FILE, "GGUF", "an empty file");
    write_file(broken, std::vector<char>(5000, 'x'));
    refuse(broken, ILLAVA_BAD_FILE, "GGUF", "no GGUF");

    fixture::projector_file text(fixture::family::siglip);
    gguf_set_val_str(text.raw(), "general.architecture", "qwen2");
    text.write(broken);
    refuse(broken, ILLAVA_BAD_FILE, "qwen2", "a text model");

    fixture::projector_file sound_maker(fixture::family::siglip);
    gguf_set_val_bool(sound_maker.raw(), "clip.has_audio_encoder", true);
    sound_maker.write(broken);
    refuse(broken, ILLAVA_BAD_FILE, "clip.audio.", "a sound encoder without its keys");

    fixture::projector_file other(fixture::family::siglip);
    gguf_set_val_str(other.raw(), "clip.projector_type", "resampler");
    other.write(broken);
    refuse(broken, ILLAVA_BAD_FILE, "resampler.pos_embed_k", "another type, without its tensors");
    gguf_set_val_str(other.raw(), "clip.projector_type", "nonsense");
    other.write(broken);
    refuse(broken, ILLAVA_UNSUPPORTED, "nonsense", "no type of upstream's");

    auto bytes = read_file(sound);
    bytes.resize(bytes.size() - 100);
    write_file(broken, bytes);
    refuse(broken, ILLAVA_BAD_FILE, "truncated", "the last bytes are missing");

    illava_vision * vision = nullptr;
    CHECK(illava_vision_load(sound.c_str(), nullptr, &vision) == ILLAVA_BAD_ARG, "no params");
    illava_vision_params params = {};
    CHECK(illava_vision_load(sound.c_str(), &params, &vision) == ILLAVA_BAD_ARG, "no size");
}

void check_token_limits(const std::string & qwen) {
    for (const auto & [least, most] : std::vector<std::pair<int32_t, int32_t>> {
            { -1, 0 }, { 0, -1 }, { INT32_MAX, 0 }, { 0, INT32_MAX }, { 20, 10 } }) {
        illava_vision * vision = nullptr;
        CHECK(load(qwen, &vision, least, most) == ILLAVA_BAD_ARG && !vision, "%d to %d", least, most);
    }
    illava_vision * vision = nullptr;
    CHECK(load(qwen, &vision, 4, 16) == ILLAVA_OK, "4 to 16");
    for (const auto & [nx, ny] : std::vector<std::pair<uint32_t, uint32_t>> { { 500, 400 }, { 8, 8 } }) {
        const std::vector<uint8_t> rgb((size_t) nx * ny * 3, 9);
        illava_image * image = nullptr;
        CHECK(illava_image_from_rgb(vision, rgb.data(), nx, ny, &image) == ILLAVA_OK, "%u x %u", nx, ny);
        illava_tile tile = {};
        tile.size = sizeof(tile);
        CHECK(illava_image_tile(vision, image, 0, &tile) == ILLAVA_OK, "tile");
        const uint32_t n_tokens = tile.grid_x * tile.grid_y / 4;
        CHECK(n_tokens >= 4 && n_tokens <= 16, "%u tokens", n_tokens);
        illava_image_free(image);
    }
    illava_vision_free(vision);
}

} // namespace

int main() {
    illava_log_set([](ggml_log_level, const char *, void *) {}, nullptr);

    const auto folder = std::filesystem::temp_directory_path() / ("illava-projector-" + std::to_string(std::random_device{}()));
    std::filesystem::create_directories(folder);
    const auto siglip = (folder / "siglip.gguf").string();
    const auto clip   = (folder / "clip.gguf").string();
    const auto qwen   = (folder / "qwen2vl.gguf").string();
    const auto broken = (folder / "broken.gguf").string();
    fixture::projector_file(fixture::family::siglip).write(siglip);
    fixture::projector_file(fixture::family::clip).write(clip);
    fixture::projector_file(fixture::family::qwen2vl).write(qwen);

    survive(siglip);
    survive(clip);
    survive(qwen);
    CHECK(n_loaded == 3 && n_refused == 0, "%d loaded, %d refused", n_loaded, n_refused);

    check_sentences(siglip, broken);
    check_token_limits(qwen);
    check_truncations(siglip, broken);
    check_truncations(qwen, broken);
    check_flipped_bytes(clip, broken, 300);
    check_flipped_bytes(qwen, broken, 300);
    check_tensor_entries(clip, broken, { "v.patch_embd.weight", "v.patch_embd.bias", "v.position_embd.weight", "v.class_embd",
        "v.pre_ln.weight", "v.blk.0.ln1.weight", "v.blk.1.attn_q.weight", "v.blk.2.attn_k.bias", "v.blk.0.attn_out.weight",
        "v.blk.0.ffn_up.weight", "v.blk.0.ffn_up.bias", "v.blk.1.ffn_down.weight", "mm.0.weight", "mm.0.bias", "mm.2.weight" });
    check_tensor_entries(qwen, broken, { "v.patch_embd.weight.1", "v.blk.0.attn_v.bias", "v.post_ln.bias", "mm.0.weight",
        "mm.2.bias" });
    for (auto kind : { fixture::family::siglip, fixture::family::janus, fixture::family::qwen2vl, fixture::family::qwen2_5vl }) {
        check_keys(kind, broken);
    }

    std::filesystem::remove_all(folder);
    if (n_failed > 0) {
        fprintf(stderr, "%d checks failed\n", n_failed);
        return 1;
    }
    printf("projector files: %d refused, %d usable\n", n_refused, n_loaded);
    return 0;
}
