// Merging in the image encoder through the C boundary. Off is upstream's result bit for bit, and the trace
// follows the algorithm. The number of tokens is the announced one, and no argument of a caller ends the
// process.
//
// Runs on tiny files it writes itself; projector files given as arguments are put through the same checks.

#include "clip-impl.h"
#include "clip.h"
#include "illava.h"
#include "projector-fixture.h"
#include "vision-fixture.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

namespace {

std::atomic<int> n_failed{ 0 };

#define CHECK(condition, ...)                                                \
    do {                                                                     \
        if (!(condition)) {                                                  \
            n_failed++;                                                      \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);  \
            fprintf(stderr, __VA_ARGS__);                                    \
            fprintf(stderr, " [%s]\n", illava_last_error());                 \
        }                                                                    \
    } while (0)

using namespace fixture;

using clip_ptr = std::unique_ptr<clip_ctx, releaser<clip_free>>;
using steps    = merge_steps;

vision_ptr load(const std::string & path, int flash_attn) {
    auto vision = load_vision(path, vision_params(flash_attn));
    CHECK(vision, "%s", path.c_str());
    return vision;
}

std::vector<uint8_t> noise(size_t n, uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<uint8_t> bytes(n);
    for (auto & byte : bytes) {
        byte = (uint8_t) random();
    }
    return bytes;
}

image_ptr picture(const vision_ptr & vision, uint32_t nx, uint32_t ny) {
    auto image = make_image(vision, noise((size_t) nx * ny * 3, nx * 31 + ny), nx, ny);
    CHECK(image, "%u x %u", nx, ny);
    return image;
}

illava_tile tile_of(const vision_ptr & vision, const image_ptr & image) {
    illava_tile tile = {};
    tile.size = sizeof(tile);
    CHECK(illava_image_tile(vision.get(), image.get(), 0, &tile) == ILLAVA_OK, "tile");
    return tile;
}

encoded_ptr encode(const vision_ptr & vision, const image_ptr & image, const steps & schedule,
        illava_grid grid = ILLAVA_GRID_FAITHFUL, bool composed = false, int n_threads = 1) {
    auto encoded = encode_tile(vision, image, encode_params(schedule, grid, composed, n_threads));
    CHECK(encoded, "encode");
    return encoded;
}

// The same pixels through upstream's entry point on a context of its own.
std::vector<float> upstream(const std::string & path, int flash_attn, const illava_tile & tile) {
    clip_context_params params = {};
    params.flash_attn_type = (clip_flash_attn_type) flash_attn;
    const clip_ptr clip(clip_init(path.c_str(), params).ctx_v);

    clip_image_f32 image;
    image.set_size({ (int) tile.nx, (int) tile.ny }, false, false);
    image.cpy_buf({ tile.data, tile.data + (size_t) tile.nx * tile.ny * 3 });
    std::vector<float> embd((size_t) clip_n_output_tokens(clip.get(), &image) * clip_n_mmproj_embd(clip.get()));
    CHECK(clip_image_encode(clip.get(), 1, &image, embd), "upstream");
    return embd;
}

// Checks one step against its scores: the order by (score, index), the r + 1 first merged into the last of
// them, all others and that one kept. `entered` are the original indices of the tokens that entered.
void check_step(const illava_step & step, std::vector<int32_t> & entered, int32_t unit_r) {
    CHECK(step.n_in == (int32_t) entered.size(), "%d of %zu", step.n_in, entered.size());
    CHECK(step.n_out == step.n_in - unit_r, "%d - %d", step.n_in, unit_r);

    std::vector<int32_t> order(step.n_in);
    for (int32_t i = 0; i < step.n_in; i++) {
        order[i] = i;
    }
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return step.scores[a] < step.scores[b]; });

    std::vector<bool> removed(step.n_in, false);
    for (int32_t k = 0; k <= unit_r; k++) {
        CHECK(step.merged[k] == entered[order[k]], "layer %d: place %d", step.layer, k);
        removed[order[k]] = k < unit_r;
    }
    CHECK(step.into == entered[order[unit_r]], "layer %d", step.layer);

    std::vector<int32_t> left;
    for (int32_t i = 0; i < step.n_in; i++) {
        if (!removed[i]) {
            left.push_back(entered[i]);
        }
    }
    CHECK(std::equal(left.begin(), left.end(), step.kept, step.kept + step.n_out), "layer %d", step.layer);
    entered = left;
}

