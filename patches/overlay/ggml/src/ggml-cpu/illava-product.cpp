#include "illava-product.h"

#include "illava-attention.h"
#include "illava-gelu.h"
#include "illava-product-amx.h"
#include "illava-product-chain.h"
#include "illava-product-form.h"

#include "ggml-cpu-impl.h"
#include "ggml-cpu.h"
#include "illava-kernels.h"
#include "quants.h"

#include <algorithm>
#include <atomic>
#include <utility>

using namespace illava::product;

namespace {

std::atomic<bool> enabled{ false };

// A panel of so many inputs stays in the second-level cache beside the rows it meets.
constexpr int max_inputs = 1280, max_inputs_avx2 = 640;

// Rows that one thread multiplies by a panel before another may take the rest, at least.
constexpr int64_t min_rows_apart = 64;

constexpr size_t alignment = 64;

size_t aligned(size_t bytes) {
    return GGML_PAD(bytes, alignment);
}

bool is_attention(const ggml_tensor * node, int n_threads) {
    return is_on() && illava::attention::takes(node, n_threads);
}

// How products of the same rows are cut, and what their work buffer holds.
struct plan {
    form    kind;
    int64_t inputs, rows;
    int     inputs_apart; // of a panel
    int     columns;      // of a panel
    size_t  stride;       // elements of a packed row
    size_t  blocks;       // of a packed row in 8 bits
    size_t  scale, offset, panels, panel_bytes, scratch_bytes; // places and sizes in the work buffer

