#pragma once

// Products in 14 bits: weights and activations as whole numbers up to 8191, with a scale for every 32 inputs. An instruction
// of 16 bits adds two products in 32 bits, which hold 32 x 8191 x 8191: sums of 32 inputs are exact. It makes twice as many
// products as one in f32. Both sides are rounded to 1/16382 of the largest of their 32 values.

#include "illava-product-avx2.h"

#ifdef ILLAVA_AVX512

namespace illava::product {

constexpr int largest_int16 = 8191;

// 32 inputs of sixteen columns, two inputs of each column in a word. A panel is [vectors][blocks] of them.
struct alignas(64) block_int16 {
    int32_t pairs[step / 2][16];
    float   scale[16];
};

// R rows by sixteen columns. All of them have sums; the first `columns` are stored. `Pairs` adds pairs of products.
template <class Pairs, int R>
__attribute__((target(ILLAVA_TARGET_AVX2))) void tile_int16(const rows_int16 & rows, int row, const block_int16 * panel, int blocks, int columns, const target & to, float * out) {
    const float * scales = rows.scale + size_t(row) * rows.blocks;
    const int16_t * values[R];
    for (int r = 0; r < R; r++) {
        values[r] = rows.values + size_t(row + r) * rows.stride;
    }

    // The registers hold the sums of a block.
    __m256 sum[R][2];
    load_sums(sum, out, to.stride, columns, to.add);
    for (int b = 0; b < blocks; b++, panel++) {
        __m256i exact[R][2];
        ILLAVA_UNROLL
        for (int k = 0; k < step / 2; k++) {
            const auto *  both = (const __m256i *) panel->pairs[k];
            const __m256i left = _mm256_load_si256(both), right = _mm256_load_si256(both + 1);
            ILLAVA_UNROLL
            for (int r = 0; r < R; r++) {
                int32_t two;
                memcpy(&two, values[r] + 2 * k, sizeof(two));
                const __m256i x = _mm256_set1_epi32(two);
                if (k == 0) {
                    exact[r][0] = _mm256_madd_epi16(left, x);
                    exact[r][1] = _mm256_madd_epi16(right, x);
                } else {
                    Pairs::add(exact[r][0], left, x);
                    Pairs::add(exact[r][1], right, x);
                }
            }
        }
        for (auto & at : values) {
            at += step;
        }
        ILLAVA_UNROLL
        for (int v = 0; v < 2; v++) {
            const __m256 scale = _mm256_load_ps(panel->scale + 8 * v);
            ILLAVA_UNROLL
            for (int r = 0; r < R; r++) {
                const __m256 both = _mm256_mul_ps(scale, _mm256_broadcast_ss(scales + r * rows.blocks + b));
                sum[r][v] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(exact[r][v]), both, sum[r][v]);
            }
        }
    }
    store_sums(sum, out, to.stride, columns);
}

template <class Pairs>
void multiply_int16_by(const rows_int16 & rows, int n_rows, const part & p, const void * panel, const target & to) {
    constexpr int tile_rows = 6;
    const int blocks = (p.inputs + step - 1) / step;
    for (int r = 0; r < n_rows; r += tile_rows) {
        const auto * by = (const block_int16 *) panel;
        for (int c = 0; c < p.columns; c += 16, by += blocks) {
            float * out = to.values + size_t(r) * to.stride + c;
            by_rows<tile_rows>(n_rows - r, [&](auto n) { tile_int16<Pairs, n>(rows, r, by, blocks, p.columns - c, to, out); });
        }
    }
}

} // namespace illava::product

#endif
