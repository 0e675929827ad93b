#include "illava-product-form.h"

#include "illava-product-amx.h"
#include "illava-product-chain.h"

#include "ggml-backend-impl.h"
#include "ggml-cpu.h"
#include "repack.h"

namespace illava::product {

namespace {

// Fewer rows are not worth a panel: what reads the weights once as they lie is as fast. ggml's own product of BF16 is
// better than that of the other types, and with AVX2 that of F16; what is unpacked by ggml, value by value, needs many rows
// to pay for it, and more of them where ggml's product is good.
int64_t min_rows(ggml_type type, form kind) {
    switch (type) {
        case GGML_TYPE_F16:    return kind == form::bf16 ? 16 : kind == form::int16 ? 64 : 128;
        case GGML_TYPE_Q4_0:
        case GGML_TYPE_Q4_K:   return 16;
        case GGML_TYPE_Q8_0:   return kind == form::int16 ? 32 : 16;
        case GGML_TYPE_BF16:   return 48;
        case GGML_TYPE_Q2_K:
        case GGML_TYPE_Q3_K:
        case GGML_TYPE_Q5_K:
        case GGML_TYPE_Q6_K:
        case GGML_TYPE_IQ4_XS: return 256;
        default:               return 64;
    }
}

bool any_int8() {
    return has_int8() || has_avx2();
}

form form_of(const ggml_tensor * weight) {
    const bool interleaved = is_interleaved(weight);
    // Other buffers of their own layout belong to other kernels.
    if (!interleaved && weight->buffer && !ggml_backend_buft_is_host(weight->buffer->buft)) {
        return form::none;
    }
    switch (weight->type) {
        case GGML_TYPE_Q4_0:
            return any_int8() ? form::int8 : form::none;
        case GGML_TYPE_Q4_K:
            return any_int8() ? form::int8_minima : form::none;
        default:
            break;
    }
    if (interleaved) {
        return form::none;
    }
    switch (weight->type) {
        case GGML_TYPE_Q8_0:
            return has_int8() || has_avxvnni() ? form::int8 : has_int16() ? form::int16 : has_avx2() ? form::int8 : form::none;
        case GGML_TYPE_F32: // keeps its precision
            return form::none;
        case GGML_TYPE_Q2_K: // ggml's own product of many rows is as fast as one in bf16
        case GGML_TYPE_Q3_K:
        case GGML_TYPE_Q5_K:
        case GGML_TYPE_Q6_K:
        case GGML_TYPE_IQ4_XS:
            return !has_bf16() && has_int16() ? form::int16 : form::none;
        case GGML_TYPE_F16:
        case GGML_TYPE_BF16:
            return has_bf16() ? form::bf16 : has_int16() ? form::int16 : has_avx2() ? form::f32 : form::none;
        default:
            if (!ggml_get_type_traits(weight->type)->to_float || ggml_blck_size(weight->type) % step != 0) {
                return form::none;
            }
            return has_bf16() ? form::bf16 : has_int16() ? form::int16 : form::none;
    }
}

} // namespace

int rows_at_once(form kind) {
    return kind == form::bf16 && has_amx() ? 2 * amx_rows : 6;
}

bool is_interleaved(const ggml_tensor * weight) {
#ifdef GGML_USE_CPU_REPACK
    return weight->buffer && weight->buffer->buft == ggml_backend_cpu_repack_buffer_type();
#else
    GGML_UNUSED(weight);
    return false;
#endif
}

int8_kernels own_int8() {
    return has_int8() ? int8_kernels{ pack_panel_int8, multiply_int8 } : has_avxvnni() ? int8_kernels{ pack_panel_int8_avx2, multiply_avxvnni }
        : int8_kernels{ pack_panel_int8_avx2, multiply_int8_avx2 };
}

decltype(&multiply_int16) own_int16() {
    return has_avxvnni() ? multiply_int16_avxvnni : multiply_int16;
}

bool has_any() {
    return has_bf16() || any_int8();
}

form form_of_node(const ggml_tensor * node) {
    if (node->op != GGML_OP_MUL_MAT || !is_on()) {
        return form::none;
    }
    const ggml_tensor * weight = node->src[0];
    const ggml_tensor * rows   = node->src[1];
    // a matrix of the file, not one that a graph computes
    if (weight->op != GGML_OP_NONE || weight->view_src || weight->ne[2] != 1 || weight->ne[3] != 1 || !ggml_is_contiguous(weight)) {
        return form::none;
    }
    if (rows->type != GGML_TYPE_F32 || node->type != GGML_TYPE_F32 || !ggml_is_contiguous(rows) || !ggml_is_contiguous(node)) {
        return form::none;
    }
    // a hint that the matrix is one ggml knows a transform for
    if (ggml_get_op_params_i32(node, 1) != 0 || weight->ne[1] < step || weight->ne[0] < step) {
        return form::none;
    }
    const form kind = form_of(weight);
    return ggml_nrows(rows) < min_rows(weight->type, kind) ? form::none : kind;
}

} // namespace illava::product
