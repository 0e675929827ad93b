#include "illava-score.cuh"

#include "cp-async.cuh"
#include "mma.cuh"

#include "illava-score-run.cuh"

#include <cstring>

// False for what score_load does not read.
static bool score_type_of(const ggml_type type, score_type & out) {
    switch (type) {
        case GGML_TYPE_F32:  out = score_type::f32;  return true;
        case GGML_TYPE_F16:  out = score_type::f16;  return true;
        case GGML_TYPE_BF16: out = score_type::bf16; return true;
        case GGML_TYPE_Q8_0: out = score_type::q8_0; return true;
        case GGML_TYPE_Q4_0: out = score_type::q4_0; return true;
        default:             return false;
    }
}

static bool score_shape_of(const ggml_tensor * dst, score_shape & out) {
    const ggml_tensor * q = dst->src[0];
    const ggml_tensor * k = dst->src[1];
    out = { q->ne[0], q->ne[1], q->ne[2], k->ne[1], k->ne[2], score_type::f32 };
    return score_type_of(k->type, out.k_type);
}

bool ggml_cuda_attn_score_supported(const int device, const ggml_tensor * dst) {
#if defined(GGML_USE_HIP) || defined(GGML_USE_MUSA)
    GGML_UNUSED(device);
    GGML_UNUSED(dst);
    return false; // written for NVIDIA's warps and fragments
#else
    const ggml_tensor * q    = dst->src[0];
    const ggml_tensor * k    = dst->src[1];
    const ggml_tensor * mask = dst->src[2];

    score_shape s;
    if (!score_shape_of(dst, s) || ggml_cuda_info().devices[device].cc < 610) {
        return false;
    }
    if (q->type != GGML_TYPE_F32 || !ggml_is_contiguous_rows(q) || !ggml_is_contiguous_rows(k) || q->ne[3] != 1 || k->ne[3] != 1) {
        return false;
    }
    if (mask && ((mask->type != GGML_TYPE_F32 && mask->type != GGML_TYPE_F16) || !ggml_is_contiguous(mask))) {
        return false;
    }
    // the kernels count the values of one head in 32 bits, and heads in one dimension of a grid
    const int64_t d_most = s.d + 128;
    return (std::max(s.n_q, s.n_kv) + score_fixed_rows) * d_most < INT32_MAX && s.n_head <= 65535;
#endif // defined(GGML_USE_HIP) || defined(GGML_USE_MUSA)
}

namespace {

struct score_launcher {
    cudaStream_t stream;

    template <typename... parameters, typename... arguments>
    void operator()(void (*kernel)(parameters...), const dim3 grid, const dim3 block, arguments... values) {
        kernel<<<grid, block, 0, stream>>>(values...);
        CUDA_CHECK(cudaGetLastError());
    }
};

} // namespace

void ggml_cuda_op_attn_score(ggml_backend_cuda_context & ctx, ggml_tensor * dst) {
    const ggml_tensor * q    = dst->src[0];
    const ggml_tensor * k    = dst->src[1];
    const ggml_tensor * mask = dst->src[2];

    score_shape s;
    GGML_ASSERT(score_shape_of(dst, s));
    const score_plan p = score_make_plan(s, turing_mma_available(ggml_cuda_info().devices[ctx.device].cc));

    float scale;
    memcpy(&scale, dst->op_params, sizeof(scale));

    ggml_cuda_pool_alloc<char> packed_q(ctx.pool(), p.q_bytes);
    ggml_cuda_pool_alloc<char> packed_k(ctx.pool(), p.k_bytes);
    ggml_cuda_pool_alloc<char> lse     (ctx.pool(), p.lse_bytes);
    ggml_cuda_pool_alloc<char> partial (ctx.pool(), p.partial_bytes);

    score_launcher launch = { ctx.stream() };
    score_run(launch, p,
        { (const char *) q->data, q->nb[1], q->nb[2] },
        { (const char *) k->data, k->nb[1], k->nb[2] },
        mask ? mask->data : nullptr, mask && mask->type == GGML_TYPE_F16, scale,
        { packed_q.get(), packed_k.get(), (float *) lse.get(), (float *) partial.get() },
        (float *) dst->data);
}