// Attention is a distribution: over all keys the scores sum to one, the class token's share apart.
void check_scores(const illava_step & step, bool class_token, int32_t unit_rows) {
    double sum = 0;
    for (int32_t i = 0; i < step.n_in; i++) {
        CHECK(step.scores[i] > 0, "score %d", i);
        sum += (double) step.scores[i] * unit_rows;
    }
    CHECK(class_token ? sum > 0.5 && sum < 1.0 : std::fabs(sum - 1.0) < 1e-4, "scores sum to %f", sum);
}

void check_schedule(const vision_ptr & vision, const image_ptr & image, const steps & schedule, illava_grid grid) {
    const auto    info    = describe(vision);
    const auto    tile    = tile_of(vision, image);
    const int32_t unit    = grid == ILLAVA_GRID_FAITHFUL ? info.group : 1;
    const int32_t n_units = (int32_t) (tile.grid_x * tile.grid_y) / unit;

    const auto fused    = encode(vision, image, schedule, grid, false);
    const auto composed = encode(vision, image, schedule, grid, true);
    const auto threads  = encode(vision, image, schedule, grid, false, 2);
    if (!fused || !composed || !threads) {
        return;
    }
    const auto view = view_of(fused);

    uint32_t announced = 0;
    const auto params = encode_params(schedule, grid, false, 1);
    CHECK(illava_encoded_n_tokens(vision.get(), tile.grid_x, tile.grid_y, &params, &announced) == ILLAVA_OK, "n_tokens");
    CHECK(announced == view.n_tokens, "%u announced, %u came", announced, view.n_tokens);

    std::vector<int32_t> entered(n_units);
    for (int32_t i = 0; i < n_units; i++) {
        entered[i] = i;
    }
    size_t i_step = 0;
    for (const auto & [layer, r] : schedule) {
        if (r == 0) {
            continue;
        }
        const auto step = step_of(fused, i_step);
        CHECK(step.layer == layer, "%d", step.layer);
        check_scores(step, info.class_token, unit);
        check_step(step, entered, r / unit);

        for (const auto * other : { &composed, &threads }) {
            const auto again = step_of(*other, i_step);
            CHECK(again.n_out == step.n_out && std::equal(step.kept, step.kept + step.n_out, again.kept), "layer %d", layer);
            CHECK(std::equal(step.merged, step.merged + r / unit + 1, again.merged), "layer %d", layer);
        }
        i_step++;
    }
    CHECK(view.n_steps == i_step, "%zu steps", view.n_steps);
    CHECK(view.n_tokens == entered.size() * unit / info.group, "%u tokens", view.n_tokens);

    for (uint32_t i = 0; i < view.n_tokens; i++) {
        const int32_t cell = unit == info.group ? entered[i] : (int32_t) i;
        CHECK(view.kept[i] == cell, "token %u: %d", i, view.kept[i]);
    }
    CHECK(view.cells_x * view.cells_y == tile.grid_x * tile.grid_y / info.group, "cells");
    CHECK(relative_error(values(view_of(composed)), values(view)) < 1e-4, "composed");
    CHECK(same_bits(values(view_of(threads)), values(view)), "one thread and two differ");
    CHECK(view.encoder_ms > 0 && view.projector_ms > 0, "%f %f", view.encoder_ms, view.projector_ms);
}

void check_off(const std::string & path, int flash_attn, const vision_ptr & vision, const image_ptr & image) {
    const auto expected = upstream(path, flash_attn, tile_of(vision, image));
    const auto off      = encode(vision, image, {});
    const auto zero     = encode(vision, image, { { describe(vision).first_layer, 0 }, { 2, 0 } });
    CHECK(same_bits(values(view_of(off)), expected), "%s: off", path.c_str());
    CHECK(same_bits(values(view_of(zero)), expected), "%s: r = 0", path.c_str());
    CHECK(view_of(zero).n_steps == 0, "r = 0 leaves no step");
    for (uint32_t i = 0; i < view_of(off).n_tokens; i++) {
        CHECK(view_of(off).kept[i] == (int32_t) i, "cell %u", i);
    }

    // the tile's own pixels, handed in as such
    const auto tile = tile_of(vision, image);
    illava_image * raw = nullptr;
    CHECK(illava_image_from_f32(vision.get(), tile.data, tile.nx, tile.ny, &raw) == ILLAVA_OK, "from_f32");
    CHECK(same_bits(values(view_of(encode(vision, image_ptr(raw), {}))), expected), "from_f32");
}

