// The attention-received score: the fused node, and the same sum out of stock operations.

#include "ggml-illava.h"
#include "ggml-backend.h"
#include "ggml-impl.h"

#include <algorithm>

namespace {

struct score_shape {
    int64_t d;
    int64_t n_q;
    int64_t n_head;
    int64_t n_kv;
    int64_t n_head_kv;
};

score_shape check_operands(const ggml_tensor * q, const ggml_tensor * k, const ggml_tensor * mask) {
    GGML_ASSERT(q->type == GGML_TYPE_F32);
    GGML_ASSERT(q->ne[0] == k->ne[0]);
    GGML_ASSERT(q->ne[2] % k->ne[2] == 0);
    GGML_ASSERT(q->ne[3] == 1 && k->ne[3] == 1);
    GGML_ASSERT(ggml_is_contiguous_rows(q));
    GGML_ASSERT(ggml_is_contiguous_rows(k));
    if (mask) {
        GGML_ASSERT(mask->type == GGML_TYPE_F32 || mask->type == GGML_TYPE_F16);
        GGML_ASSERT(mask->ne[0] == k->ne[1]);
        GGML_ASSERT(mask->ne[1] >= q->ne[1]);
        GGML_ASSERT(mask->ne[2] == 1 && mask->ne[3] == 1);
        GGML_ASSERT(ggml_is_contiguous(mask));
    }
    return { q->ne[0], q->ne[1], q->ne[2], k->ne[1], k->ne[2] };
}

// One piece of the softmax map may have this many floats (16 MiB): large enough to keep a GPU busy,
// small next to the weights of any model that has a map worth cutting.
constexpr int64_t max_piece   = int64_t(1) << 22;
constexpr int64_t max_queries = 256;
constexpr int64_t min_queries = 32;

struct piece_shape {
    int64_t n_q;
    int64_t n_head;
};

// Some queries of all heads, if they fit. Vulkan binds the operands of a matrix product at the view's own
// address, which has to be a multiple of up to 256 bytes. 32 rows of heads are such a multiple, a few heads
// of 72 elements are not. Otherwise some heads, eight key heads at a time if they fit, for the same reason.
// ggml_mul_mat broadcasts key heads over groups of query heads: they are whole groups or an equal part of one
// group.
piece_shape choose_piece(const score_shape & s) {
    const int64_t queries = max_piece / (s.n_kv * s.n_head);
    if (queries >= min_queries) {
        return { std::min({ s.n_q, max_queries, queries / min_queries * min_queries }), s.n_head };
    }

    const int64_t group = s.n_head / s.n_head_kv;
    const int64_t n_q   = std::min({ s.n_q, min_queries, std::max<int64_t>(1, max_piece / s.n_kv) });
    const int64_t limit = std::max<int64_t>(1, max_piece / (n_q * s.n_kv));
    for (int64_t step : { 8 * group, group }) {
        if (limit >= step) {
            return { n_q, std::min(limit / step * step, s.n_head) };
        }
    }
    int64_t n_head = limit;
    while (group % n_head != 0) {
        n_head--;
    }
    return { n_q, n_head };
}

// [n, m] -> [n], the sum over m. Halves are added first: ggml_sum_rows wants the other direction, and
// turning the whole map around costs more than making it.
ggml_tensor * sum_columns(ggml_context * ctx, ggml_tensor * x) {
    const int64_t n = x->ne[0];
    for (int fold = 0; fold < 4 && x->ne[1] % 2 == 0; fold++) {
        const int64_t half = x->ne[1] / 2;
        x = ggml_add(ctx,
                ggml_view_2d(ctx, x, n, half, x->nb[1], 0),
                ggml_view_2d(ctx, x, n, half, x->nb[1], half * x->nb[1]));
    }
    return ggml_reshape_1d(ctx, ggml_sum_rows(ctx, ggml_cont(ctx, ggml_transpose(ctx, x))), n);
}

} // namespace

ggml_tensor * ggml_attn_score(
        ggml_context * ctx,
        ggml_tensor  * q,
        ggml_tensor  * k,
        ggml_tensor  * mask,
        float          scale) {
    const score_shape s = check_operands(q, k, mask);

    ggml_tensor * result = ggml_new_tensor_1d(ctx, GGML_TYPE_F32, s.n_kv);
    ggml_set_op_params(result, &scale, sizeof(scale));

    result->op     = GGML_OP_ATTN_SCORE;
    result->src[0] = q;
    result->src[1] = k;
    result->src[2] = mask;
    return result;
}

