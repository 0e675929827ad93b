#include "illava-vision.h"

#include "../../src/illava-status.h"
#include "ggml-cpp.h"
#include "ggml-illava.h"
#include "illava-log.h"
#include "illava-stop.h"

#include <algorithm>
#include <cstring>
#include <numeric>

// Larger pictures are refused before anything is allocated for them; upstream's own arithmetic is 32-bit.
static constexpr uint32_t max_side    = 1 << 15;
static constexpr uint64_t max_area    = 1ull << 28;
static constexpr int64_t  max_patches = 1 << 16;
static constexpr int32_t  max_threads = 512;
static constexpr size_t   max_views   = 1024;

//
// pictures
//

static void check_side(uint32_t nx, uint32_t ny) {
    if (nx < 1 || ny < 1 || nx > max_side || ny > max_side || (uint64_t) nx * ny > max_area) {
        illava_fail(ILLAVA_BAD_ARG, "an image of %u x %u pixels: each side takes 1 to %u, both together at most %llu",
            nx, ny, max_side, (unsigned long long) max_area);
    }
}

// Sizes that the graph of this encoder takes; its builders assert the same.
static void check_tile(const illava_vision & vision, uint32_t nx, uint32_t ny) {
    if (vision.mtmd) {
        illava_fail(ILLAVA_UNSUPPORTED, "llama.cpp cuts the pictures of this projector (%s): give the whole picture", vision.projector.c_str());
    }
    const clip_hparams & hparams = vision.hparams();
    if (!vision.is_qwen()) {
        const uint32_t side    = hparams.image_size;
        const bool     smaller = vision.takes_smaller() && nx > 0 && nx < side && nx % hparams.patch_size == 0;
        if (ny != nx || (nx != side && !smaller)) {
            illava_fail(ILLAVA_BAD_ARG, "a tile of %u x %u pixels: this encoder takes %u x %u%s", nx, ny, side, side,
                vision.takes_smaller() ? ", or a smaller square of whole patches" : "");
        }
        return;
    }
    check_side(nx, ny);
    const uint32_t align = hparams.patch_size * hparams.n_merge;
    if (nx % align != 0 || ny % align != 0) {
        illava_fail(ILLAVA_BAD_ARG, "a tile of %u x %u pixels: both sides must be multiples of %u", nx, ny, align);
    }
    const int64_t n_patches = (int64_t) (nx / hparams.patch_size) * (ny / hparams.patch_size);
    if (n_patches > max_patches) {
        illava_fail(ILLAVA_BAD_ARG, "a tile of %u x %u pixels has %lld patches, at most %lld can be encoded", nx, ny,
            (long long) n_patches, (long long) max_patches);
    }
}

// `rgb` is null for a picture without pixels.
static std::unique_ptr<illava_image> preprocessed(const illava_vision & vision, const uint8_t * rgb, uint32_t nx, uint32_t ny) {
    check_side(nx, ny);
    if (vision.mtmd) {
        return illava_mtmd_cut(vision, rgb, nx, ny);
    }

    clip_image_u8 picture;
    picture.set_size({ (int) nx, (int) ny }, /*is_placeholder =*/ rgb == nullptr);
    if (rgb) {
        picture.cpy_buf(std::vector<uint8_t>(rgb, rgb + (size_t) nx * ny * 3));
    }
    mtmd_image_preproc_out result = vision.preprocessor->preprocess(picture);

    auto image = std::make_unique<illava_image>();
    if (result.has_overview()) {
        image->tiles.push_back(std::move(result.overview));
    }
    std::move(result.entries.begin(), result.entries.end(), std::back_inserter(image->tiles));
    for (const auto & tile : image->tiles) {
        check_tile(vision, tile.nx(), tile.ny());
    }
    return image;
}

illava_status illava_image_from_rgb(
        illava_vision * vision, const uint8_t * rgb, uint32_t nx, uint32_t ny, illava_image ** out) {
    return illava_guard([&] {
        illava_require(vision, "vision");
        illava_require(rgb, "rgb");
        illava_require(out, "out");
        *out = nullptr;
        *out = preprocessed(*vision, rgb, nx, ny).release();
    });
}

illava_status illava_image_from_size(const illava_vision * vision, uint32_t nx, uint32_t ny, illava_image ** out) {
    return illava_guard([&] {
        illava_require(vision, "vision");
        illava_require(out, "out");
        *out = nullptr;
        auto image = preprocessed(*vision, nullptr, nx, ny);
        image->has_pixels = false;
        *out = image.release();
    });
}

