#pragma once

// A graph on the CPU backend: made, allocated, filled, run with a given number of threads, read back.

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"

#include <cstdint>
#include <cstdio>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace fixture {

template <auto release> struct releaser {
    template <typename T> void operator()(T * handle) const { release(handle); }
};

using context_ptr   = std::unique_ptr<ggml_context, releaser<ggml_free>>;
using backend_ptr   = std::unique_ptr<ggml_backend, releaser<ggml_backend_free>>;
using allocator_ptr = std::unique_ptr<ggml_gallocr, releaser<ggml_gallocr_free>>;
using buffer_ptr    = std::unique_ptr<ggml_backend_buffer, releaser<ggml_backend_buffer_free>>;

// Inputs live in a buffer of their own, so that compute_bytes() is what the operations need.
class graph {
public:
    explicit graph(size_t max_nodes = 16384)
        : backend_(ggml_backend_cpu_init()),
          inputs_(make_context(256)),
          nodes_(make_context(max_nodes)),
          graph_(ggml_new_graph_custom(nodes_.get(), max_nodes, false)) {}

    ggml_context * ctx() { return nodes_.get(); }
    ggml_backend_t backend() { return backend_.get(); }
    ggml_cgraph *  nodes() { return graph_; }

    ggml_tensor * input(ggml_type type, int64_t ne0, int64_t ne1 = 1, int64_t ne2 = 1) {
        return ggml_new_tensor_3d(inputs_.get(), type, ne0, ne1, ne2);
    }

    void output(ggml_tensor * tensor) {
        ggml_set_output(tensor);
        ggml_build_forward_expand(graph_, tensor);
    }

    // After this, inputs can be set.
    void allocate() {
        buffer_.reset(ggml_backend_alloc_ctx_tensors(inputs_.get(), backend_.get()));
        allocator_.reset(ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend_.get())));
        GGML_ASSERT(ggml_gallocr_reserve(allocator_.get(), graph_));
        GGML_ASSERT(ggml_gallocr_alloc_graph(allocator_.get(), graph_));
    }

    void run(int n_threads) {
        ggml_backend_cpu_set_n_threads(backend_.get(), n_threads);
        GGML_ASSERT(ggml_backend_graph_compute(backend_.get(), graph_) == GGML_STATUS_SUCCESS);
    }

    size_t compute_bytes() const { return ggml_gallocr_get_buffer_size(allocator_.get(), 0); }

private:
    static context_ptr make_context(size_t n_tensors) {
        const size_t bytes = 2 * n_tensors * ggml_tensor_overhead() + ggml_graph_overhead_custom(n_tensors, false);
        return context_ptr(ggml_init({ bytes, nullptr, /*no_alloc =*/ true }));
    }

    backend_ptr   backend_;
    context_ptr   inputs_;
    context_ptr   nodes_;
    ggml_cgraph * graph_;
    buffer_ptr    buffer_;
    allocator_ptr allocator_;
};

template <typename T> std::vector<T> read(const ggml_tensor * tensor) {
    std::vector<T> values(ggml_nelements(tensor));
    ggml_backend_tensor_get(tensor, values.data(), 0, values.size() * sizeof(T));
    return values;
}

// Stores f32 values in the tensor's type and returns what was really stored.
inline std::vector<float> write(ggml_tensor * tensor, std::vector<float> values) {
    if (tensor->type == GGML_TYPE_F32) {
        ggml_backend_tensor_set(tensor, values.data(), 0, values.size() * sizeof(float));
        return values;
    }
    std::vector<uint8_t> stored(ggml_nbytes(tensor));
    ggml_quantize_chunk(tensor->type, values.data(), stored.data(), 0, ggml_nrows(tensor), tensor->ne[0], nullptr);
    ggml_backend_tensor_set(tensor, stored.data(), 0, stored.size());
    ggml_get_type_traits(tensor->type)->to_float(stored.data(), values.data(), int64_t(values.size()));
    return values;
}

inline std::vector<float> normal(size_t n, float deviation, uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> distribution(0.0f, deviation);
    std::vector<float> values(n);
    for (float & value : values) {
        value = distribution(random);
    }
    return values;
}

// Counts checks and prints those that fail.
class checks {
public:
    bool expect(bool ok, const std::string & what) {
        (ok ? passed_ : failed_)++;
        if (!ok) {
            printf("FAIL %s\n", what.c_str());
        }
        return ok;
    }

    // The exit code of the test program.
    int finish() const {
        printf("%d passed, %d failed\n", passed_, failed_);
        return failed_ == 0 && passed_ > 0 ? 0 : 1;
    }

private:
    int passed_ = 0;
    int failed_ = 0;
};

} // namespace fixture