ggml_tensor * ggml_attn_score_composed(
        ggml_context * ctx,
        ggml_tensor  * q,
        ggml_tensor  * k,
        ggml_tensor  * mask,
        float          scale) {
    const score_shape s     = check_operands(q, k, mask);
    const piece_shape piece = choose_piece(s);

    // Not every backend multiplies quantised rows that lie apart, as those of one head of a KV cache do.
    if (ggml_is_quantized(k->type)) {
        k = ggml_cast(ctx, k, GGML_TYPE_F32);
    }
    const int64_t     group = s.n_head / s.n_head_kv;

    // A row whose keys are all masked has no softmax (0/0). A sink, a logit far below any real one,
    // turns it into zeros and is lost in rounding everywhere else.
    ggml_tensor * sinks = nullptr;
    if (mask) {
        sinks = ggml_scale_bias(ctx, ggml_arange(ctx, 0.0f, float(piece.n_head), 1.0f), 0.0f, -1e30f);
    }

    ggml_tensor * total = nullptr;
    for (int64_t h0 = 0; h0 < s.n_head; h0 += piece.n_head) {
        const int64_t n_head    = std::min(piece.n_head, s.n_head - h0);
        const int64_t n_head_kv = std::max<int64_t>(1, n_head / group);

        ggml_tensor * k_part = ggml_view_3d(ctx, k, s.d, s.n_kv, n_head_kv,
                k->nb[1], k->nb[2], h0 / group * k->nb[2]);

        for (int64_t j0 = 0; j0 < s.n_q; j0 += piece.n_q) {
            const int64_t n_q = std::min(piece.n_q, s.n_q - j0);

            ggml_tensor * q_part = ggml_view_3d(ctx, q, s.d, n_q, n_head,
                    q->nb[1], q->nb[2], h0 * q->nb[2] + j0 * q->nb[1]);
            ggml_tensor * mask_part = mask
                ? ggml_view_2d(ctx, mask, s.n_kv, n_q, mask->nb[1], j0 * mask->nb[1])
                : nullptr;

            ggml_tensor * logits = ggml_mul_mat(ctx, k_part, q_part);
            ggml_prec_set_acc(logits, GGML_PREC_F32);

            ggml_tensor * map = ggml_soft_max_ext(ctx, logits, mask_part, scale, 0.0f);
            if (sinks) {
                ggml_soft_max_add_sinks(map, n_head == piece.n_head ? sinks : ggml_view_1d(ctx, sinks, n_head, 0));
            }

            ggml_tensor * sum = sum_columns(ctx, ggml_reshape_2d(ctx, map, s.n_kv, n_q * n_head));
            total = total ? ggml_add(ctx, total, sum) : sum;
        }
    }
    return total;
}

// Behind the parameters that ggml gives an attention.
static constexpr int bf16_parameter = 8;

static bool holds_bf16(const ggml_tensor * weight) {
    if (weight->type == GGML_TYPE_BF16) {
        return true;
    }
    if (weight->type != GGML_TYPE_F16 || !weight->buffer || !ggml_backend_buffer_is_host(weight->buffer) || !weight->data) {
        return false;
    }
    // One in eight of other values is such by chance: some tell.
    const auto *  values = (const ggml_fp16_t *) weight->data;
    const int64_t n      = std::min<int64_t>(1024, ggml_nelements(weight));
    return std::all_of(values, values + n, [](ggml_fp16_t half) {
        const float value = ggml_fp16_to_fp32(half);
        return ggml_bf16_to_fp32(ggml_fp32_to_bf16(value)) == value;
    });
}

void illava_attention_like(ggml_tensor * attention, const ggml_tensor * weight) {
    if (attention->op == GGML_OP_CONCAT) {
        illava_attention_like(attention->src[0], weight);
        illava_attention_like(attention->src[1], weight);
    } else if (attention->op == GGML_OP_FLASH_ATTN_EXT && weight) {
        ggml_set_op_params_i32(attention, bf16_parameter, holds_bf16(weight));
    }
}

bool illava_attention_in_bf16(const ggml_tensor * attention) {
    return ggml_get_op_params_i32(attention, bf16_parameter) != 0;
}