static clip_image_f32 normalised(const float * rgb, uint32_t nx, uint32_t ny) {
    clip_image_f32 tile;
    tile.set_size({ (int) nx, (int) ny }, false, false);
    tile.cpy_buf(std::vector<float>(rgb, rgb + (size_t) nx * ny * 3));
    return tile;
}

illava_status illava_image_from_f32(
        illava_vision * vision, const float * rgb, uint32_t nx, uint32_t ny, illava_image ** out) {
    return illava_guard([&] {
        illava_require(vision, "vision");
        illava_require(rgb, "rgb");
        illava_require(out, "out");
        *out = nullptr;
        check_tile(*vision, nx, ny);

        auto image = std::make_unique<illava_image>();
        image->tiles.push_back(normalised(rgb, nx, ny));
        *out = image.release();
    });
}

illava_status illava_image_from_frames(
        illava_vision * vision, const float * first, const float * second, uint32_t nx, uint32_t ny, illava_image ** out) {
    return illava_guard([&] {
        illava_require(vision, "vision");
        illava_require(first, "first");
        illava_require(second, "second");
        illava_require(out, "out");
        *out = nullptr;
        if (clip_model_n_temporal_merge(vision->clip.get()) != 2) {
            illava_fail(ILLAVA_UNSUPPORTED, "the image encoder (%s) takes frames one by one, not in pairs", vision->projector.c_str());
        }
        check_tile(*vision, nx, ny);

        auto image = std::make_unique<illava_image>();
        image->tiles.push_back(normalised(first, nx, ny));
        image->second = normalised(second, nx, ny);
        *out = image.release();
    });
}

illava_status illava_image_from_views(
        illava_vision * vision, const illava_view * views, size_t n_views, uint32_t grid_x, uint32_t grid_y, illava_image ** out) {
    return illava_guard([&] {
        illava_require(vision, "vision");
        illava_require(views, "views");
        illava_require(out, "out");
        *out = nullptr;
        if (!vision->mtmd) {
            illava_fail(ILLAVA_UNSUPPORTED, "the pictures of this projector (%s) have no marks: give each tile alone", vision->projector.c_str());
        }
        if (n_views < 1 || n_views > max_views) {
            illava_fail(ILLAVA_BAD_ARG, "%zu views: 1 to %zu", n_views, max_views);
        }
        *out = illava_mtmd_mark(*vision, std::vector<illava_view>(views, views + n_views), grid_x, grid_y).release();
    });
}

void illava_image_free(illava_image * image) {
    delete image;
}

size_t illava_image_n_tiles(const illava_image * image) {
    return image ? image->tiles.size() : 0;
}

static const clip_image_f32 & tile_at(const illava_image & image, size_t tile) {
    if (tile >= image.tiles.size()) {
        illava_fail(ILLAVA_BAD_ARG, "tile %zu: the image has %zu", tile, image.tiles.size());
    }
    return image.tiles[tile];
}

void illava_require_own(const illava_vision & vision, const illava_image & image) {
    if (image.cut_by != (vision.mtmd ? vision.number : 0)) {
        illava_fail(ILLAVA_BAD_ARG, "the image was cut for another image encoder than this one (%s): cut it for this one", vision.projector.c_str());
    }
}

illava_status illava_image_tile(
        const illava_vision * vision, const illava_image * image, size_t tile, illava_tile * out) {
    return illava_guard([&] {
        illava_require(vision, "vision");
        illava_require(image, "image");
        illava_require_own(*vision, *image);
        const clip_image_f32 & pixels = tile_at(*image, tile);
        illava_tile shown = {};
        shown.nx     = pixels.nx();
        shown.ny     = pixels.ny();
        shown.grid_x = pixels.nx() / vision->hparams().patch_size;
        shown.grid_y = pixels.ny() / vision->hparams().patch_size;
        shown.data   = pixels.is_placeholder() ? nullptr : pixels.get_ro_buf().data();
        illava_give("illava_tile", out, shown);
    });
}

//
// encoding
//

illava_encode_params illava_encode_default_params(void) {
    illava_encode_params params = {};
    params.size      = sizeof(params);
    params.grid      = ILLAVA_GRID_FAITHFUL;
    params.n_threads = GGML_DEFAULT_N_THREADS;
    params.strategy  = ILLAVA_STRATEGY_MERGE;
    return params;
}

