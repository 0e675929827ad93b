#include "illava-product.h"

#include "illava-attention.h"
#include "illava-gelu.h"
#include "illava-product-tile.h"

#include "ggml-backend-impl.h"
#include "ggml-cpu-impl.h"
#include "ggml-cpu.h"
#include "illava-kernels.h"
#include "quants.h"
#include "repack.h"

#include <algorithm>
#include <atomic>

using namespace illava::product;

namespace {

std::atomic<bool> enabled{ false };

// Fewer rows are not worth a panel: what reads the weights once as they lie is as fast. ggml's own product of BF16 is
// better than that of the other types; what is unpacked by ggml, value by value, needs many rows to pay for it.
int64_t min_rows(ggml_type type) {
    switch (type) {
        case GGML_TYPE_F16:
        case GGML_TYPE_Q4_0:
        case GGML_TYPE_Q4_K:
        case GGML_TYPE_Q8_0: return 16;
        case GGML_TYPE_BF16: return 48;
        default:             return 64;
    }
}

// A panel of so many inputs stays in the second-level cache beside the rows it meets.
constexpr int max_inputs = 1280, max_inputs_avx2 = 640;

// Rows that one thread multiplies by a panel before another may take the rest, at least.
constexpr int64_t min_rows_apart = 64;

constexpr size_t alignment = 64;

size_t aligned(size_t bytes) {
    return GGML_PAD(bytes, alignment);
}

enum class form { none, bf16, f32, int8, int8_minima };

// Whether the weights lie in the layout of the repacking buffer that pack_panel_int8() knows.
bool is_interleaved(const ggml_tensor * weight) {
#ifdef GGML_USE_CPU_REPACK
    return weight->buffer && weight->buffer->buft == ggml_backend_cpu_repack_buffer_type();
#else
    GGML_UNUSED(weight);
    return false;
#endif
}

// Whether 8-bit products have an instruction, of AVX-512 or of AVX-VNNI.
bool any_int8() {
    return has_int8() || has_avxvnni();
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
        case GGML_TYPE_Q8_0:
            return any_int8() && !interleaved ? form::int8 : form::none;
        case GGML_TYPE_F32: // keeps its precision
        case GGML_TYPE_Q2_K: // ggml's own product of many rows is as fast
        case GGML_TYPE_Q3_K:
        case GGML_TYPE_Q5_K:
        case GGML_TYPE_Q6_K:
        case GGML_TYPE_IQ4_XS:
            return form::none;
        case GGML_TYPE_F16:
        case GGML_TYPE_BF16:
            return interleaved ? form::none : has_bf16() ? form::bf16 : has_avx2() ? form::f32 : form::none;
        default:
            return has_bf16() && !interleaved && ggml_get_type_traits(weight->type)->to_float ? form::bf16 : form::none;
    }
}

