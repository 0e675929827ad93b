#include "illava-gelu.h"

#include "illava-epilogue.h"

#include <algorithm>

namespace illava::gelu {

activation::kind form(const ggml_tensor * node) {
    if (node->op != GGML_OP_UNARY || !product::has_epilogue() || node->type != GGML_TYPE_F32 || node->src[0]->type != GGML_TYPE_F32
        || !ggml_is_contiguous(node) || !ggml_is_contiguous(node->src[0])) {
        return activation::kind::none;
    }
    switch (ggml_get_unary_op(node)) {
        case GGML_UNARY_OP_GELU:       return activation::kind::gelu;
        case GGML_UNARY_OP_GELU_QUICK: return activation::kind::gelu_quick;
        default:                       return activation::kind::none;
    }
}

void compute(const ggml_compute_params * params, ggml_tensor * node) {
    // Shares of whole lines of the cache, computed in rows of one line's multiple.
    constexpr int64_t width = 1024;
    const int64_t n = ggml_nelements(node), apart = GGML_PAD((n + params->nth - 1) / params->nth, 16);
    const int64_t first = std::min(n, apart * params->ith), last = std::min(n, first + apart);
    product::epilogue e;
    e.function = form(node);
    for (int64_t i = first; i < last; i += width) {
        e.out = (float *) node->data + i;
        product::finish(e, { (const float *) node->src[0]->data + i, 0, 0, 0, 1, int(std::min(width, last - i)) });
    }
}

} // namespace illava::gelu
