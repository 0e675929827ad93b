#include "illava-score-metal.h"

#include "ggml-backend-impl.h"
#include "ggml-impl.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace {

// Chunks of the column pass. They are cut by shape alone, so that the order of additions does not
// depend on the machine; this many fill a large GPU already at the smallest picture worth merging
// (256 tokens: 4 blocks of keys), and their sums are few next to the logits.
constexpr int64_t max_chunks = 32;

int64_t blocks(int64_t n, int64_t size) {
    return (n + size - 1) / size;
}

ggml_metal_kargs_attn_score arguments(const ggml_tensor * op) {
    const ggml_tensor * q    = op->src[0];
    const ggml_tensor * k    = op->src[1];
    const ggml_tensor * mask = op->src[2];

    ggml_metal_kargs_attn_score args = {};
    args.d      = int32_t(q->ne[0]);
    args.n_q    = int32_t(q->ne[1]);
    args.n_head = int32_t(q->ne[2]);
    args.n_kv   = int32_t(k->ne[1]);
    args.group  = int32_t(q->ne[2] / k->ne[2]);
    args.nbq1   = q->nb[1];
    args.nbq2   = q->nb[2];
    args.nbk1   = k->nb[1];
    args.nbk2   = k->nb[2];
    args.mask   = !mask ? ATTN_SCORE_MASK_NONE
        : mask->type == GGML_TYPE_F16 ? ATTN_SCORE_MASK_F16 : ATTN_SCORE_MASK_F32;
    memcpy(&args.scale, op->op_params, sizeof(args.scale));

    args.n_block      = int32_t(blocks(args.n_q, ATTN_SCORE_NQ));
    args.n_item       = args.n_head * args.n_block;
    args.n_item_chunk = int32_t(blocks(args.n_item, max_chunks));
    args.n_chunk      = int32_t(blocks(args.n_item, args.n_item_chunk));
    return args;
}

// Offsets of the parts, in bytes from the node's result.
struct layout {
    size_t rows;
    size_t sums;
    size_t end;
};

layout make_layout(const ggml_metal_kargs_attn_score & args) {
    layout l;
    l.rows = GGML_PAD(sizeof(float) * args.n_kv, 16);
    l.sums = l.rows + GGML_PAD(2 * sizeof(float) * args.n_head * args.n_q, 16);
    l.end  = l.sums + sizeof(float) * args.n_chunk * args.n_kv;
    return l;
}

ggml_metal_pipeline_with_params get_pipeline(ggml_metal_library_t lib, const char * pass, const ggml_tensor * k) {
    char name[64];
    snprintf(name, sizeof(name), "kernel_attn_score_%s%s%s", pass, k ? "_" : "", k ? ggml_type_name(k->type) : "");

    ggml_metal_pipeline_with_params pipeline = ggml_metal_library_get_pipeline(lib, name);
    return pipeline.pipeline ? pipeline : ggml_metal_library_compile_pipeline(lib, name, name, nullptr);
}

ggml_metal_buffer_id buffer_of(const ggml_tensor * tensor, size_t offset = 0) {
    ggml_backend_buffer_t buffer = tensor->view_src ? tensor->view_src->buffer : tensor->buffer;

    ggml_metal_buffer_id id = ggml_metal_buffer_get_id((ggml_metal_buffer_t) buffer->context, tensor);
    id.offs += offset;
    return id;
}

} // namespace

bool illava_metal_score_supported(const ggml_tensor * op, bool has_simdgroup_mm, bool has_simdgroup_reduction) {
    if (!has_simdgroup_mm || !has_simdgroup_reduction) {
        return false;
    }
    // The kernels count blocks and items in 32 bits.
    if (op->src[0]->ne[1] * op->src[0]->ne[2] > INT32_MAX || op->src[1]->ne[1] > INT32_MAX - ATTN_SCORE_NK) {
        return false;
    }
    switch (op->src[1]->type) {
        case GGML_TYPE_F32:
        case GGML_TYPE_F16:
        case GGML_TYPE_BF16:
        case GGML_TYPE_Q8_0:
        case GGML_TYPE_Q4_0:
            return true;
        default:
            return false;
    }
}

size_t illava_metal_score_scratch(const ggml_tensor * op) {
    return make_layout(arguments(op)).end - ggml_nbytes(op);
}

void illava_metal_score_encode(
        ggml_metal_library_t lib,
        ggml_metal_encoder_t enc,
        const ggml_tensor  * op,
        void (* barrier)(void * context),
        void               * context) {
    const ggml_tensor * q = op->src[0];
    const ggml_tensor * k = op->src[1];

    ggml_metal_kargs_attn_score args = arguments(op);
    const layout                part = make_layout(args);
    const ggml_metal_buffer_id  mask = buffer_of(op->src[2] ? op->src[2] : q); // something has to be bound

    const size_t operands = sizeof(float) * (ATTN_SCORE_NQ + ATTN_SCORE_NK) * ATTN_SCORE_ND;
    const size_t logits   = sizeof(float) * ATTN_SCORE_NQ * (ATTN_SCORE_NK + 4);
    const size_t memory   = GGML_PAD(std::max(operands, logits), 16);
    const int    n_thread = 32 * ATTN_SCORE_NSG;
    const int    n_column = int(blocks(args.n_kv, ATTN_SCORE_NK));

    ggml_metal_encoder_set_pipeline(enc, get_pipeline(lib, "rows", k));
    ggml_metal_encoder_set_bytes (enc, &args, sizeof(args), 0);
    ggml_metal_encoder_set_buffer(enc, buffer_of(q), 1);
    ggml_metal_encoder_set_buffer(enc, buffer_of(k), 2);
    ggml_metal_encoder_set_buffer(enc, mask, 3);
    ggml_metal_encoder_set_buffer(enc, buffer_of(op, part.rows), 4);
    ggml_metal_encoder_set_threadgroup_memory_size(enc, memory, 0);
    ggml_metal_encoder_dispatch_threadgroups(enc, args.n_block, args.n_head, 1, n_thread, 1, 1);

    barrier(context);

    ggml_metal_encoder_set_pipeline(enc, get_pipeline(lib, "columns", k));
    ggml_metal_encoder_set_bytes (enc, &args, sizeof(args), 0);
    ggml_metal_encoder_set_buffer(enc, buffer_of(q), 1);
    ggml_metal_encoder_set_buffer(enc, buffer_of(k), 2);
    ggml_metal_encoder_set_buffer(enc, mask, 3);
    ggml_metal_encoder_set_buffer(enc, buffer_of(op, part.rows), 4);
    ggml_metal_encoder_set_buffer(enc, buffer_of(op, part.sums), 5);
    ggml_metal_encoder_set_threadgroup_memory_size(enc, memory, 0);
    ggml_metal_encoder_dispatch_threadgroups(enc, n_column, args.n_chunk, 1, n_thread, 1, 1);

    barrier(context);

    ggml_metal_encoder_set_pipeline(enc, get_pipeline(lib, "sum", nullptr));
    ggml_metal_encoder_set_bytes (enc, &args, sizeof(args), 0);
    ggml_metal_encoder_set_buffer(enc, buffer_of(op, part.sums), 1);
    ggml_metal_encoder_set_buffer(enc, buffer_of(op), 2);
    ggml_metal_encoder_dispatch_threadgroups(enc, int(blocks(args.n_kv, n_thread)), 1, 1, n_thread, 1, 1);
}
