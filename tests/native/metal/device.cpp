// Dispatches between two memory barriers may run in any order on Metal; here they run in the reverse of
// that in which they were encoded, so that a missing barrier shows.

#include "device.h"

#include "ggml-backend-impl.h"
#include "illava-score-metal.h"
#include "kernel.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace {

using namespace emulation;

constexpr size_t most_threadgroup_memory = 32 * 1024; // of every Apple GPU
constexpr int    most_threads            = 1024;

struct dispatch {
    const compiled_kernel * kernel;
    std::vector<char>       arguments;
    bindings                bound;
    size_t                  memory;
    uint32_t                grid[3];
    uint32_t                n_threads;
};

void fail(const std::string & what) {
    if (emulation::device().error.empty()) {
        emulation::device().error = what;
    }
}

void run(dispatch & d) {
    d.bound.bytes = d.arguments.data();
    for (uint32_t z = 0; z < d.grid[2]; z++) {
        for (uint32_t y = 0; y < d.grid[1]; y++) {
            for (uint32_t x = 0; x < d.grid[0]; x++) {
                // Fresh and of the exact size: whatever is read before it is written is not a number.
                std::vector<char> memory(d.memory, char(0xff));
                d.bound.threadgroup_memory = memory.data();

                position first = {};
                first.threadgroup[0] = x;
                first.threadgroup[1] = y;
                first.threadgroup[2] = z;
                const char * wrong = run_threadgroup(d.n_threads, first, emulation::device().order,
                        [&](const position & at) { d.kernel->run(d.bound, at); });
                if (*wrong) {
                    fail(std::string(d.kernel->name) + ": " + wrong);
                    return;
                }
            }
        }
    }
}

} // namespace

emulation::device_state & emulation::device() {
    static device_state state;
    return state;
}

struct ggml_metal_encoder {
    dispatch              next = {};
    std::vector<dispatch> pending;

    void flush() {
        for (auto d = pending.rbegin(); d != pending.rend(); ++d) {
            run(*d);
        }
        pending.clear();
    }
};

// A pipeline is a kernel.
struct ggml_metal_pipeline {};

static ggml_metal_pipeline_with_params as_pipeline(const char * name) {
    ggml_metal_pipeline_with_params res = {};
    res.pipeline = reinterpret_cast<ggml_metal_pipeline_t>(const_cast<compiled_kernel *>(find_kernel(name)));
    return res;
}

extern "C" {

void ggml_metal_pipeline_free(ggml_metal_pipeline_t) {}

int ggml_metal_pipeline_max_theads_per_threadgroup(ggml_metal_pipeline_with_params) {
    return most_threads;
}

ggml_metal_cv_t ggml_metal_cv_init(void) { return nullptr; }
void ggml_metal_cv_free(ggml_metal_cv_t) {}
void ggml_metal_cv_set_int16(ggml_metal_cv_t, int16_t, int32_t) {}
void ggml_metal_cv_set_int32(ggml_metal_cv_t, int32_t, int32_t) {}
void ggml_metal_cv_set_bool (ggml_metal_cv_t, bool,    int32_t) {}

ggml_metal_device_t ggml_metal_library_get_device(ggml_metal_library_t) { return nullptr; }

// Nothing is in the cache, so that every name comes by way of the compilation.
ggml_metal_pipeline_with_params ggml_metal_library_get_pipeline(ggml_metal_library_t, const char *) { return {}; }

ggml_metal_pipeline_with_params ggml_metal_library_compile_pipeline(
        ggml_metal_library_t, const char * base, const char *, ggml_metal_cv_t) {
    return as_pipeline(base);
}

ggml_metal_device_t  ggml_metal_device_init(int, int) { return nullptr; }
void                 ggml_metal_device_free(ggml_metal_device_t) {}
ggml_metal_library_t ggml_metal_device_get_library(ggml_metal_device_t) { return nullptr; }

const ggml_metal_device_props * ggml_metal_device_get_props(ggml_metal_device_t) {
    static ggml_metal_device_props props = {};
    props.max_theadgroup_memory_size = most_threadgroup_memory;
    props.has_simdgroup_reduction    = true;
    props.has_simdgroup_mm           = true;
    props.has_bfloat                 = emulation::device().bfloat;
    return &props;
}

bool ggml_metal_device_supports_op(ggml_metal_device_t, const ggml_tensor * op) {
    return op->op == GGML_OP_ATTN_SCORE && illava_metal_score_supported(op, true, true);
}

ggml_metal_buffer_id ggml_metal_buffer_get_id(ggml_metal_buffer_t, const ggml_tensor * t) {
    return { t->data, 0 };
}

ggml_metal_encoder_t ggml_metal_encoder_init(ggml_metal_cmd_buf_t, bool) { return new ggml_metal_encoder; }
void ggml_metal_encoder_free(ggml_metal_encoder_t encoder) { delete encoder; }

void ggml_metal_encoder_debug_group_push(ggml_metal_encoder_t, const char *) {}
void ggml_metal_encoder_debug_group_pop (ggml_metal_encoder_t) {}

void ggml_metal_encoder_set_pipeline(ggml_metal_encoder_t encoder, ggml_metal_pipeline_with_params pipeline) {
    encoder->next.kernel = reinterpret_cast<const compiled_kernel *>(pipeline.pipeline);
}

void ggml_metal_encoder_set_bytes(ggml_metal_encoder_t encoder, void * data, size_t size, int idx) {
    if (idx != 0) {
        fail("arguments are expected at index 0");
        return;
    }
    encoder->next.arguments.assign((const char *) data, (const char *) data + size);
}

void ggml_metal_encoder_set_buffer(ggml_metal_encoder_t encoder, ggml_metal_buffer_id buffer, int idx) {
    encoder->next.bound.buffer[idx] = (char *) buffer.metal + buffer.offs;
}

void ggml_metal_encoder_set_threadgroup_memory_size(ggml_metal_encoder_t encoder, size_t size, int) {
    if (size % 16 != 0 || size > most_threadgroup_memory) {
        fail(std::to_string(size) + " bytes of threadgroup memory");
    }
    encoder->next.memory = size;
    auto & most = emulation::device().threadgroup_memory;
    most = std::max(most, size);
}

void ggml_metal_encoder_dispatch_threadgroups(ggml_metal_encoder_t encoder, int tg0, int tg1, int tg2, int tptg0, int tptg1, int tptg2) {
    if (!encoder->next.kernel) {
        fail("a dispatch without a kernel");
        return;
    }
    if (tptg1 != 1 || tptg2 != 1 || tptg0 > most_threads) {
        fail("threads of a threadgroup: " + std::to_string(tptg0) + " x " + std::to_string(tptg1) + " x " + std::to_string(tptg2));
        return;
    }
    encoder->next.grid[0]   = uint32_t(tg0);
    encoder->next.grid[1]   = uint32_t(tg1);
    encoder->next.grid[2]   = uint32_t(tg2);
    encoder->next.n_threads = uint32_t(tptg0);
    encoder->pending.push_back(encoder->next);
    encoder->next = {}; // Metal would keep the bindings; a kernel that gets by without is no worse for it
    emulation::device().n_dispatches++;
}

void ggml_metal_encoder_memory_barrier(ggml_metal_encoder_t encoder) { encoder->flush(); }
void ggml_metal_encoder_end_encoding  (ggml_metal_encoder_t encoder) { encoder->flush(); }

} // extern "C"
