// The kernels of attn_score.metal, compiled by the host's compiler: metal_stdlib beside this file stands
// in for Apple's.

#include "kernel.h"

#define GGML_METAL_HAS_BF16
#include "attn_score.metal"

#undef kernel
#undef device
#undef thread
#undef constant
#undef threadgroup

namespace emulation {
namespace {

const ggml_metal_kargs_attn_score & arguments(const bindings & b) {
    return *static_cast<const ggml_metal_kargs_attn_score *>(b.bytes);
}

metal::uint3 threadgroup_position(const position & at) {
    return { at.threadgroup[0], at.threadgroup[1], at.threadgroup[2] };
}

template <typename T> T * buffer(const bindings & b, int index) {
    return static_cast<T *>(b.buffer[index]);
}

template <typename T> void rows(const bindings & b, const position & at) {
    kernel_attn_score_rows<T>(arguments(b),
            buffer<const char>(b, 1), buffer<const char>(b, 2), buffer<const char>(b, 3), buffer<float>(b, 4),
            static_cast<volatile float *>(b.threadgroup_memory), threadgroup_position(at),
            ushort(at.thread), ushort(at.simdgroup()), ushort(at.lane()));
}

template <typename T> void columns(const bindings & b, const position & at) {
    kernel_attn_score_columns<T>(arguments(b),
            buffer<const char>(b, 1), buffer<const char>(b, 2), buffer<const char>(b, 3), buffer<const float>(b, 4),
            buffer<float>(b, 5), static_cast<volatile float *>(b.threadgroup_memory), threadgroup_position(at),
            ushort(at.thread), ushort(at.simdgroup()), ushort(at.lane()));
}

void sum(const bindings & b, const position & at) {
    kernel_attn_score_sum(arguments(b), buffer<const float>(b, 1), buffer<float>(b, 2), at.in_grid);
}

const compiled_kernel kernels[] = {
    { "kernel_attn_score_rows_f32",     rows<float>              },
    { "kernel_attn_score_rows_f16",     rows<metal::half>        },
    { "kernel_attn_score_rows_bf16",    rows<metal::bfloat>      },
    { "kernel_attn_score_rows_q8_0",    rows<attn_score_q8_0>    },
    { "kernel_attn_score_rows_q4_0",    rows<attn_score_q4_0>    },
    { "kernel_attn_score_columns_f32",  columns<float>           },
    { "kernel_attn_score_columns_f16",  columns<metal::half>     },
    { "kernel_attn_score_columns_bf16", columns<metal::bfloat>   },
    { "kernel_attn_score_columns_q8_0", columns<attn_score_q8_0> },
    { "kernel_attn_score_columns_q4_0", columns<attn_score_q4_0> },
    { "kernel_attn_score_sum",          sum                      },
};

} // namespace

const compiled_kernel * find_kernel(const char * name) {
    for (const auto & kernel : kernels) {
        if (strcmp(kernel.name, name) == 0) {
            return &kernel;
        }
    }
    return nullptr;
}

} // namespace emulation