illava_status illava_encoded_n_tokens(
        const illava_vision * vision, uint32_t grid_x, uint32_t grid_y, const illava_encode_params * given, uint32_t * n_tokens) {
    return illava_guard([&] {
        illava_require(vision, "vision");
        illava_require(n_tokens, "n_tokens");
        const auto params = illava_given("illava_encode_params", given, illava_encode_default_params());

        const uint32_t patch = vision->hparams().patch_size;
        if (grid_x > max_side / patch || grid_y > max_side / patch) {
            illava_fail(ILLAVA_BAD_ARG, "a grid of %u x %u patches: each side takes at most %u", grid_x, grid_y, max_side / patch);
        }
        // a fixed-size encoder ignores the pixels its last patch does not reach
        const bool fixed = !vision->is_qwen() && grid_x == grid_y && grid_x == (uint32_t) vision->hparams().image_size / patch;
        const uint32_t nx = fixed ? vision->hparams().image_size : grid_x * patch;
        const uint32_t ny = fixed ? vision->hparams().image_size : grid_y * patch;
        check_tile(*vision, nx, ny);

        clip_image_f32 shape;
        shape.set_size({ (int) nx, (int) ny }, true, false);
        shape.merge = illava_make_schedule(*vision, (int64_t) grid_x * grid_y, params);
        *n_tokens = (uint32_t) clip_n_output_tokens(vision->clip.get(), &shape);
    });
}

// Place of each output token in the grid of output cells.
static std::vector<int32_t> kept_cells(
        const illava_vision & vision, const illava_merge_schedule_ptr & schedule,
        const std::vector<illava_step_trace> & steps, uint32_t n_tokens) {
    if (schedule && schedule->unit_rows == schedule->rows_per_token) {
        return steps.back().kept;
    }
    // nothing was merged, or the survivors are regrouped and take the first cells
    GGML_ASSERT(!schedule || vision.group() > 1);
    std::vector<int32_t> cells(n_tokens);
    std::iota(cells.begin(), cells.end(), 0);
    return cells;
}

// Original tokens that each output token stands for, from those of the units.
static std::vector<float> token_sizes(const illava_merge_schedule & schedule, const std::vector<float> & sizes) {
    const int32_t units = schedule.rows_per_token / schedule.unit_rows;
    std::vector<float> tokens(sizes.size() / units, 0.0f);
    for (size_t i = 0; i < sizes.size(); i++) {
        tokens[i / units] += sizes[i] / (float) units;
    }
    return tokens;
}

// One run of the graph, under the vision's lock.
static void run(
        illava_vision & vision, const clip_image_f32_batch & batch, const illava_encode_params & params, illava_probe & probe,
        std::vector<float> & embd) {
    clip_encode_params clip_params;
    clip_params.imgs      = &batch;
    clip_params.n_threads = params.n_threads;
    clip_params.out_embd  = &embd;
    clip_params.probe     = &probe;

    illava_log_forget();
    illava_stop_scope stop(vision.parts.backends, params.stop, params.stop_data);
    if (stop.asked() || !clip_encode(vision.clip.get(), &clip_params)) {
        if (stop.asked()) {
            illava_fail(ILLAVA_ABORTED, "interrupted");
        }
        const std::string & line = illava_log_last_error();
        const bool memory = line.find("alloc") != std::string::npos;
        const clip_image_f32 & first = batch.entries.at(0);
        illava_fail(memory ? ILLAVA_NO_MEMORY : ILLAVA_INTERNAL, "encoding %d x %d pixels failed: %s", first.nx(), first.ny(), line.c_str());
    }
}

static void read_probe(illava_encoded & encoded, const illava_merge_schedule_ptr & schedule, illava_probe & probe) {
    encoded.steps = std::move(probe.steps);
    if (!probe.sizes.empty()) {
        encoded.sizes = token_sizes(*schedule, probe.sizes);
    }
    encoded.encoder_ms   = probe.encoder_ms;
    encoded.projector_ms = probe.projector_ms;
}

