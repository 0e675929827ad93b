#pragma once

// Which kernels the CPU computes products with.

#include "ggml-backend.h"

#ifdef __cplusplus
extern "C" {
#endif

// Lets this library's own kernels compute products of many rows, as far as they have code for this processor
// (see ggml-cpu/illava-product.h). The default leaves all to ggml, whose results are then the same to the
// last bit. It counts for the whole process, for graphs that are computed afterwards.
GGML_BACKEND_API void illava_use_own_kernels(bool use);

// The instructions that this library's kernels use, such as "avx512-bf16, avx512-vnni"; "stock" if ggml computes all.
// Never freed.
GGML_BACKEND_API const char * illava_kernels(void);

#ifdef __cplusplus
}
#endif
