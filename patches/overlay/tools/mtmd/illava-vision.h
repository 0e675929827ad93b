// The handles behind the "Vision" part of illava.h.

#pragma once

#include "clip-impl.h"
#include "clip-model.h"
#include "illava-clip.h"
#include "illava-mtmd.h"
#include "mtmd-image.h"

#include <memory>
#include <mutex>
#include <string>
#include <vector>

struct clip_ctx_deleter {
    bool borrowed = false; // mtmd owns it

    void operator()(clip_ctx * ctx) const {
        if (!borrowed) {
            clip_free(ctx);
        }
    }
};

struct illava_vision {
    std::string                                path;
    std::string                                projector; // as in the file
    std::unique_ptr<mtmd_context, mtmd_context_deleter> mtmd; // null for the families that are cut here
    bool                                       has_text           = false; // mtmd knows its text model
    const uint64_t                             number; // no other encoder of this process has it; above 0
    std::unique_ptr<clip_ctx, clip_ctx_deleter> clip;
    illava_clip_parts                          parts;     // of clip
    std::unique_ptr<mtmd_image_preprocessor>   preprocessor;
    std::mutex                                 encoding;  // one graph at a time: the scheduler is shared
    mutable std::mutex                         cutting;   // mtmd has one way to cut at a time

    illava_vision();

    const clip_model   & model()   const { return *parts.model; }
    const clip_hparams & hparams() const { return parts.model->hparams; }

    bool is_qwen() const;
    // Blocks the graph runs.
    int32_t n_layer_run() const;
    // The first block that may merge.
    int32_t first_layer() const;
    // Patches that make one output token.
    int32_t group() const;
    // Whether it is a projector that mtmd cuts for and that merges all the same.
    bool merges_in_library() const;
    bool has_rotary_keys() const;
    // Whether a row of its own follows each line of tokens but the last.
    bool has_line_breaks() const;
    // As in illava_merge_schedule.
    int32_t pool_side() const;
    int32_t raster_side() const;
    // Whether the positions of a fixed-size encoder can be interpolated for a smaller picture.
    bool takes_smaller() const;
    // Why this encoder cannot merge, or null if it can.
    const char * why_no_merge() const;
};

struct illava_image {
    std::vector<clip_image_f32> tiles; // the overview first, then the tiles row by row
    clip_image_f32              second; // the second frame of a temporal patch; empty for a still picture
    bool                        has_pixels = true; // or tiles that have their sizes only, and cannot be encoded

    // of a picture that mtmd cut, whose tiles have their sizes only
    uint64_t                                                cut_by = 0; // the encoder's number; 0: not by mtmd
    std::unique_ptr<mtmd_input_chunks, mtmd_chunks_deleter> chunks;
    std::vector<const mtmd_input_chunk *>                   tile_chunks; // [tiles], of chunks
};

// Fails for a picture that mtmd cut for another encoder, and for one that it did not cut for an encoder of its own.
void illava_require_own(const illava_vision & vision, const illava_image & image);

// The schedule of a tile of n_patches; null if nothing is merged. Throws illava_error if the encoder cannot take the steps.
illava_merge_schedule_ptr illava_make_schedule(
        const illava_vision & vision, int64_t n_patches, const illava_encode_params & params);

struct illava_encoded {
    uint32_t                       n_tokens, n_embd;
    uint32_t                       cells_x, cells_y;
    std::vector<float>             embd; // [n_tokens, n_embd]
    std::vector<int32_t>           kept; // [n_tokens]
    std::vector<float>             sizes; // [n_tokens], or empty
    std::vector<float>             line_break; // [n_embd], or empty
    std::vector<illava_step_trace> steps;
    double                         encoder_ms, projector_ms;
};