void check_model(const std::string & path) {
    for (int flash_attn : { 0, 1 }) {
        const auto vision = load(path, flash_attn);
        if (!vision) {
            continue;
        }
        const auto info = describe(vision);
        CHECK(info.n_layer_run >= 4, "%d layers", info.n_layer_run);
        CHECK(info.weight_bytes > 0 && illava_vision_compute_bytes(vision.get()) > 0, "bytes");

        std::vector<std::pair<uint32_t, uint32_t>> sizes = { { 64, 64 } };
        if (info.dynamic_size) {
            const uint32_t cell = info.patch_size * 2;
            sizes = { { 6 * cell, 6 * cell }, { 12 * cell, 3 * cell }, { 2 * cell, 7 * cell } };
        }
        for (const auto & [nx, ny] : sizes) {
            const auto image = picture(vision, nx, ny);
            check_off(path, flash_attn, vision, image);
            if (!info.can_merge) {
                continue;
            }
            const auto    tile = tile_of(vision, image);
            const int32_t n    = (int32_t) (tile.grid_x * tile.grid_y);
            const int32_t g    = info.group;
            const int32_t last = info.n_layer_run - 1;
            const int32_t low  = info.first_layer;
            steps several = { { low, g }, { low + 1, n / 6 / g * g }, { low + 2, 0 }, { last, n / 4 / g * g } };
            if (low + 2 == last) {
                several.erase(several.begin() + 2);
            }
            for (auto grid : { ILLAVA_GRID_FAITHFUL, ILLAVA_GRID_REFERENCE }) {
                check_schedule(vision, image, { { 1, n / 8 / g * g } }, grid);
                if (g == 1 && grid == ILLAVA_GRID_REFERENCE) {
                    continue; // with nothing to regroup the two grids are one
                }
                check_schedule(vision, image, several, grid);
                check_schedule(vision, image, { { last, n - g } }, grid); // one token is left
            }
            if (g > 1) { // single patches may leave unevenly as long as whole groups remain
                check_schedule(vision, image, { { low, 3 }, { 2, 2 }, { 3, 3 } }, ILLAVA_GRID_REFERENCE);
            }
        }
    }
}

void check_refusals(const std::string & siglip, const std::string & qwen, const std::string & windowed) {
    const auto vision = load(siglip, 1);
    const auto image  = picture(vision, 50, 70);

    const auto refused = [](const vision_ptr & vision, const image_ptr & image, const illava_encode_params & params,
            illava_status expected, const char * says) {
        illava_encoded * encoded = nullptr;
        const auto status = illava_encode(vision.get(), image.get(), 0, &params, &encoded);
        CHECK(status == expected && !encoded, "status %d", status);
        CHECK(strstr(illava_last_error(), says), "should say %s", says);
        uint32_t n_tokens = 0;
        const auto tile = tile_of(vision, image);
        if (params.n_threads > 0) {
            CHECK(illava_encoded_n_tokens(vision.get(), tile.grid_x, tile.grid_y, &params, &n_tokens) == expected, "n_tokens");
        }
    };
    const auto with = [](const steps & schedule, illava_grid grid = ILLAVA_GRID_FAITHFUL) {
        return encode_params(schedule, grid, false, 1);
    };
    const steps beyond = { { 4, 1 } }, below = { { -1, 1 } }, twice = { { 1, 1 }, { 1, 1 } }, back = { { 2, 1 }, { 1, 1 } },
        all = { { 1, 64 } }, later = { { 1, 40 }, { 2, 24 } }, negative = { { 1, -1 } }, zero_beyond = { { 9, 0 } };
    refused(vision, image, with(beyond),      ILLAVA_BAD_ARG, "0 to 3");
    refused(vision, image, with(zero_beyond), ILLAVA_BAD_ARG, "0 to 3");
    refused(vision, image, with(below),       ILLAVA_BAD_ARG, "-1");
    refused(vision, image, with(twice),       ILLAVA_BAD_ARG, "ascend");
    refused(vision, image, with(back),        ILLAVA_BAD_ARG, "ascend");
    refused(vision, image, with(all),         ILLAVA_BAD_ARG, "at most 63");
    refused(vision, image, with(later),       ILLAVA_BAD_ARG, "at most 23");
    refused(vision, image, with(negative),    ILLAVA_BAD_ARG, "-1");

    auto params = with({});
    const int32_t no_grid = 7;
    memcpy(&params.grid, &no_grid, sizeof(no_grid));
    refused(vision, image, params, ILLAVA_BAD_ARG, "grid");
    params = with({});
    params.n_threads = 0;
    refused(vision, image, params, ILLAVA_BAD_ARG, "n_threads");
    params = with({});
    params.size++;
    refused(vision, image, params, ILLAVA_BAD_ARG, "size");
    params = with({});
    params.n_steps = 1;
    params.steps   = nullptr;
    refused(vision, image, params, ILLAVA_BAD_ARG, "NULL");

    const auto qwen_vision = load(qwen, 1);
    const auto qwen_image  = picture(qwen_vision, 96, 96);
    const steps odd = { { 1, 6 } };
    refused(qwen_vision, qwen_image, with(odd), ILLAVA_BAD_ARG, "multiple of 4");
    refused(qwen_vision, qwen_image, with(odd, ILLAVA_GRID_REFERENCE), ILLAVA_BAD_ARG, "by 4");

    const auto windows       = load(windowed, 1);
    const auto windows_image = picture(windows, 96, 96);
    const steps four = { { 0, 4 } };
    CHECK(describe(windows).first_layer == 1, "layer 0 has windows only");
    refused(windows, windows_image, with(four), ILLAVA_BAD_ARG, "1 to 4");

    illava_encoded * encoded = nullptr;
    params = with({});
    CHECK(illava_encode(vision.get(), image.get(), 1, &params, &encoded) == ILLAVA_BAD_ARG, "tile 1");
    CHECK(illava_encode(vision.get(), qwen_image.get(), 0, &params, &encoded) == ILLAVA_BAD_ARG, "another model's tile");
    CHECK(illava_encode(nullptr, image.get(), 0, &params, &encoded) == ILLAVA_BAD_ARG, "NULL");
}

