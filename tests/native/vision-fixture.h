#pragma once

// An image encoder behind illava.h: handles that free themselves, and one call for each step from file to embeddings.

#include "graph-fixture.h"
#include "illava.h"

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace fixture {

using vision_ptr  = std::unique_ptr<illava_vision,  releaser<illava_vision_free>>;
using image_ptr   = std::unique_ptr<illava_image,   releaser<illava_image_free>>;
using encoded_ptr = std::unique_ptr<illava_encoded, releaser<illava_encoded_free>>;

using merge_steps = std::vector<illava_merge_step>;

// Graphs this small spend their time in the barriers between nodes, and on a busy machine far too much of it; so one
// thread computes, except where the number of threads is the question.
inline illava_vision_params vision_params(int flash_attn = -1, bool repack = false) {
    illava_vision_params params = {};
    params.size       = sizeof(params);
    params.flash_attn = flash_attn;
    params.n_threads  = 1;
    params.repack     = repack;
    return params;
}

// Null where the file does not load; illava_last_error() says why.
inline vision_ptr load_vision(const std::string & path, const illava_vision_params & params = vision_params()) {
    illava_vision * vision = nullptr;
    illava_vision_load(path.c_str(), &params, &vision);
    return vision_ptr(vision);
}

inline illava_vision_info describe(const vision_ptr & vision) {
    illava_vision_info info = {};
    info.size = sizeof(info);
    GGML_ASSERT(illava_vision_describe(vision.get(), &info) == ILLAVA_OK);
    return info;
}

inline image_ptr make_image(const vision_ptr & vision, const std::vector<uint8_t> & rgb, uint32_t nx, uint32_t ny) {
    illava_image * image = nullptr;
    illava_image_from_rgb(vision.get(), rgb.data(), nx, ny, &image);
    return image_ptr(image);
}

inline illava_encode_params encode_params(
        const merge_steps & schedule, illava_grid grid = ILLAVA_GRID_FAITHFUL, bool composed = false, int n_threads = 1) {
    illava_encode_params params = {};
    params.size           = sizeof(params);
    params.steps          = schedule.data();
    params.n_steps        = schedule.size();
    params.grid           = grid;
    params.composed_score = composed;
    params.n_threads      = n_threads;
    return params;
}

inline encoded_ptr encode_tile(const vision_ptr & vision, const image_ptr & image, const illava_encode_params & params, size_t tile = 0) {
    illava_encoded * encoded = nullptr;
    illava_encode(vision.get(), image.get(), tile, &params, &encoded);
    return encoded_ptr(encoded);
}

inline illava_encoded_view view_of(const encoded_ptr & encoded) {
    illava_encoded_view view = {};
    view.size = sizeof(view);
    GGML_ASSERT(illava_encoded_get(encoded.get(), &view) == ILLAVA_OK);
    return view;
}

inline illava_step step_of(const encoded_ptr & encoded, size_t i) {
    illava_step step = {};
    step.size = sizeof(step);
    GGML_ASSERT(illava_encoded_step(encoded.get(), i, &step) == ILLAVA_OK);
    return step;
}

inline std::vector<float> values(const illava_encoded_view & view) {
    return { view.embd, view.embd + size_t(view.n_tokens) * view.n_embd };
}

inline bool same_bits(const std::vector<float> & a, const std::vector<float> & b) {
    return a.size() == b.size() && memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Distance of a to b, by their norms; infinite if the lengths differ.
inline double relative_error(const std::vector<float> & a, const std::vector<float> & b) {
    if (a.size() != b.size() || b.empty()) {
        return INFINITY;
    }
    double difference = 0, norm = 0;
    for (size_t i = 0; i < a.size(); i++) {
        difference += (a[i] - b[i]) * double(a[i] - b[i]);
        norm       += b[i] * double(b[i]);
    }
    return std::sqrt(difference / norm);
}

} // namespace fixture