    plan(const ggml_tensor * node, form kind) : kind(kind) {
        inputs = node->src[0]->ne[0];
        rows   = ggml_nrows(node->src[1]);

        const int64_t unit  = std::max<int64_t>(step, ggml_blck_size(node->src[0]->type));
        const int64_t most  = kind == form::f32 ? max_inputs_avx2 : max_inputs;
        const int64_t parts = (inputs + most - 1) / most;
        inputs_apart = int((inputs + parts * unit - 1) / (parts * unit) * unit);

        // One more line: rows whose distance is a power of two would meet in a few sets of the cache.
        const int64_t padded = GGML_PAD(inputs, step);
        blocks  = size_t(padded / step);
        columns = kind == form::bf16 ? columns_float : kind == form::f32 ? columns_avx2 : kind == form::int16 ? columns_int16 : columns_int8;
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
        } else if (kind == form::int16) {
            stride        = size_t(padded) + alignment / 2;
            scale         = aligned(size_t(rows) * stride * sizeof(int16_t));
            offset        = 0;
            panels        = scale + aligned(size_t(rows) * blocks * sizeof(float));
            panel_bytes   = panel_bytes_int16(inputs_apart);
            scratch_bytes = size_t(8) * inputs_apart * sizeof(float);
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

// Place of the packed rows in the work buffer.
struct packed {
    uint16_t * bf16;
    int16_t *  int16;
    int8_t *   int8;
    float *    scale;
    int32_t *  offset;
    float *    sum;

    packed(const plan & p, char * work)
        : bf16((uint16_t *) work), int16((int16_t *) work), int8((int8_t *) work), scale((float *) (work + p.scale)), offset((int32_t *) (work + p.offset)),
          sum((float *) (work + p.offset)) {}

    void pack(const plan & p, int bias, const float * values, int64_t row) const {
        const size_t at = size_t(row) * p.blocks;
        if (p.kind == form::bf16) {
            pack_row_bf16(values, p.inputs, bf16 + size_t(row) * p.stride);
        } else if (p.kind == form::int16) {
            pack_row_int16(values, p.inputs, int16 + size_t(row) * p.stride, scale + at);
        } else if (p.kind != form::f32) {
            pack_row_int8(p, bias, values, int8 + size_t(row) * p.stride, scale + at, offset + at, sum + at);
        }
    }
};

// A part of a weight matrix as it lies in memory, to be asked for before it is unpacked.
class ahead {
public:
    ahead() = default;

    ahead(const weights & w, const part & p) {
        const int together = w.interleaved ? 8 : 1; // rows that lie in one another
        rows_   = (p.columns + together - 1) / together;
        stride_ = size_t(together) * w.row_bytes;
        begin_  = w.data + size_t(p.column / together) * stride_ + size_t(together) * ggml_row_size(w.type, p.input);
        lines_  = int((size_t(together) * ggml_row_size(w.type, p.inputs) + line - 1) / line);
        if (p.inputs == w.inputs) { // whole rows follow one another
            lines_ = int((size_t(rows_) * stride_ + line - 1) / line);
            rows_  = 1;
        }
    }

    // Asks for part number i of n, but for its first lines as far as they lie in a row: `to` has those.
    void fetch(int64_t i, int64_t n, target * to) const {
        const int64_t all = int64_t(rows_) * lines_, end = all * (i + 1) / n;
        int64_t at = all * i / n;
        if (to && at < end) {
            to->next  = address(at);
            to->lines = int(std::min<int64_t>(end - at, lines_ - at % lines_));
            at += to->lines;
        }
        for (; at < end; at++) {
#if defined(__GNUC__)
            __builtin_prefetch(address(at), 0, 2); // into the second-level cache
#endif
        }
    }

private:
    static constexpr size_t line = 64;

    const char * address(int64_t at) const { return begin_ + size_t(at / lines_) * stride_ + size_t(at % lines_) * line; }

    const char * begin_  = nullptr;
    size_t       stride_ = 0;
    int          rows_ = 0, lines_ = 1;
};

// Asks for a block of a matrix of results, [rows][stride].
void fetch_block(const float * values, size_t stride, int rows, int columns) {
#if defined(__GNUC__)
    for (int r = 0; values && r < rows; r++) {
        for (int c = 0; c < columns + 15; c += 16) { // a line more: blocks need not begin with one
            __builtin_prefetch(values + size_t(r) * stride + c, 1, 3);
        }
    }
#else
    GGML_UNUSED(values); GGML_UNUSED(stride); GGML_UNUSED(rows); GGML_UNUSED(columns);
#endif
}

weights weights_of(const chain & c) {
    const ggml_tensor * weight = c.product->src[0];
    return { weight->type, is_interleaved(weight), (const char *) weight->data, weight->nb[1], weight->ne[1], weight->ne[0] };
}

part part_of(const plan & p, const weights & w, int64_t column, int64_t input) {
    return { column, int(std::min<int64_t>(p.columns, w.rows - column)), input, int(std::min<int64_t>(p.inputs_apart, p.inputs - input)) };
}

// `n_rows` rows from `first` on by one panel's columns. `panel` is a thread's own place for it; `next` are the weights that
// the thread will most likely need afterwards.
void multiply(const plan & p, const chain & c, const packed & rows, int64_t column, int64_t first, int n_rows, const ahead & next, char * panel) {
    const weights w = weights_of(c);
    const auto * values  = (const float *) c.product->src[1]->data;
    auto *       result  = (float *) c.product->data + column;
    auto *       scratch = (float *) (panel + aligned(p.panel_bytes));

    for (int64_t input = 0; input < p.inputs; input += p.inputs_apart) {
        const part at   = part_of(p, w, column, input);
        const bool last = input + p.inputs_apart >= p.inputs;
        bool plain = p.kind == form::f32;
        if (plain) {
            pack_panel_avx2(w, at, panel);
        } else if (p.kind == form::int16) {
            pack_panel_int16(w, at, panel, scratch);
        } else if (p.kind != form::bf16) {
            own_int8().pack(w, at, panel);
        } else if (!pack_panel_bf16(w, at, panel, scratch)) {
            plain = true;
            pack_panel_f32(w, at, panel);
        }
        // The weights of the next panel come from memory while this one is multiplied.
        const ahead following = last ? next : ahead(w, part_of(p, w, column, input + p.inputs_apart));
        const int together = plain ? rows_at_once(form::f32) : rows_at_once(p.kind);
        for (int done = 0; done < n_rows; done += together) {
            const int     n   = std::min(together, n_rows - done);
            const int64_t row = first + done;
            target to = { result + row * w.rows, size_t(w.rows), input > 0 };
            following.fetch(done / together, (n_rows + together - 1) / together, p.kind == form::bf16 ? &to : nullptr);
            fetch_block(to.values, to.stride, n, at.columns);
            if (last && c.after.residual) {
                fetch_block(c.after.residual + row * w.rows + column, to.stride, n, at.columns);
            }
            if (plain) {
                (p.kind == form::f32 ? multiply_avx2 : multiply_f32)({ values + row * p.inputs + input, size_t(p.inputs) }, n, at, panel, to);
            } else if (p.kind == form::bf16) {
                multiply_bf16({ rows.bf16 + size_t(row) * p.stride + input, p.stride }, n, at, panel, to);
            } else {
                const size_t begin = size_t(row) * p.stride + size_t(input), block = size_t(row) * p.blocks + size_t(input / step);
                if (p.kind == form::int16) {
                    own_int16()({ rows.int16 + begin, p.stride, rows.scale + block, p.blocks }, n, at, panel, to);
                } else {
                    own_int8().multiply({ rows.int8 + begin, p.stride, rows.scale + block, rows.offset + block, rows.sum + block, p.blocks }, n,
                        at, panel, w.type, to);
                }
            }
            if (last && c.after.out) {
                finish(c.after, { to.values, to.stride, row, column, n, at.columns });
            }
        }
    }
}

// Products of the same rows, with what follows each.
void compute(const ggml_compute_params * params, const chain * chains, int n_chains, const plan & p) {
    const ggml_tensor * rows = chains[0].product->src[1];
    char * work  = (char *) GGML_PAD((uintptr_t) params->wdata, alignment);
    char * panel = work + p.panels + p.thread_bytes() * size_t(params->ith);
    const packed packed_rows(p, work);
    for (int64_t r = params->ith; r < p.rows; r += params->nth) {
        packed_rows.pack(p, bias(chains[0].product->src[0]->type), (const float *) rows->data + r * p.inputs, r);
    }
    if (params->ith == 0) {
        ggml_threadpool_chunk_set(params->threadpool, params->nth);
    }
    ggml_barrier(params->threadpool);

    const auto panels_of = [&](int i) { return (chains[i].product->ne[0] + p.columns - 1) / p.columns; };
    int64_t n_panels = 0;
    for (int i = 0; i < n_chains; i++) {
        n_panels += panels_of(i);
    }
    // All rows by one panel, and parts of them only if there are fewer panels than threads can share.
    const int64_t wanted  = params->nth == 1 ? 1 : (4 * params->nth + n_panels - 1) / n_panels;
    const int64_t n_apart = std::max<int64_t>(1, std::min(wanted, p.rows / min_rows_apart));
    const int64_t apart   = (p.rows + n_apart - 1) / n_apart;

    // Panel number i of all the products: its product and its first column.
    const auto panel_at = [&](int64_t i) {
        int of = 0;
        while (i >= panels_of(of)) {
            i -= panels_of(of++);
        }
        return std::pair<const chain &, int64_t>(chains[of], i * p.columns);
    };
    const int64_t n_chunks = n_panels * n_apart;
    for (int64_t chunk = params->ith; chunk < n_chunks; chunk = ggml_threadpool_chunk_add(params->threadpool, 1)) {
        const auto [c, column] = panel_at(chunk / n_apart);
        const int64_t first  = chunk % n_apart * apart;
        const int     n_rows = int(std::min(apart, p.rows - first));
        if (n_rows <= 0) {
            continue;
        }
        ahead next;
        if (chunk + params->nth < n_chunks) { // the others take those between
            const auto [later, its_column] = panel_at((chunk + params->nth) / n_apart);
            const weights w = weights_of(later);
            next = ahead(w, part_of(p, w, its_column, 0));
        }
        multiply(p, c, packed_rows, column, first, n_rows, next, panel);
    }
}

} // namespace

size_t illava_product_work_size(const ggml_tensor * node, int n_tasks) {
    if (is_attention(node, n_tasks)) {
        return illava::attention::work_size(node, n_tasks);
    }
    const form kind = form_of_node(node);
    return kind == form::none ? 0 : plan(node, kind).bytes(n_tasks);
}

bool illava_product_forward(const ggml_compute_params * params, ggml_tensor * node) {
    if (params->use_ref) {
        return false;
    }
    if (is_attention(node, params->nth)) {
        if (params->wsize < illava::attention::work_size(node, params->nth)) {
            return false;
        }
        illava::attention::compute(params, node);
        return true;
    }
    if (is_on() && illava::gelu::form(node) != illava::activation::kind::none) {
        illava::gelu::compute(params, node);
        return true;
    }
    const chain alone = { node, {} };
    return run(params, &alone, 1);
}

namespace illava::product {

bool is_on() {
    return enabled.load(std::memory_order_relaxed);
}

bool computes(const ggml_tensor * node) {
    return form_of_node(node) != form::none;
}

bool run(const ggml_compute_params * params, const chain * chains, int n) {
    const form kind = form_of_node(chains[0].product);
    if (kind == form::none) {
        return false;
    }
    const plan p(chains[0].product, kind);
    if (params->wsize < p.bytes(params->nth)) {
        return false; // planned while the kernels were off
    }
    compute(params, chains, n, p);
    return true;
}

} // namespace illava::product

void illava_use_own_kernels(bool use) {
    enabled.store(use && has_any(), std::memory_order_relaxed);
}

const char * illava_kernels(void) {
    if (!is_on()) {
        return "stock";
    }
    if (has_bf16()) {
        return has_amx() ? "amx-bf16, avx512-vnni" : has_int8() ? "avx512-bf16, avx512-vnni" : "avx512-bf16";
    }
    if (has_int8()) {
        return has_int16() ? "avx2-int16, avx512-vnni" : "avx2, avx512-vnni";
    }
    return !has_int16() ? "avx2" : has_avxvnni() ? "avx2-int16, avx-vnni" : "avx2-int16";
}