void check_pictures(const std::string & siglip, const std::string & qwen) {
    for (const auto & path : { siglip, qwen }) {
        const auto vision = load(path, 1);
        for (const auto & [nx, ny] : std::vector<std::pair<uint32_t, uint32_t>> {
                { 1, 1 }, { 1, 10000 }, { 10000, 1 }, { 3, 2 }, { 32768, 1 }, { 1, 32768 }, { 700, 500 } }) {
            const auto image = picture(vision, nx, ny);
            const auto tile = tile_of(vision, image);
            if (tile.grid_x * tile.grid_y <= 3000) { // more would only take time
                CHECK(encode(vision, image, {}), "%u x %u", nx, ny);
            }
        }
        const uint8_t pixel[3] = { 1, 2, 3 };
        for (const auto & [nx, ny] : std::vector<std::pair<uint32_t, uint32_t>> {
                { 0, 1 }, { 1, 0 }, { 32769, 1 }, { 1, 4000000000u }, { 20000, 20000 } }) {
            illava_image * image = nullptr;
            CHECK(illava_image_from_rgb(vision.get(), pixel, nx, ny, &image) == ILLAVA_BAD_ARG && !image, "%u x %u", nx, ny);
        }
        const float value[3] = { 0, 0, 0 };
        illava_image * image = nullptr;
        CHECK(illava_image_from_f32(vision.get(), value, 1, 1, &image) == ILLAVA_BAD_ARG && !image, "one pixel");
        CHECK(illava_image_from_f32(vision.get(), value, 65536, 65536, &image) == ILLAVA_BAD_ARG && !image, "huge");
    }
}

// An anyres encoder: an overview and tiles, each merged on its own.
void check_tiles(const std::string & path) {
    const auto vision = load(path, 1);
    CHECK(describe(vision).dynamic_size, "tiles follow the picture's size");

    for (const auto & [nx, ny, n_tiles] : std::vector<std::tuple<uint32_t, uint32_t, size_t>> {
            { 64, 64, 1 }, { 100, 100, 5 }, { 300, 70, 3 }, { 1, 10000, 3 }, { 10000, 1, 3 } }) {
        const auto image = picture(vision, nx, ny);
        CHECK(illava_image_n_tiles(image.get()) == n_tiles, "%u x %u: %zu", nx, ny, illava_image_n_tiles(image.get()));
        const steps schedule = { { 1, 20 }, { 3, 10 } };
        const auto params = encode_params(schedule, ILLAVA_GRID_FAITHFUL, false, 1);
        for (size_t i = 0; i < illava_image_n_tiles(image.get()); i++) {
            illava_encoded * encoded = nullptr;
            CHECK(illava_encode(vision.get(), image.get(), i, &params, &encoded) == ILLAVA_OK, "tile %zu", i);
            CHECK(view_of(encoded_ptr(encoded)).n_tokens == 34, "tile %zu", i);
        }
    }
}