// Takes the output cells away in which no patch is left.
static void drop_empty_cells(illava_encoded & encoded, const std::vector<float> & patch_sizes, int64_t grid_x, int32_t side) {
    const uint32_t n = encoded.n_tokens;
    std::vector<float> sizes(n, 0.0f);
    std::vector<bool>  filled(n, false);
    const auto & patches = encoded.steps.back().kept;
    for (size_t i = 0; i < patches.size(); i++) {
        const int64_t cell = patches[i] / grid_x / side * encoded.cells_x + patches[i] % grid_x / side;
        filled.at(cell) = true;
        sizes .at(cell) += (patch_sizes.empty() ? 0.0f : patch_sizes[i]) / (float) (side * side);
    }
    encoded.kept.clear();
    for (uint32_t cell = 0; cell < n; cell++) {
        if (!filled[cell]) {
            continue;
        }
        const size_t at = encoded.kept.size();
        memmove(encoded.embd.data() + at * encoded.n_embd, encoded.embd.data() + (size_t) cell * encoded.n_embd, encoded.n_embd * sizeof(float));
        sizes[at] = sizes[cell];
        encoded.kept.push_back((int32_t) cell);
    }
    encoded.n_tokens = (uint32_t) encoded.kept.size();
    encoded.embd.resize((size_t) encoded.n_tokens * encoded.n_embd);
    sizes.resize(patch_sizes.empty() ? 0 : encoded.n_tokens);
    encoded.sizes = std::move(sizes);
}

// Takes the break between lines out of the rows: once merged it is the last of them, else the last of every line.
static void take_line_break(illava_encoded & encoded, bool merged) {
    const size_t width = encoded.n_embd, tokens = (size_t) encoded.cells_x * encoded.cells_y;
    const auto   row   = [&](size_t i) { return encoded.embd.begin() + i * width; };
    if (merged) {
        encoded.n_tokens--;
        encoded.line_break.assign(row(encoded.n_tokens), row(encoded.n_tokens + 1));
    } else {
        if (encoded.n_tokens > encoded.cells_x) {
            encoded.line_break.assign(row(encoded.cells_x), row(encoded.cells_x + 1));
        }
        for (size_t i = encoded.cells_x; i < tokens; i++) {
            const size_t from = i + i / encoded.cells_x;
            std::copy(row(from), row(from + 1), row(i));
        }
        encoded.n_tokens = (uint32_t) tokens;
        encoded.kept.resize(tokens);
    }
    encoded.embd.resize(encoded.n_tokens * width);
}

// A tile as upstream's own mtmd would encode it, but for the tokens that merge.
static std::unique_ptr<illava_encoded> encode_library(
        illava_vision & vision, const illava_image & image, size_t tile, const illava_encode_params & params) {
    const illava_abort_trap trap; // whose assertions no check of ours stands before
    clip_image_f32_batch batch = illava_mtmd_inputs(image, tile).clone();
    clip_image_f32 & pixels = batch.entries.at(0);
    const int64_t grid_x = pixels.nx() / vision.hparams().patch_size;
    const int64_t grid_y = pixels.ny() / vision.hparams().patch_size;
    const int32_t side   = vision.merges_in_library() ? vision.hparams().n_merge : 1;
    pixels.merge = illava_make_schedule(vision, grid_x * grid_y, params);
    const bool breaks = vision.has_line_breaks();
    if (pixels.merge && breaks) {
        auto schedule = std::make_shared<illava_merge_schedule>(*pixels.merge);
        schedule->line_breaks = (int32_t) (grid_y / side) - 1;
        pixels.merge = std::move(schedule);
    }
    const bool one = batch.entries.size() == 1 || clip_model_n_temporal_merge(vision.clip.get()) == 2; // a pair is one input
    if (pixels.merge && (!one || grid_x % side != 0 || grid_y % side != 0)) {
        illava_fail(ILLAVA_UNSUPPORTED, "a tile of %lld x %lld patches cannot merge: its projector takes them by %d x %d",
            (long long) grid_x, (long long) grid_y, side, side);
    }

    auto encoded = std::make_unique<illava_encoded>();
    const uint32_t n_cells = (uint32_t) mtmd_input_chunk_get_n_tokens(image.tile_chunks.at(tile));
    encoded->n_tokens = (uint32_t) illava_merge_tokens_left(pixels.merge, n_cells);
    encoded->n_embd   = (uint32_t) clip_n_mmproj_embd(vision.clip.get());
    encoded->cells_x  = vision.merges_in_library() ? (uint32_t) (grid_x / side) : n_cells;
    encoded->cells_y  = vision.merges_in_library() ? (uint32_t) (grid_y / side) : 1;
    encoded->embd.resize((size_t) encoded->n_tokens * encoded->n_embd);

    std::vector<float> patch_sizes;
    {
        const std::lock_guard<std::mutex> lock(vision.encoding);
        illava_probe probe(pixels.merge, grid_x * grid_y, vision.hparams().n_head, params.pause, params.pause_data);
        run(vision, batch, params, probe, encoded->embd);
        patch_sizes = probe.sizes;
        read_probe(*encoded, pixels.merge, probe);
    }
    if (pixels.merge && vision.pool_side() > 0) {
        drop_empty_cells(*encoded, patch_sizes, grid_x, side);
    } else {
        encoded->kept = kept_cells(vision, pixels.merge, encoded->steps, encoded->n_tokens);
    }
    if (breaks) {
        take_line_break(*encoded, pixels.merge != nullptr);
    }
    return encoded;
}

