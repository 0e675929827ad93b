#include "illava-norm.h"

#include "illava-product-avx2.h"
#include "illava-product-tile.h"

#include <cmath>
#include <cstring>

namespace illava::norm {

using namespace illava::product;

namespace {

// The operand of `node` that is not `other`.
const ggml_tensor * beside(const ggml_tensor * node, const ggml_tensor * other) {
    return node->src[0] == other ? node->src[1] : node->src[0];
}

// A weight or bias of a row.
bool is_vector(const ggml_tensor * t, int64_t width) {
    return t->type == GGML_TYPE_F32 && t->ne[0] == width && ggml_nrows(t) == 1 && ggml_is_contiguous(t);
}

#ifdef ILLAVA_AVX512

// Sums go lane by lane, so that a row's result depends on its values alone.
__attribute__((target(ILLAVA_TARGET_BASE))) void row_avx512(const float * x, float * y, const float * weight, const float * bias, int64_t n, float eps) {
    __m512 sum = _mm512_setzero_ps();
    for (int64_t i = 0; i < n; i += 16) {
        sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(first_lanes(n - i), x + i));
    }
    const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / float(n));
    __m512 squares = _mm512_setzero_ps();
    for (int64_t i = 0; i < n; i += 16) {
        const __mmask16 lanes = first_lanes(n - i);
        const __m512 d = _mm512_maskz_sub_ps(lanes, _mm512_maskz_loadu_ps(lanes, x + i), mean);
        squares = _mm512_fmadd_ps(d, d, squares);
    }
    const __m512 scale = _mm512_set1_ps(1.0f / std::sqrt(_mm512_reduce_add_ps(squares) / float(n) + eps));
    for (int64_t i = 0; i < n; i += 16) {
        const __mmask16 lanes = first_lanes(n - i);
        const __m512 d = _mm512_mul_ps(_mm512_sub_ps(_mm512_maskz_loadu_ps(lanes, x + i), mean), scale);
        _mm512_mask_storeu_ps(y + i, lanes, _mm512_fmadd_ps(d, _mm512_maskz_loadu_ps(lanes, weight + i), _mm512_maskz_loadu_ps(lanes, bias + i)));
    }
}

ILLAVA_INLINE_AVX2 float sum_of(__m256 x) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

__attribute__((target(ILLAVA_TARGET_AVX2))) void row_avx2(const float * x, float * y, const float * weight, const float * bias, int64_t n, float eps) {
    __m256 sum = _mm256_setzero_ps();
    for (int64_t i = 0; i < n; i += 8) {
        sum = _mm256_add_ps(sum, _mm256_maskload_ps(x + i, first_lanes_avx2(n - i)));
    }
    const __m256 mean = _mm256_set1_ps(sum_of(sum) / float(n));
    __m256 squares = _mm256_setzero_ps();
    for (int64_t i = 0; i < n; i += 8) {
        const __m256i lanes = first_lanes_avx2(n - i);
        const __m256 d = _mm256_and_ps(_mm256_castsi256_ps(lanes), _mm256_sub_ps(_mm256_maskload_ps(x + i, lanes), mean));
        squares = _mm256_fmadd_ps(d, d, squares);
    }
    const __m256 scale = _mm256_set1_ps(1.0f / std::sqrt(sum_of(squares) / float(n) + eps));
    for (int64_t i = 0; i < n; i += 8) {
        const __m256i lanes = first_lanes_avx2(n - i);
        const __m256 d = _mm256_mul_ps(_mm256_sub_ps(_mm256_maskload_ps(x + i, lanes), mean), scale);
        _mm256_maskstore_ps(y + i, lanes, _mm256_fmadd_ps(d, _mm256_maskload_ps(weight + i, lanes), _mm256_maskload_ps(bias + i, lanes)));
    }
}

const auto row = [] { return has_avx512() ? row_avx512 : row_avx2; };

#else

void row_portable(const float *, float *, const float *, const float *, int64_t, float) {}
const auto row = [] { return row_portable; };

#endif

} // namespace

bool takes(const ggml_tensor * norm, const ggml_tensor * mul, const ggml_tensor * add) {
    const ggml_tensor * x = norm->src[0];
    return has_avx2() && x->type == GGML_TYPE_F32 && ggml_is_contiguous(x) && ggml_is_contiguous(norm) && ggml_is_contiguous(mul)
        && ggml_is_contiguous(add) && is_vector(beside(mul, norm), x->ne[0]) && is_vector(beside(add, mul), x->ne[0]);
}

void compute(const ggml_compute_params * params, const ggml_tensor * norm, const ggml_tensor * mul, ggml_tensor * add) {
    static const auto normalise = row();
    const ggml_tensor * x = norm->src[0];
    float eps;
    memcpy(&eps, norm->op_params, sizeof(eps));
    const auto *  weight = (const float *) beside(mul, norm)->data;
    const auto *  bias   = (const float *) beside(add, mul)->data;
    const int64_t width  = x->ne[0];
    for (int64_t r = params->ith; r < ggml_nrows(x); r += params->nth) {
        normalise((const float *) x->data + r * width, (float *) add->data + r * width, weight, bias, width, eps);
    }
}

} // namespace illava::norm
