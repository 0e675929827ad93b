// The text-image model behind its part of illava.h.

#include "illava-scorer.h"

#include "../../src/illava-status.h"
#include "illava-log.h"
#include "illava-stop.h"

#include <algorithm>
#include <cstdio>

// Pictures of one graph at most: their buffers grow with them, and a request to stop is heeded between two graphs on
// backends that cannot stop inside one.
static constexpr uint32_t images_at_once = 4;

static void open_backends(illava_scorer & scorer, bool use_gpu) {
    scorer.cpu.reset(ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_CPU, nullptr));
    if (!scorer.cpu) {
        illava_fail(ILLAVA_INTERNAL, "the CPU backend does not start");
    }
    if (use_gpu) {
        scorer.gpu.reset(ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_GPU, nullptr));
        if (!scorer.gpu) {
            scorer.gpu.reset(ggml_backend_init_by_type(GGML_BACKEND_DEVICE_TYPE_IGPU, nullptr));
        }
    }
    if (scorer.gpu) {
        scorer.backends.push_back(scorer.gpu.get());
    }
    scorer.backends.push_back(scorer.cpu.get());

    const auto dev = ggml_backend_get_device(scorer.cpu.get());
    const auto set_threads = (ggml_backend_set_n_threads_t) ggml_backend_reg_get_proc_address(
        ggml_backend_dev_backend_reg(dev), "ggml_backend_set_n_threads");
    if (set_threads) {
        set_threads(scorer.cpu.get(), scorer.n_threads);
    }
    scorer.sched.reset(ggml_backend_sched_new(
        scorer.backends.data(), nullptr, (int) scorer.backends.size(), 8192, false, true));
}

illava_scorer_params illava_scorer_default_params(void) {
    illava_scorer_params params = {};
    params.size      = sizeof(params);
    params.use_gpu   = true;
    params.n_threads = GGML_DEFAULT_N_THREADS;
    return params;
}

illava_status illava_scorer_load(const char * path, const illava_scorer_params * given, illava_scorer ** out) {
    return illava_guard([&] {
        illava_require(out, "out");
        *out = nullptr;
        illava_require(path, "path");
        const auto params = illava_given("illava_scorer_params", given, illava_scorer_default_params());
        if (params.n_threads < 1) {
            illava_fail(ILLAVA_BAD_ARG, "n_threads = %d: 1 or more", params.n_threads);
        }
        illava_log_install();
        auto scorer = std::make_unique<illava_scorer>();
        scorer->n_threads = params.n_threads;
        open_backends(*scorer, params.use_gpu);
        illava_scorer_read(*scorer, path);
        *out = scorer.release();
    });
}

void illava_scorer_free(illava_scorer * scorer) {
    delete scorer;
}

illava_status illava_scorer_describe(const illava_scorer * scorer, illava_scorer_info * out) {
    return illava_guard([&] {
        illava_require(scorer, "scorer");
        illava_scorer_info info = {};
        info.size         = sizeof(info);
        info.has_map      = scorer->has_map();
        info.image_size   = scorer->image_size;
        info.patch_size   = scorer->patch_size;
        info.map_size     = scorer->has_map() ? scorer->side() * std::max(scorer->up0_side, 1) * scorer->up1_side : 0;
        info.n_projection = scorer->n_projection;
        info.n_vocab      = scorer->n_vocab;
        info.n_text       = scorer->n_text;
        std::copy_n(scorer->mean, 3, info.mean);
        std::copy_n(scorer->std, 3, info.std);
        info.logit_scale  = scorer->logit_scale;
        info.bilinear     = scorer->bilinear;
        info.weight_bytes = ggml_backend_buffer_get_size(scorer->buffer.get());
        snprintf(info.backend, sizeof(info.backend), "%s", ggml_backend_name(scorer->backends.front()));
        illava_give("illava_scorer_info", out, info);
    });
}

namespace {

// A graph with room for its nodes, from its making to its results.
struct computation {
    illava_scorer  & scorer;
    ggml_context_ptr ctx;
    ggml_cgraph    * graph = nullptr;

    explicit computation(illava_scorer & scorer) : scorer(scorer) {
        const ggml_init_params params = {
            ggml_tensor_overhead() * 8192 + ggml_graph_overhead_custom(8192, false), nullptr, /*.no_alloc =*/ true };
        ctx.reset(ggml_init(params));
    }

    void allocate() {
        ggml_backend_sched_reset(scorer.sched.get());
        if (!ggml_backend_sched_alloc_graph(scorer.sched.get(), graph)) {
            illava_fail(ILLAVA_NO_MEMORY, "no memory to compute with the text-image model");
        }
    }

    ggml_tensor * find(const char * name) const { return ggml_graph_get_tensor(graph, name); }

    void set(const char * name, const void * data) const {
        ggml_tensor * tensor = find(name);
        ggml_backend_tensor_set(tensor, data, 0, ggml_nbytes(tensor));
    }

    void get(const char * name, float * data) const {
        ggml_tensor * tensor = find(name);
        ggml_backend_tensor_get(tensor, data, 0, ggml_nbytes(tensor));
    }