form form_of_node(const ggml_tensor * node) {
    if (node->op != GGML_OP_MUL_MAT || !enabled.load(std::memory_order_relaxed)) {
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
    if (ggml_get_op_params_i32(node, 1) != 0 || ggml_nrows(rows) < min_rows(weight->type) || weight->ne[1] < step || weight->ne[0] < step) {
        return form::none;
    }
    return form_of(weight);
}

bool is_attention(const ggml_tensor * node) {
    return enabled.load(std::memory_order_relaxed) && illava::attention::takes(node);
}

// How a product is cut, and what its work buffer holds.
struct plan {
    form    kind;
    int64_t inputs, outputs, rows;
    int     inputs_apart; // of a panel
    int     columns;      // of a panel
    size_t  stride;       // elements of a packed row
    size_t  blocks;       // of a packed row in 8 bits
    size_t  scale, offset, panels, panel_bytes, scratch_bytes; // places and sizes in the work buffer

    plan(const ggml_tensor * node, form kind) : kind(kind) {
        inputs  = node->src[0]->ne[0];
        outputs = node->src[0]->ne[1];
        rows    = ggml_nrows(node->src[1]);

        const int64_t unit  = std::max<int64_t>(step, ggml_blck_size(node->src[0]->type));
        const int64_t most  = kind == form::f32 ? max_inputs_avx2 : max_inputs;
        const int64_t parts = (inputs + most - 1) / most;
        inputs_apart = int((inputs + parts * unit - 1) / (parts * unit) * unit);

        // One more line: rows whose distance is a power of two would meet in a few sets of the cache.
        const int64_t padded = GGML_PAD(inputs, step);
        blocks  = size_t(padded / step);
        columns = kind == form::bf16 ? columns_float : kind == form::f32 ? columns_avx2 : columns_int8;
        if (kind == form::f32) {
            stride = size_t(inputs); // rows are taken as they are
            panels = scale = offset = scratch_bytes = 0;
            panel_bytes = panel_bytes_avx2(inputs_apart);
        } else if (kind == form::bf16) {
            stride        = size_t(padded) + alignment / 2;
            panels        = aligned(size_t(rows) * stride * sizeof(uint16_t));
            scale = offset = 0;
            panel_bytes   = panel_bytes_float(node->src[0]->type, inputs_apart);
            scratch_bytes = size_t(16) * inputs_apart * sizeof(float);
        } else {
            stride        = size_t(padded) + alignment;
            scale         = aligned(size_t(rows) * stride);
            offset        = scale + aligned(size_t(rows) * blocks * sizeof(float));
            panels        = offset + aligned(size_t(rows) * blocks * sizeof(float));
            panel_bytes   = panel_bytes_int8(inputs_apart);
            scratch_bytes = 0;
        }
    }

    size_t thread_bytes() const { return aligned(panel_bytes) + aligned(scratch_bytes); }
    size_t bytes(int n_threads) const { return alignment + panels + thread_bytes() * size_t(n_threads); }
};

void pack_row_int8(const plan & p, int bias, const float * values, int8_t * packed, float * scale, int32_t * offset, float * sum) {
    for (size_t b = 0; b < p.blocks; b++) {
        block_q8_0 block;
        quantize_row_q8_0(values + b * step, &block, step); // rounds as every other product of these types
        std::copy(block.qs, block.qs + step, packed + b * step);
        int32_t total = 0;
        for (const int8_t q : block.qs) {
            total += q;
        }
        scale[b] = ggml_fp16_to_fp32(block.d);
        if (p.kind == form::int8_minima) {
            sum[b] = scale[b] * float(total);
        } else {
            offset[b] = -bias * total;
        }
    }
}

void compute(const ggml_compute_params * params, ggml_tensor * node, const plan & p) {
    const ggml_tensor * weight = node->src[0];
    const weights w = { weight->type, is_interleaved(weight), (const char *) weight->data, weight->nb[1], p.outputs, p.inputs };
    const auto *  values = (const float *) node->src[1]->data;
    auto *        result = (float *) node->data;

    char * work    = (char *) GGML_PAD((uintptr_t) params->wdata, alignment);
    char * panel   = work + p.panels + p.thread_bytes() * size_t(params->ith);
    auto * scratch = (float *) (panel + aligned(p.panel_bytes));

    auto * packed_bf16 = (uint16_t *) work;
    auto * packed_int8 = (int8_t *) work;
    auto * scale       = (float *) (work + p.scale);
    auto * offset      = (int32_t *) (work + p.offset);
    auto * sum         = (float *) (work + p.offset);

    for (int64_t r = params->ith; r < p.rows && p.kind != form::f32; r += params->nth) {
        if (p.kind == form::bf16) {
            pack_row_bf16(values + r * p.inputs, p.inputs, packed_bf16 + size_t(r) * p.stride);
        } else {
            const size_t at = size_t(r) * p.blocks;
            pack_row_int8(p, bias(w.type), values + r * p.inputs, packed_int8 + size_t(r) * p.stride, scale + at, offset + at, sum + at);
        }
    }
    if (params->ith == 0) {
        ggml_threadpool_chunk_set(params->threadpool, params->nth);
    }
    ggml_barrier(params->threadpool);

    // All rows by one panel, and parts of them only if there are fewer panels than threads can share.
    const int64_t n_panels = (p.outputs + p.columns - 1) / p.columns;
    const int64_t wanted   = params->nth == 1 ? 1 : (4 * params->nth + n_panels - 1) / n_panels;
    const int64_t n_apart  = std::max<int64_t>(1, std::min(wanted, p.rows / min_rows_apart));
    const int64_t apart    = (p.rows + n_apart - 1) / n_apart;

    for (int64_t chunk = params->ith; chunk < n_panels * n_apart; chunk = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        const int64_t column = chunk / n_apart * p.columns;
        const int64_t first  = chunk % n_apart * apart;
        const int     n_rows = int(std::min(apart, p.rows - first));
        if (n_rows <= 0) {
            continue;
        }
        for (int64_t input = 0; input < p.inputs; input += p.inputs_apart) {
            const part at = { column, int(std::min<int64_t>(p.columns, p.outputs - column)), input,
                int(std::min<int64_t>(p.inputs_apart, p.inputs - input)) };
            const target to = { result + first * p.outputs + column, size_t(p.outputs), input > 0 };
            const rows_f32 plain = { values + first * p.inputs + input, size_t(p.inputs) };
            if (p.kind == form::f32) {
                pack_panel_avx2(w, at, panel);
                multiply_avx2(plain, n_rows, at, panel, to);
            } else if (p.kind == form::bf16 && pack_panel_bf16(w, at, panel, scratch)) {
                multiply_bf16({ packed_bf16 + size_t(first) * p.stride + input, p.stride }, n_rows, at, panel, to);
            } else if (p.kind == form::bf16) {
                pack_panel_f32(w, at, panel);
                multiply_f32(plain, n_rows, at, panel, to);
            } else {
                (has_int8() ? pack_panel_int8 : pack_panel_avxvnni)(w, at, panel);
                const size_t block = size_t(first) * p.blocks + size_t(input / step);
                const rows_int8 rows = { packed_int8 + size_t(first) * p.stride + input, p.stride, scale + block, offset + block,
                    sum + block, p.blocks };
                (has_int8() ? multiply_int8 : multiply_avxvnni)(rows, n_rows, at, panel, p.kind == form::int8_minima, to);
            }
        }
    }
}

} // namespace

