#include "illava-product-int16.h"

#include <algorithm>
#include <cstdlib>

namespace illava::product {

#ifdef ILLAVA_AVX512

#define TARGET __attribute__((target(ILLAVA_TARGET_AVX2)))

namespace {

// Written out: left to a compiler, sums are copied to and fro, and weights are read again for every row.
struct pairs_avx2 {
    static ILLAVA_INLINE_AVX2 void add(__m256i & sum, __m256i a, __m256i b) {
        __m256i both;
        asm("vpmaddwd %2, %3, %1\n\tvpaddd %1, %0, %0" : "+x"(sum), "=&x"(both) : "x"(a), "x"(b));
    }
};

// Sizes of f32 compare as whole numbers, and what is not a number is the largest.
ILLAVA_INLINE_AVX2 __m256i larger(__m256i most, __m256 x) {
    return _mm256_max_epi32(most, _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7fffffff)));
}

// Factor that takes values up to `most` to whole numbers. It is zero for values too small for it.
ILLAVA_INLINE_AVX2 __m256 factor_for(__m256 most) {
    const __m256 tiny = _mm256_cmp_ps(most, _mm256_set1_ps(1e-34f), _CMP_LT_OQ);
    return _mm256_andnot_ps(tiny, _mm256_div_ps(_mm256_set1_ps(float(largest_int16)), most));
}

ILLAVA_INLINE_AVX2 __m256 scale_for(__m256 most) {
    return _mm256_mul_ps(most, _mm256_set1_ps(1.0f / largest_int16));
}

// Sixteen values in their order.
ILLAVA_INLINE_AVX2 __m256i whole(__m256 low, __m256 high, __m256 factor) {
    const __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(low, factor)), b = _mm256_cvtps_epi32(_mm256_mul_ps(high, factor));
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
}

// 32 values of a column.
using column = __m256[4];

// Eight columns of a block, the second eight with `half` 8.
TARGET void pack_columns(const column * columns, block_int16 & block, int half) {
    __m256 most[8], words[2][8];
    for (int i = 0; i < 8; i++) {
        __m256i size = _mm256_setzero_si256();
        for (int j = 0; j < 4; j++) {
            size = larger(size, columns[i][j]);
        }
        most[i] = _mm256_castsi256_ps(size);
    }
    transpose(most);
    __m256i largest = _mm256_castps_si256(most[0]);
    for (int i = 1; i < 8; i++) {
        largest = larger(largest, most[i]);
    }
    float factor[8];
    _mm256_storeu_ps(factor, factor_for(_mm256_castsi256_ps(largest)));
    _mm256_store_ps(block.scale + half, scale_for(_mm256_castsi256_ps(largest)));
    for (int j = 0; j < 2; j++) {
        for (int i = 0; i < 8; i++) {
            words[j][i] = _mm256_castsi256_ps(whole(columns[i][2 * j], columns[i][2 * j + 1], _mm256_set1_ps(factor[i])));
        }
        transpose(words[j]);
        for (int k = 0; k < 8; k++) {
            _mm256_store_ps((float *) block.pairs[8 * j + k] + half, words[j][k]);
        }
    }
}

} // namespace

bool has_int16() {
    // The processors named here multiply half as many pairs at once as others, no more than in f32.
    static const bool has = has_avx2() && !std::getenv("ILLAVA_NO_INT16") && !__builtin_cpu_is("haswell") && !__builtin_cpu_is("broadwell")
        && !__builtin_cpu_is("bdver4") && !__builtin_cpu_is("znver1") && !__builtin_cpu_is("znver2");
    return has;
}

TARGET void pack_row_int16(const float * values, int64_t n, int16_t * packed, float * scale) {
    for (int64_t k = 0; k < n; k += step, packed += step, scale++) {
        float last[step] = {};
        const float * from = values + k;
        if (n - k < step) {
            std::copy(values + k, values + n, last);
            from = last;
        }
        column x;
        __m256i size = _mm256_setzero_si256();
        for (int j = 0; j < 4; j++) {
            x[j] = _mm256_loadu_ps(from + 8 * j);
            size = larger(size, x[j]);
        }
        size = _mm256_max_epi32(size, _mm256_permute2x128_si256(size, size, 1));
        size = _mm256_max_epi32(size, _mm256_shuffle_epi32(size, 0x4e));
        size = _mm256_max_epi32(size, _mm256_shuffle_epi32(size, 0xb1));
        const __m256 most = _mm256_castsi256_ps(size), factor = factor_for(most);
        *scale = _mm256_cvtss_f32(scale_for(most));
        _mm256_storeu_si256((__m256i *) packed, whole(x[0], x[1], factor));
        _mm256_storeu_si256((__m256i *) packed + 1, whole(x[2], x[3], factor));
    }
}

TARGET void pack_panel_int16(const weights & w, const part & p, void * panel, float * scratch) {
    const bool   direct = w.type == GGML_TYPE_F16 || w.type == GGML_TYPE_BF16;
    const int    blocks = (p.inputs + step - 1) / step;
    auto *       out    = (block_int16 *) panel;
    const size_t padded = size_t(blocks) * step;

    for (int first = 0; first < (p.columns + 15) / 16 * 16; first += 8) {
        const char * rows[8];
        for (int i = 0; i < 8; i++) {
            // Lanes beyond the last column repeat it; their sums are not stored.
            rows[i] = w.data + size_t(p.column + std::min(first + i, p.columns - 1)) * w.row_bytes + ggml_row_size(w.type, p.input);
            if (!direct) { // types of blocks, which are whole steps
                ggml_get_type_traits(w.type)->to_float(rows[i], scratch + size_t(i) * padded, p.inputs);
            }
        }
        for (int b = 0; b < blocks; b++) {
            column columns[8];
            for (int i = 0; i < 8; i++) {
                for (int j = 0; j < 4; j++) {
                    const int k = step * b + 8 * j;
                    columns[i][j] = direct ? load_halves(rows[i] + 2 * k, std::min(8, p.inputs - k), w.type) : _mm256_loadu_ps(scratch + size_t(i) * padded + k);
                }
            }
            pack_columns(columns, out[size_t(first / 16) * size_t(blocks) + size_t(b)], first % 16);
        }
    }
}

void multiply_int16(const rows_int16 & rows, int n_rows, const part & p, const void * panel, const target & to) {
    multiply_int16_by<pairs_avx2>(rows, n_rows, p, panel, to);
}

#else

bool has_int16() { return false; }
void pack_row_int16(const float *, int64_t, int16_t *, float *) {}
void pack_panel_int16(const weights &, const part &, void *, float *) {}
void multiply_int16(const rows_int16 &, int, const part &, const void *, const target &) {}

#endif

} // namespace illava::product