illava_status illava_encode(
        illava_vision * vision, const illava_image * image, size_t tile, const illava_encode_params * given, illava_encoded ** out) {
    return illava_guard([&] {
        illava_require(out, "out");
        *out = nullptr;
        illava_require(vision, "vision");
        illava_require(image, "image");
        const auto params = illava_given("illava_encode_params", given, illava_encode_default_params());
        if (params.n_threads < 1 || params.n_threads > max_threads) {
            illava_fail(ILLAVA_BAD_ARG, "n_threads = %d: 1 to %d", params.n_threads, max_threads);
        }

        illava_require_own(*vision, *image);
        if (!image->has_pixels) {
            illava_fail(ILLAVA_BAD_ARG, "the image has a size and no pixels: make one of pixels to encode it");
        }
        if (vision->mtmd) {
            tile_at(*image, tile);
            *out = encode_library(*vision, *image, tile, params).release();
            return;
        }

        // the encoder reads a batch of two as the two frames of a temporal patch; the first one speaks for both
        clip_image_f32_batch batch;
        batch.entries.push_back(tile_at(*image, tile));
        if (image->second.nx() > 0) {
            if (clip_model_n_temporal_merge(vision->clip.get()) != 2) {
                illava_fail(ILLAVA_BAD_ARG, "the image has two frames, this encoder (%s) takes them one by one", vision->projector.c_str());
            }
            batch.entries.push_back(image->second);
        }
        clip_image_f32 & pixels = batch.entries.front();
        check_tile(*vision, pixels.nx(), pixels.ny());

        const clip_hparams & hparams = vision->hparams();
        const int64_t grid_x = pixels.nx() / hparams.patch_size;
        const int64_t grid_y = pixels.ny() / hparams.patch_size;
        pixels.merge         = illava_make_schedule(*vision, grid_x * grid_y, params);

        auto encoded = std::make_unique<illava_encoded>();
        encoded->n_tokens = (uint32_t) clip_n_output_tokens(vision->clip.get(), &pixels);
        encoded->n_embd   = (uint32_t) clip_n_mmproj_embd(vision->clip.get());
        encoded->cells_x  = (uint32_t) (grid_x / hparams.n_merge);
        encoded->cells_y  = (uint32_t) (grid_y / hparams.n_merge);
        encoded->embd.resize((size_t) encoded->n_tokens * encoded->n_embd);

        {
            const std::lock_guard<std::mutex> lock(vision->encoding);
            illava_probe probe(pixels.merge, grid_x * grid_y, hparams.n_head, params.pause, params.pause_data);
            run(*vision, batch, params, probe, encoded->embd);
            read_probe(*encoded, pixels.merge, probe);
        }
        encoded->kept = kept_cells(*vision, pixels.merge, encoded->steps, encoded->n_tokens);
        *out = encoded.release();
    });
}

void illava_encoded_free(illava_encoded * encoded) {
    delete encoded;
}

illava_status illava_encoded_get(const illava_encoded * encoded, illava_encoded_view * out) {
    return illava_guard([&] {
        illava_require(encoded, "encoded");
        illava_encoded_view view = {};
        view.n_tokens     = encoded->n_tokens;
        view.n_embd       = encoded->n_embd;
        view.embd         = encoded->embd.data();
        view.kept         = encoded->kept.data();
        view.cells_x      = encoded->cells_x;
        view.cells_y      = encoded->cells_y;
        view.n_steps      = encoded->steps.size();
        view.encoder_ms   = encoded->encoder_ms;
        view.projector_ms = encoded->projector_ms;
        view.sizes        = encoded->sizes.empty() ? nullptr : encoded->sizes.data();
        view.line_break   = encoded->line_break.empty() ? nullptr : encoded->line_break.data();
        illava_give("illava_encoded_view", out, view);
    });
}

illava_status illava_encoded_step(const illava_encoded * encoded, size_t i, illava_step * out) {
    return illava_guard([&] {
        illava_require(encoded, "encoded");
        if (i >= encoded->steps.size()) {
            illava_fail(ILLAVA_BAD_ARG, "step %zu: the tile went through %zu", i, encoded->steps.size());
        }
        illava_show_step(encoded->steps[i], out);
    });
}
