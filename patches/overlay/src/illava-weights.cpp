// Layout of a text model's weights in memory, and its change by the CPU on loading.

#include "illava.h"

#include "llama-model.h"

#include "ggml-backend.h"
#include "ggml-cpp.h"
#include "illava-kernels.h"

#include <vector>

namespace {

// Side of a square matrix that the blocks of every layout divide.
constexpr int64_t side = 4096;

ggml_backend_dev_t cpu() {
    return ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
}

std::vector<ggml_backend_buffer_type_t> extra_buffer_types(ggml_backend_dev_t device) {
    const auto get_types = (ggml_backend_dev_get_extra_bufts_t) ggml_backend_reg_get_proc_address(
        ggml_backend_dev_backend_reg(device), "ggml_backend_dev_get_extra_bufts");
    std::vector<ggml_backend_buffer_type_t> types;
    for (auto * type = get_types ? get_types(device) : nullptr; type && *type; type++) {
        types.push_back(*type);
    }
    return types;
}

bool repacks(int32_t type) {
    ggml_backend_dev_t device = cpu();
    if (!device || type < 0 || type >= GGML_TYPE_COUNT || ggml_blck_size((ggml_type) type) == 0) {
        return false;
    }
    const ggml_context_ptr ctx(ggml_init({ 4 * ggml_tensor_overhead(), nullptr, true }));
    if (!ctx) {
        return false;
    }
    ggml_tensor * weight = ggml_new_tensor_2d(ctx.get(), (ggml_type) type, side, side);
    ggml_tensor * rows = ggml_new_tensor_2d(ctx.get(), GGML_TYPE_F32, side, 512);
    const ggml_tensor * product = ggml_mul_mat(ctx.get(), weight, rows);
    for (ggml_backend_buffer_type_t extra : extra_buffer_types(device)) {
        // a device is asked about an operation whose operands have buffers
        const ggml_backend_buffer_ptr empty(ggml_backend_buft_alloc_buffer(extra, 0));
        weight->buffer = empty.get();
        const bool taken = empty && ggml_backend_dev_supports_op(device, product);
        weight->buffer = nullptr;
        if (taken) {
            return true;
        }
    }
    return false;
}

uint64_t repacked_bytes(const llama_model * model) {
    ggml_backend_dev_t device = cpu();
    if (!model || !device) {
        return 0;
    }
    const auto extra = extra_buffer_types(device);
    uint64_t bytes = 0;
    for (const auto & [name, tensor] : model->tensors_by_name) {
        if (!tensor->buffer) {
            continue;
        }
        ggml_backend_buffer_type_t type = ggml_backend_buffer_get_type(tensor->buffer);
        for (ggml_backend_buffer_type_t other : extra) {
            bytes += type == other ? ggml_nbytes(tensor) : 0;
        }
    }
    return bytes;
}

} // namespace

bool illava_cpu_repacks(int32_t type) {
    try {
        return repacks(type);
    } catch (...) {
        return false;
    }
}

uint64_t illava_model_repacked_bytes(const llama_model * model) {
    try {
        return repacked_bytes(model);
    } catch (...) {
        return 0;
    }
}

void illava_set_kernels(bool own) {
    illava_use_own_kernels(own);
}

const char * illava_kernels_used(void) {
    return illava_kernels();
}