size_t illava_product_work_size(const ggml_tensor * node, int n_tasks) {
    if (is_attention(node)) {
        return illava::attention::work_size(node, n_tasks);
    }
    const form kind = form_of_node(node);
    return kind == form::none ? 0 : plan(node, kind).bytes(n_tasks);
}

bool illava_product_forward(const ggml_compute_params * params, ggml_tensor * node) {
    if (params->use_ref) {
        return false;
    }
    if (is_attention(node)) {
        if (params->wsize < illava::attention::work_size(node, params->nth)) {
            return false;
        }
        illava::attention::compute(params, node);
        return true;
    }
    if (enabled.load(std::memory_order_relaxed) && illava::gelu::takes(node)) {
        illava::gelu::compute(params, node);
        return true;
    }
    const form kind = form_of_node(node);
    if (kind == form::none) {
        return false;
    }
    const plan p(node, kind);
    if (params->wsize < p.bytes(params->nth)) {
        return false; // planned while the kernels were off
    }
    compute(params, node, p);
    return true;
}

void illava_use_own_kernels(bool use) {
    enabled.store(use && (has_bf16() || any_int8() || has_avx2()), std::memory_order_relaxed);
}

const char * illava_kernels(void) {
    if (!enabled.load(std::memory_order_relaxed)) {
        return "stock";
    }
    if (has_bf16()) {
        return has_int8() ? "avx512-bf16, avx512-vnni" : "avx512-bf16";
    }
    return has_int8() ? "avx2, avx512-vnni" : has_avxvnni() ? "avx2, avx-vnni" : "avx2";
}