    void run(illava_stop_scope & stop) const {
        if (stop.asked()) {
            illava_fail(ILLAVA_ABORTED, "interrupted");
        }
        const ggml_status status = ggml_backend_sched_graph_compute(scorer.sched.get(), graph);
        if (status == GGML_STATUS_ABORTED || stop.asked()) {
            illava_fail(ILLAVA_ABORTED, "interrupted");
        }
        if (status != GGML_STATUS_SUCCESS) {
            illava_fail(status == GGML_STATUS_ALLOC_FAILED ? ILLAVA_NO_MEMORY : ILLAVA_INTERNAL,
                "the text-image model cannot be computed (status %d)", (int) status);
        }
    }
};

} // namespace

illava_status illava_scorer_text(
        illava_scorer * scorer, const int32_t * tokens, size_t n_tokens, size_t pooled, float * features) {
    return illava_guard([&] {
        illava_require(scorer, "scorer");
        illava_require(tokens, "tokens");
        illava_require(features, "features");
        if (n_tokens < 1 || n_tokens > (size_t) scorer->n_text) {
            illava_fail(ILLAVA_BAD_ARG, "n_tokens = %zu: 1 to %d", n_tokens, scorer->n_text);
        }
        if (pooled >= n_tokens) {
            illava_fail(ILLAVA_BAD_ARG, "pooled = %zu: one of %zu tokens", pooled, n_tokens);
        }
        for (size_t i = 0; i < n_tokens; i++) {
            if (tokens[i] < 0 || tokens[i] >= scorer->n_vocab) {
                illava_fail(ILLAVA_BAD_ARG, "tokens[%zu] = %d: 0 to %d", i, tokens[i], scorer->n_vocab - 1);
            }
        }
        computation of(*scorer);
        of.graph = illava_scorer_text_graph(*scorer, of.ctx.get(), (int32_t) n_tokens);
        of.allocate();
        const int32_t row = (int32_t) pooled;
        of.set("tokens", tokens);
        of.set("pooled", &row);
        illava_stop_scope stop(scorer->backends, nullptr, nullptr);
        of.run(stop);
        of.get("features", features);
    });
}

// Planar pixels [3, side, side] to one row a patch, [n_patches, 3 * patch^2].
static void patches_of(const illava_scorer & scorer, const float * pixels, float * rows) {
    const int64_t patch = scorer.patch_size, image = scorer.image_size, side = scorer.side();
    for (int64_t cell = 0; cell < side * side; cell++) {
        for (int64_t channel = 0; channel < 3; channel++) {
            for (int64_t y = 0; y < patch; y++) {
                const float * from = pixels + (channel * image + cell / side * patch + y) * image + cell % side * patch;
                rows = std::copy_n(from, patch, rows);
            }
        }
    }
}

// Squares within squares within cells, as the graph leaves them, to the rows of one map.
static void map_of(const illava_scorer & scorer, const float * values, float * map) {
    const int64_t side = scorer.side(), first = std::max(scorer.up0_side, 1), last = scorer.up1_side;
    const int64_t width = side * first * last;
    for (int64_t cell = 0; cell < side * side; cell++) {
        for (int64_t square = 0; square < first * first; square++) {
            for (int64_t pixel = 0; pixel < last * last; pixel++) {
                const int64_t y = (cell / side * first + square / first) * last + pixel / last;
                const int64_t x = (cell % side * first + square % first) * last + pixel % last;
                map[y * width + x] = *values++;
            }
        }
    }
}

illava_scorer_images illava_scorer_default_images(void) {
    illava_scorer_images images = {};
    images.size = sizeof(images);
    return images;
}

illava_status illava_scorer_score(illava_scorer * scorer, const illava_scorer_images * given) {
    return illava_guard([&] {
        illava_require(scorer, "scorer");
        const auto images = illava_given("illava_scorer_images", given, illava_scorer_default_images());
        illava_require(images.pixels, "images.pixels");
        illava_require(images.features, "images.features");
        if (images.map && !scorer->has_map()) {
            illava_fail(ILLAVA_UNSUPPORTED, "%s: this model has no decoder, so it makes no map", scorer->path.c_str());
        }
        if (images.map) {
            illava_require(images.text, "images.text");
        }
        illava_stop_scope stop(scorer->backends, images.stop, images.stop_data);
        const size_t n_pixels   = 3 * (size_t) scorer->image_size * scorer->image_size;
        const size_t n_patches  = (size_t) scorer->n_patches();
        const size_t n_features = (size_t) scorer->n_projection;
        std::vector<float> rows, squares;
        for (uint32_t first = 0; first < images.n_images; first += images_at_once) {
            const uint32_t n = std::min(images_at_once, images.n_images - first);
            rows.resize(n * n_pixels);
            for (uint32_t i = 0; i < n; i++) {
                patches_of(*scorer, images.pixels + (first + i) * n_pixels, rows.data() + i * n_pixels);
            }
            computation of(*scorer);
            of.graph = illava_scorer_image_graph(*scorer, of.ctx.get(), (int32_t) n, { images.patches != nullptr, images.map != nullptr });
            of.allocate();
            of.set("pixels", rows.data());
            if (images.map) {
                of.set("text", images.text);
            }
            of.run(stop);
            of.get("features", images.features + first * n_features);
            if (images.patches) {
                of.get("patches", images.patches + first * n_patches * n_features);
            }
            if (images.map) {
                const size_t n_map = ggml_nelements(of.find("map")) / n;
                squares.resize(n * n_map);
                of.get("map", squares.data());
                for (uint32_t i = 0; i < n; i++) {
                    map_of(*scorer, squares.data() + i * n_map, images.map + (first + i) * n_map);
                }
            }
        }
    });
}
