#pragma once

// Matrix products of a prompt or a picture: many rows of activations by a weight matrix.
//
// The weights stay as the loader laid them out, which is best for one row. A product of many rows unpacks a
// panel of them: some columns of the result by some hundred inputs. The panel has the form of the processor's
// widest product instruction, and all rows are multiplied by it. Unpacking costs a few per cent of such a
// product and no memory beyond one panel a thread.
//
//   BF16, F16 of a checkpoint in bf16, quants without a form   bf16 x bf16 -> f32 (TDPBF16PS of AMX, or VDPBF16PS)
//   F16 whose values bf16 would round                          f32 x f32 -> f32
//   F16, BF16, Q8_0 and other quants without AVX-512           14 bits x 14 bits -> s32 (VPMADDWD of AVX2), scales of 32 inputs
//   F16 and BF16 where that is slow                            f32 x f32 -> f32 (AVX2, FMA)
//   Q4_0, Q8_0, Q4_K                                           u8 x s8 -> s32 (VPDPBUSD, or VPMADDUBSW of AVX2), scales of 32 inputs
//
// Attention is illava-attention.h, an encoder's GELU illava-gelu.h.
//
// An element of the result is summed in the order of its inputs, whatever the other rows and the threads are.

#include "ggml.h"

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ggml_compute_params;

// Bytes of the work buffer that `node` needs here for n_tasks threads; 0 if ggml computes it.
size_t illava_product_work_size(const struct ggml_tensor * node, int n_tasks);

// Computes `node`; false if ggml has to.
bool illava_product_forward(const struct ggml_compute_params * params, struct ggml_tensor * node);

#ifdef __cplusplus
}
#endif
