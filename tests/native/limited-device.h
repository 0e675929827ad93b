#pragma once

// A device that counts as a GPU, computes on the CPU, and takes only what the GPU backends of ggml all
// take: CUDA, Metal and Vulkan, each as its supports_op has it. It has no score operation.

#include "ggml-backend.h"

#include <string>
#include <vector>

namespace fixture {

// Adds the device to ggml's registry; from then on loaders find a GPU.
ggml_backend_dev_t register_limited_device();

// Watches what each backend of a scheduler computes, split by split. One at a time.
class split_recorder {
public:
    explicit split_recorder(ggml_backend_sched_t sched);
    ~split_recorder();

    split_recorder(const split_recorder &) = delete;
    split_recorder & operator=(const split_recorder &) = delete;

    // Written down at once: the next graph takes the place of this one.
    struct computed {
        ggml_op     op;
        bool        by_device;      // of register_limited_device()
        bool        looks_up_token; // a row of token_embd.weight
        std::string text;
    };
    // Views and the like left out.
    const std::vector<computed> & nodes() const { return nodes_; }

private:
    static ggml_status record(ggml_backend_t backend, ggml_cgraph * graph);

    std::vector<computed> nodes_;
};

} // namespace fixture
