// A text-image model beside the pair: CLIP's two towers, and CLIPSeg's decoder if the file has one.

#pragma once

#include "ggml-backend.h"
#include "ggml-cpp.h"
#include "illava.h"

#include <string>
#include <vector>

enum illava_activation { ILLAVA_QUICK_GELU, ILLAVA_GELU, ILLAVA_RELU };

// weight [n_in, n_out], bias [n_out] or null.
struct illava_linear {
    ggml_tensor * weight = nullptr;
    ggml_tensor * bias   = nullptr;
};

struct illava_block {
    illava_linear ln1, ln2, q, k, v, out, up, down;
};

// A transformer: its numbers as the file has them, and its weights.
struct illava_tower {
    int32_t                   n_embd = 0, n_ff = 0, n_head = 0, n_layer = 0;
    float                     eps    = 1e-5f;
    illava_activation         act    = ILLAVA_QUICK_GELU;
    std::vector<illava_block> blocks;
};

struct illava_scorer {
    std::string  path;
    int32_t      n_projection = 0;
    float        logit_scale  = 1.0f; // the factor, not its logarithm

    illava_tower text;
    int32_t      n_vocab = 0, n_text = 0; // tokens of the vocabulary, and of a text at most
    ggml_tensor * token_embd = nullptr, * text_positions = nullptr, * text_projection = nullptr;
    illava_linear text_norm;

    illava_tower vision;
    int32_t      image_size = 0, patch_size = 0;
    float        mean[3] = {}, std[3] = {};
    bool         bilinear = false; // pictures are resized so, else by the bicubic filter
    ggml_tensor * class_embd = nullptr, * patch_embd = nullptr, * positions = nullptr, * vision_projection = nullptr;
    illava_linear pre_norm, post_norm;

    // CLIPSeg's decoder; without one `decoder.n_layer` is 0.
    illava_tower               decoder;
    std::vector<int32_t>       taken;  // [n_layer] block of the vision tower whose rows each layer takes, first layer first
    std::vector<illava_linear> reduce; // [n_layer]
    int32_t                    conditional = 0; // layer that the text joins
    illava_linear              film_mul, film_add, conv, up0, up1; // conv and up0 may be absent
    int32_t                    up0_side = 1, up1_side = 1;

    ggml_backend_ptr                 gpu, cpu;
    std::vector<ggml_backend_t>      backends; // the first computes
    ggml_backend_sched_ptr           sched;
    ggml_context_ptr                 weights;
    ggml_backend_buffer_ptr          buffer;
    int32_t                          n_threads = 1;

    bool    has_map() const { return decoder.n_layer > 0; }
    int32_t side() const { return image_size / patch_size; }
    int32_t n_patches() const { return side() * side(); }
};

// Reads and checks a file, and places its weights. Throws illava_error.
void illava_scorer_read(illava_scorer & scorer, const char * path);

// Graphs. Inputs and outputs have these names.
//   text:   "tokens" [n] i32, "pooled" [1] i32 -> "features" [n_projection]
//   images: "pixels" [3 * patch^2, n_patches, n_images], "text" [n_projection] with a map
//           -> "features" [n_projection, n_images], "patches" [n_projection, n_patches, n_images],
//              "map" [up1_side^2, up0_side^2, n_patches, n_images]
struct illava_scorer_outputs {
    bool patches, map;
};
ggml_cgraph * illava_scorer_text_graph(const illava_scorer & scorer, ggml_context * ctx, int32_t n_tokens);
ggml_cgraph * illava_scorer_image_graph(
        const illava_scorer & scorer, ggml_context * ctx, int32_t n_images, illava_scorer_outputs outputs);
