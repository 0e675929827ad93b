#include "illava-gelu.h"

#include "illava-product-avx512.h"

#include <algorithm>

namespace illava::gelu {

#ifdef ILLAVA_AVX512

#define TARGET __attribute__((target(ILLAVA_TARGET_BASE)))

namespace {

// exp(x): a power of two, and a polynomial of degree 6 for what is left, at most ln(2) / 2; off by 1e-7 of the value.
TARGET inline __m512 exponential(__m512 x) {
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    // ln(2) in two parts, so that n times the first is exact.
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 sum = _mm512_set1_ps(1.0f / 720);
    for (float factor : { 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f }) {
        sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(factor));
    }
    return _mm512_scalef_ps(sum, n);
}

// x / (1 + exp(-2 u)), which is x/2 (1 + tanh(u)), u = sqrt(2/pi) (x + 0.044715 x^3). Beyond 10 as ggml: 0 and x.
TARGET inline __m512 activate(__m512 x) {
    const __m512 inner = _mm512_fmadd_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(0.044715f), _mm512_set1_ps(1.0f));
    const __m512 twice = _mm512_mul_ps(_mm512_mul_ps(x, inner), _mm512_set1_ps(-2 * 0.79788456f));
    const __m512 y = _mm512_div_ps(x, _mm512_add_ps(exponential(twice), _mm512_set1_ps(1.0f)));
    const __mmask16 low = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-10.0f), _CMP_LE_OQ);
    const __mmask16 high = _mm512_cmp_ps_mask(x, _mm512_set1_ps(10.0f), _CMP_GE_OQ);
    return _mm512_mask_mov_ps(_mm512_mask_mov_ps(y, high, x), low, _mm512_setzero_ps());
}

TARGET void activate_all(const float * from, float * to, int64_t n) {
    for (int64_t i = 0; i < n; i += 16) {
        const __mmask16 lanes = __mmask16(n - i >= 16 ? 0xffff : (1u << (n - i)) - 1);
        _mm512_mask_storeu_ps(to + i, lanes, activate(_mm512_maskz_loadu_ps(lanes, from + i)));
    }
}

} // namespace

bool takes(const ggml_tensor * node) {
    return node->op == GGML_OP_UNARY && ggml_get_unary_op(node) == GGML_UNARY_OP_GELU && product::has_avx512()
        && node->type == GGML_TYPE_F32 && node->src[0]->type == GGML_TYPE_F32 && ggml_is_contiguous(node) && ggml_is_contiguous(node->src[0]);
}

#else

namespace {

void activate_all(const float *, float *, int64_t) {}

} // namespace

bool takes(const ggml_tensor *) {
    return false;
}

#endif

void compute(const ggml_compute_params * params, ggml_tensor * node) {
    // Shares of whole lines of the cache.
    const int64_t n = ggml_nelements(node), apart = GGML_PAD((n + params->nth - 1) / params->nth, 16);
    const int64_t first = std::min(n, apart * params->ith);
    activate_all((const float *) node->src[0]->data + first, (float *) node->data + first, std::min(apart, n - first));
}

} // namespace illava::gelu
