#pragma once

// Element by element work behind a product: a bias, an activation, a residual. It is done while the results are in the
// cache, in place of a pass through memory for each.

#include "illava-activation.h"

#include <cstddef>
#include <cstdint>

namespace illava::product {

// out = activation(x + bias) + residual, x being the results of a product [rows][outputs]. Null leaves a term out.
struct epilogue {
    const float *    bias     = nullptr; // [outputs]
    activation::kind function = activation::kind::none;
    const float *    residual = nullptr; // [rows][outputs]; may be `out`
    float *          out      = nullptr; // [rows][outputs]; may be the product's results
};

// A block of x, and where it lies in the matrices: `rows` by `columns` values from (row, column) on.
struct block {
    const float * values;
    size_t        stride; // of all matrices: outputs
    int64_t       row, column;
    int           rows, columns;
};

// Applies `e` to a block.
void finish(const epilogue & e, const block & b);

// Whether this processor has code for it.
bool has_epilogue();

} // namespace illava::product
