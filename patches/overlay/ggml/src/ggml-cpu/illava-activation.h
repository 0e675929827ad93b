#pragma once

// Activations of an encoder's MLP in f32, one vector at a time, by AVX-512 and by AVX2.

namespace illava::activation {

enum class kind { none, gelu, gelu_quick };

} // namespace illava::activation

#include "illava-product-avx2.h"

#ifdef ILLAVA_AVX512

namespace illava::activation {

// Factors of exp(r) behind the first, 1/720, for |r| <= ln(2) / 2: off by 1e-7 of the value.
constexpr float factors[] = { 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f };

// ln(2) in two parts, so that a whole number times the first is exact.
constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;

// exp(x) for |x| <= 200: a power of two, and a polynomial for what is left.
ILLAVA_INLINE __m512 exponential(__m512 x) {
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(ln2_high), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(ln2_low), r);
    __m512 sum = _mm512_set1_ps(1.0f / 720);
    ILLAVA_UNROLL
    for (int i = 0; i < 6; i++) {
        sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(factors[i]));
    }
    return _mm512_scalef_ps(sum, n);
}

// The same between exp(-87) and exp(88), which bound it.
ILLAVA_INLINE_AVX2 __m256 exponential(__m256 x) {
    // a NaN is the second operand, and stays
    x = _mm256_max_ps(_mm256_set1_ps(-87.0f), _mm256_min_ps(_mm256_set1_ps(88.0f), x));
    const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(ln2_high), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(ln2_low), r);
    __m256 sum = _mm256_set1_ps(1.0f / 720);
    ILLAVA_UNROLL
    for (int i = 0; i < 6; i++) {
        sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(factors[i]));
    }
    const __m256i power = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(sum, _mm256_castsi256_ps(power));
}

// gelu: x / (1 + exp(-2 u)), which is x/2 (1 + tanh(u)), u = sqrt(2/pi) (x + 0.044715 x^3). Beyond 10 as ggml: 0 and x.
// gelu_quick: x / (1 + exp(-1.702 x)).
template <kind K>
ILLAVA_INLINE __m512 activate(__m512 x) {
    if (K == kind::none) {
        return x;
    }
    const __m512 one = _mm512_set1_ps(1.0f);
    if (K == kind::gelu_quick) {
        const __m512 power = _mm512_max_ps(_mm512_set1_ps(-200), _mm512_min_ps(_mm512_set1_ps(200), _mm512_mul_ps(x, _mm512_set1_ps(-1.702f))));
        return _mm512_div_ps(x, _mm512_add_ps(exponential(power), one));
    }
    const __m512 inner = _mm512_fmadd_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(0.044715f), one);
    const __m512 twice = _mm512_mul_ps(_mm512_mul_ps(x, inner), _mm512_set1_ps(-2 * 0.79788456f));
    const __m512 y = _mm512_div_ps(x, _mm512_add_ps(exponential(twice), one));
    const __mmask16 low = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-10.0f), _CMP_LE_OQ);
    const __mmask16 high = _mm512_cmp_ps_mask(x, _mm512_set1_ps(10.0f), _CMP_GE_OQ);
    return _mm512_mask_mov_ps(_mm512_mask_mov_ps(y, high, x), low, _mm512_setzero_ps());
}

template <kind K>
ILLAVA_INLINE_AVX2 __m256 activate(__m256 x) {
    if (K == kind::none) {
        return x;
    }
    const __m256 one = _mm256_set1_ps(1.0f);
    if (K == kind::gelu_quick) { // 0 where the bound of the power would be felt
        const __m256 y = _mm256_div_ps(x, _mm256_add_ps(exponential(_mm256_mul_ps(x, _mm256_set1_ps(-1.702f))), one));
        return _mm256_andnot_ps(_mm256_cmp_ps(x, _mm256_set1_ps(-50.0f), _CMP_LE_OQ), y);
    }
    const __m256 inner = _mm256_fmadd_ps(_mm256_mul_ps(x, x), _mm256_set1_ps(0.044715f), one);
    const __m256 twice = _mm256_mul_ps(_mm256_mul_ps(x, inner), _mm256_set1_ps(-2 * 0.79788456f));
    const __m256 y = _mm256_div_ps(x, _mm256_add_ps(exponential(twice), one));
    const __m256 low = _mm256_cmp_ps(x, _mm256_set1_ps(-10.0f), _CMP_LE_OQ), high = _mm256_cmp_ps(x, _mm256_set1_ps(10.0f), _CMP_GE_OQ);
    return _mm256_andnot_ps(low, _mm256_blendv_ps(y, x, high));
}

} // namespace illava::activation

#endif
