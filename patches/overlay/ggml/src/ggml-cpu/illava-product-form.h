#pragma once

// Which products are computed here, and in which arithmetic.

#include "illava-product-tile.h"

namespace illava::product {

enum class form { none, bf16, f32, int16, int8, int8_minima };

// The form of a node, by its weights' type and layout, its rows and the processor; none if ggml computes it.
form form_of_node(const ggml_tensor * node);

// Whether the weights lie in the layout of the repacking buffer that pack_panel_int8() knows.
bool is_interleaved(const ggml_tensor * weight);

// Rows that meet a panel before anything else is done: those of the tiles.
int rows_at_once(form kind);

// This processor's code of products in 8 bits.
struct int8_kernels {
    decltype(&pack_panel_int8) pack;
    decltype(&multiply_int8)   multiply;
};
int8_kernels own_int8();

// This processor's code of products in 14 bits.
decltype(&multiply_int16) own_int16();

// Whether there is code for this processor, for any type.
bool has_any();

} // namespace illava::product
