#pragma once

// A tower and a language model through illava.h, on the device or on the processor.

#include "illava.h"
#include "machine.h"

#include <string>
#include <vector>

namespace gpu {

using schedule = std::vector<illava_merge_step>; // empty: merging off

// Tokens of one merge step, as the trace gives them.
struct step {
    int32_t              layer;
    std::vector<float>   scores;
    std::vector<int32_t> kept, merged;
};

struct encoded {
    int32_t            n_tokens = 0;
    std::vector<float> embd; // [n_tokens, n_embd]
    std::vector<step>  steps;
    double             encoder_ms = 0, projector_ms = 0;
};

struct prefilled {
    std::vector<float> logits; // of the last row
    std::vector<step>  steps;
};

class tower {
public:
    tower(const std::string & path, bool on_device, int n_threads);

    // Pixels of a fixed pattern, nx by ny.
    void    picture(uint32_t nx, uint32_t ny);
    encoded encode(const schedule & steps);
    illava_vision_info info() const;
    // Parts that the last graph was cut into because an operation was not for the device.
    int n_splits() const;
    uint64_t compute_bytes() const { return illava_vision_compute_bytes(vision_.get()); }

private:
    handle<illava_vision, illava_vision_free> vision_;
    handle<illava_image, illava_image_free>   image_;
    int n_threads_;
};

class decoder {
public:
    decoder(const std::string & path, bool on_device, int n_threads);

    // A context that merges at the given layers and has room for n_rows.
    void context(const schedule & steps, int32_t n_rows);

    // A few text tokens, the rows of a picture, a few text tokens; everything before is forgotten.
    prefilled prefill(const std::vector<float> & embd, int32_t n_visual, const schedule & steps);

    int32_t  n_embd()  const { return llama_model_n_embd(model_.get()); }
    int32_t  n_layer() const { return llama_model_n_layer(model_.get()); }
    int32_t  n_pos()   const { return illava_model_n_pos(model_.get()); }
    uint64_t compute_bytes() const { return illava_context_compute_bytes(context_.get()); }
    // Bytes of the cells in use.
    uint64_t kv_bytes() const;

    static constexpr int32_t n_text_before = 8, n_text_after = 24;

private:
    handle<llama_model, llama_model_free> model_;
    handle<llama_context, llama_free>     context_;
    bool on_device_;
    int  n_threads_;
};

} // namespace gpu
