// Projectors that are of no family of ours: upstream's mtmd cuts their pictures, marks them with tokens of the text
// model and says where their rows stand.

#pragma once

#include "clip-impl.h"
#include "mtmd.h"

#include <memory>
#include <vector>

struct illava_encoded;
struct illava_encode_params;
struct illava_image;
struct illava_view;
struct illava_vision;
struct illava_vision_params;
struct llama_model;
struct mtmd_image_preprocessor;

struct mtmd_context_deleter {
    void operator()(mtmd_context * ctx) const { mtmd_free(ctx); }
};

struct mtmd_chunks_deleter {
    void operator()(mtmd_input_chunks * chunks) const { mtmd_input_chunks_free(chunks); }
};

// Why this engine cannot run a projector that upstream knows, or null.
const char * illava_mtmd_why_not(projector_type type);

// Loads the whole file, whose header was checked; `path` is in the error.
void illava_mtmd_load(illava_vision & vision, const char * path, const illava_vision_params & params, clip_flash_attn_type flash_attn);

// Cuts a picture; one without pixels if `rgb` is null. The text model must be known by then.
std::unique_ptr<illava_image> illava_mtmd_cut(const illava_vision & vision, const uint8_t * rgb, uint32_t nx, uint32_t ny);
// Marks views that were cut already, as illava_image_from_views() has them.
std::unique_ptr<illava_image> illava_mtmd_mark(
        const illava_vision & vision, const std::vector<illava_view> & views, uint32_t grid_x, uint32_t grid_y);

// The inputs of the encoder that make tile number `tile`.
const clip_image_f32_batch & illava_mtmd_inputs(const illava_image & image, size_t tile);

//
// at the foot of mtmd.cpp (illava-mtmd-access.inc), where these structs are known
//

clip_ctx * illava_mtmd_clip(const mtmd_context * ctx);
// Has marks and positions follow this text model's vocabulary and rope; throws for a rope that mtmd does not know.
void illava_mtmd_set_text(mtmd_context * ctx, const llama_model * model);
// Exchanges what cuts pictures.
void illava_mtmd_swap_preprocessor(mtmd_context * ctx, std::unique_ptr<mtmd_image_preprocessor> & other);
const clip_image_f32_batch & illava_mtmd_batch(const mtmd_input_chunk * chunk);
