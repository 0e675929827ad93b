#pragma once

// One matrix product on the CPU: weights of a type, in the layout of a buffer type, by rows of f32.

#include "graph-fixture.h"
#include "illava-kernels.h"

#include "ggml-backend-impl.h"

#include <cstring>

namespace fixture {

// The buffer type in which ggml lays these weights out anew on this processor, or null.
inline ggml_backend_buffer_type_t repacking(ggml_type type, int64_t inputs, int64_t outputs) {
    ggml_backend_dev_t device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
    const auto types = (ggml_backend_dev_get_extra_bufts_t) ggml_backend_reg_get_proc_address(
        ggml_backend_dev_backend_reg(device), "ggml_backend_dev_get_extra_bufts");
    const context_ptr ctx(ggml_init({ 8 * ggml_tensor_overhead(), nullptr, true }));
    ggml_tensor * weight  = ggml_new_tensor_2d(ctx.get(), type, inputs, outputs);
    ggml_tensor * product = ggml_mul_mat(ctx.get(), weight, ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, inputs, 512));
    for (auto * extra = types ? types(device) : nullptr; extra && *extra; extra++) {
        const buffer_ptr empty(ggml_backend_buft_alloc_buffer(*extra, 0));
        weight->buffer = empty.get();
        const bool takes = empty && ggml_backend_dev_supports_op(device, product);
        weight->buffer = nullptr;
        if (takes) {
            return *extra;
        }
    }
    return nullptr;
}

class product {
public:
    // `values` are [outputs][inputs]; the buffer type is null for the host's own.
    product(ggml_type type, int64_t inputs, int64_t outputs, int64_t n_rows, ggml_backend_buffer_type_t layout, std::vector<float> values)
        : stored(std::move(values)) {
        context_.reset(ggml_init({ 4 * ggml_tensor_overhead(), nullptr, true }));
        ggml_tensor * weight = ggml_new_tensor_2d(context_.get(), type, inputs, outputs);
        buffer_.reset(ggml_backend_alloc_ctx_tensors_from_buft(context_.get(), layout ? layout : ggml_backend_cpu_buffer_type()));
        ggml_backend_buffer_set_usage(buffer_.get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
        stored = write(weight, std::move(stored));

        rows_   = graph_.input(GGML_TYPE_F32, inputs, n_rows);
        result_ = ggml_mul_mat(graph_.ctx(), weight, rows_);
        graph_.output(result_);
        graph_.allocate();
    }

    void set(const std::vector<float> & rows) { ggml_backend_tensor_set(rows_, rows.data(), 0, ggml_nbytes(rows_)); }

    // [rows][outputs]
    std::vector<float> run(int n_threads) {
        graph_.run(n_threads);
        return read<float>(result_);
    }

    void compute(int n_threads) { graph_.run(n_threads); }

    std::vector<float> stored; // the weights as their type holds them

private:
    context_ptr   context_;
    buffer_ptr    buffer_;
    graph         graph_{ 16 };
    ggml_tensor * rows_;
    ggml_tensor * result_;
};

} // namespace fixture
