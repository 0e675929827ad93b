#include "illava-epilogue.h"

#include "illava-product-tile.h"

#include <algorithm>

namespace illava::product {

#ifdef ILLAVA_AVX512

using activation::kind;

namespace {

// Sixteen values or fewer.
template <kind K>
ILLAVA_INLINE __m512 finished(const epilogue & e, __m512 x, size_t column, size_t at, __mmask16 lanes) {
    x = e.bias ? _mm512_add_ps(x, _mm512_maskz_loadu_ps(lanes, e.bias + column)) : x;
    x = activation::activate<K>(x);
    return e.residual ? _mm512_add_ps(x, _mm512_maskz_loadu_ps(lanes, e.residual + at)) : x;
}

template <kind K>
__attribute__((target(ILLAVA_TARGET_BASE))) void finish_avx512(const epilogue & e, const block & b) {
    for (int r = 0; r < b.rows; r++) {
        const float * x  = b.values + size_t(r) * b.stride;
        const size_t  at = size_t(b.row + r) * b.stride + size_t(b.column);
        int c = 0;
        for (; c + 16 <= b.columns; c += 16) {
            _mm512_storeu_ps(e.out + at + c, finished<K>(e, _mm512_loadu_ps(x + c), size_t(b.column + c), at + size_t(c), 0xffff));
        }
        if (c < b.columns) {
            const __mmask16 lanes = first_lanes(b.columns - c);
            const __m512 y = finished<K>(e, _mm512_maskz_loadu_ps(lanes, x + c), size_t(b.column + c), at + size_t(c), lanes);
            _mm512_mask_storeu_ps(e.out + at + c, lanes, y);
        }
    }
}

// Eight values or fewer, those of `lanes`. A masked access is slow, and is spared whole vectors.
template <kind K, bool whole>
ILLAVA_INLINE_AVX2 void finish_eight(const epilogue & e, const float * x, size_t column, size_t at, __m256i lanes) {
    const auto load = [&](const float * from) __attribute__((always_inline, target(ILLAVA_TARGET_AVX2))) {
        return whole ? _mm256_loadu_ps(from) : _mm256_maskload_ps(from, lanes);
    };
    __m256 y = load(x);
    y = e.bias ? _mm256_add_ps(y, load(e.bias + column)) : y;
    y = activation::activate<K>(y);
    y = e.residual ? _mm256_add_ps(y, load(e.residual + at)) : y;
    whole ? _mm256_storeu_ps(e.out + at, y) : _mm256_maskstore_ps(e.out + at, lanes, y);
}

template <kind K>
__attribute__((target(ILLAVA_TARGET_AVX2))) void finish_avx2(const epilogue & e, const block & b) {
    const __m256i lanes = first_lanes_avx2(b.columns % 8);
    for (int r = 0; r < b.rows; r++) {
        const float * x  = b.values + size_t(r) * b.stride;
        const size_t  at = size_t(b.row + r) * b.stride + size_t(b.column);
        int c = 0;
        for (; c + 8 <= b.columns; c += 8) {
            finish_eight<K, true>(e, x + c, size_t(b.column + c), at + size_t(c), lanes);
        }
        if (c < b.columns) {
            finish_eight<K, false>(e, x + c, size_t(b.column + c), at + size_t(c), lanes);
        }
    }
}

template <kind K> void finish_with(const epilogue & e, const block & b) {
    static const bool wide = has_avx512();
    wide ? finish_avx512<K>(e, b) : finish_avx2<K>(e, b);
}

} // namespace

void finish(const epilogue & e, const block & b) {
    switch (e.function) {
        case kind::none:       finish_with<kind::none>(e, b); break;
        case kind::gelu:       finish_with<kind::gelu>(e, b); break;
        case kind::gelu_quick: finish_with<kind::gelu_quick>(e, b); break;
    }
}

bool has_epilogue() {
    return has_avx2();
}

#else

void finish(const epilogue &, const block &) {}
bool has_epilogue() { return false; }

#endif

} // namespace illava::product
