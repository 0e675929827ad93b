#pragma once

// GGUF files of random weights in the shapes of real models: speed depends on shapes and types alone.

#include <cstdint>
#include <string>

namespace gpu {

struct tower_shape { // a SigLIP tower with a projector of two layers
    int64_t image, patch, width, heads, stored, mlp, output;

    int64_t tokens() const { return (image / patch) * (image / patch); }
    // Multiply-adds times two of all matrix products over `tokens` tokens in one block.
    double  block_flops(int64_t tokens) const;
};

struct decoder_shape { // Qwen2
    int64_t width, layers, heads, kv_heads, mlp, vocabulary;

    double layer_flops(int64_t tokens) const; // causal attention counted as half
};

// F16 matrices, as they are compared with a card's matrix peak.
void write_tower  (const std::string & path, const tower_shape & shape);
void write_decoder(const std::string & path, const decoder_shape & shape);

} // namespace gpu