// Callers on two threads get what each would have got alone.
void check_two_callers(const std::string & path) {
    const auto vision = load(path, 1);
    const auto image  = picture(vision, 96, 64);
    const steps schedules[] = { { { 1, 8 }, { 2, 8 } }, {} };

    std::vector<float> alone[2];
    for (int i = 0; i < 2; i++) {
        alone[i] = values(view_of(encode(vision, image, schedules[i])));
    }
    int n_same[2] = { 0, 0 };
    std::vector<std::thread> callers;
    for (int i = 0; i < 2; i++) {
        callers.emplace_back([&, i] {
            for (int round = 0; round < 10; round++) {
                const auto encoded = encode(vision, image, schedules[i]);
                n_same[i] += same_bits(values(view_of(encoded)), alone[i]);
            }
        });
    }
    for (auto & caller : callers) {
        caller.join();
    }
    CHECK(n_same[0] == 10 && n_same[1] == 10, "%d and %d of 10", n_same[0], n_same[1]);
}

// Pauses come between the pieces of one computation: often, on the caller's thread, changing nothing, and uncounted.
void check_pauses(const std::string & path) {
    const auto vision = load(path, 1);
    const auto image  = picture(vision, 96, 64);
    struct pauses {
        std::thread::id caller;
        int             n       = 0;
        int             strange = 0;
    };
    for (const steps & schedule : { steps{}, steps{ { 1, 8 }, { 2, 8 } } }) {
        const auto alone = values(view_of(encode(vision, image, schedule)));
        pauses     seen { std::this_thread::get_id() };
        auto       params = encode_params(schedule);
        params.pause_data = &seen;
        params.pause      = [](void * data) {
            auto & seen   = *static_cast<pauses *>(data);
            seen.n++;
            seen.strange += std::this_thread::get_id() != seen.caller;
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        };
        const auto begin   = std::chrono::steady_clock::now();
        const auto encoded = encode_tile(vision, image, params);
        const std::chrono::duration<double, std::milli> wall = std::chrono::steady_clock::now() - begin;
        CHECK(encoded, "with pauses");
        const auto view = view_of(encoded);
        CHECK(same_bits(values(view), alone), "with and without pauses");
        CHECK(seen.n >= 32 && seen.n <= 200 && seen.strange == 0, "%d pauses, %d elsewhere", seen.n, seen.strange);
        CHECK(view.encoder_ms + view.projector_ms + seen.n <= wall.count(), "%g + %g ms of %g with %d pauses",
            view.encoder_ms, view.projector_ms, wall.count(), seen.n);
    }
}

} // namespace

int main(int argc, char ** argv) {
    illava_log_set([](ggml_log_level level, const char * text, void *) {
        if (level == GGML_LOG_LEVEL_ERROR) {
            fputs(text, stderr);
        }
    }, nullptr);

    const auto folder = std::filesystem::temp_directory_path() / ("illava-encoder-" + std::to_string(std::random_device{}()));
    std::filesystem::create_directories(folder);
    const auto write = [&](const char * name, fixture::family kind) {
        const auto path = (folder / name).string();
        fixture::projector_file(kind).write(path);
        return path;
    };
    const auto siglip   = write("siglip.gguf",   fixture::family::siglip);
    const auto clip     = write("clip.gguf",     fixture::family::clip);
    const auto janus    = write("janus.gguf",    fixture::family::janus);
    const auto qwen     = write("qwen2vl.gguf",  fixture::family::qwen2vl);
    const auto windowed = write("windowed.gguf", fixture::family::qwen2_5vl);

    std::vector<std::string> models = { siglip, clip, janus, qwen, windowed };
    models.insert(models.end(), argv + 1, argv + argc);
    for (const auto & path : models) {
        check_model(path);
    }
    check_refusals(siglip, qwen, windowed);
    check_pictures(siglip, qwen);
    check_two_callers(qwen);
    for (const auto & path : { siglip, clip, qwen }) {
        check_pauses(path);
    }

    fixture::projector_file anyres(fixture::family::clip);
    const int32_t pinpoints[] = { 64, 128, 128, 64, 128, 128 };
    gguf_set_arr_data(anyres.raw(), "clip.vision.image_grid_pinpoints", GGUF_TYPE_INT32, pinpoints, 6);
    anyres.write((folder / "anyres.gguf").string());
    check_tiles((folder / "anyres.gguf").string());

    std::filesystem::remove_all(folder);
    if (n_failed > 0) {
        fprintf(stderr, "%d checks failed\n", n_failed.load());
        return 1;
    }
    printf("encoder merge: all checks passed on %zu models\n", models.size());
    return 0;
}
