// Products in f32 by AVX2 and FMA, for processors without AVX-512: weights in F16 and BF16 by activations as they are.
//
// A panel holds the weights of sixteen columns at a time, input by input: [vectors][inputs][16].

#include "illava-product-tile.h"

#include "illava-product-avx2.h"

#include <algorithm>

namespace illava::product {

#ifdef ILLAVA_AVX512

#define TARGET __attribute__((target(ILLAVA_TARGET_AVX2)))

namespace {

constexpr int tile_rows = 6;

// R rows by sixteen columns. All of them have sums; the first `columns` are stored.
template <int R>
TARGET void tile(const float * rows, size_t stride, const float * panel, int inputs, int columns, const target & to, float * out) {
    __m256 sum[R][2];
    load_sums(sum, out, to.stride, columns, to.add);
    for (int k = 0; k < inputs; k++) {
        const __m256 left = _mm256_load_ps(panel + size_t(k) * 16), right = _mm256_load_ps(panel + size_t(k) * 16 + 8);
        ILLAVA_UNROLL
        for (int r = 0; r < R; r++) {
            const __m256 row = _mm256_broadcast_ss(rows + r * stride + k);
            sum[r][0] = _mm256_fmadd_ps(row, left, sum[r][0]);
            sum[r][1] = _mm256_fmadd_ps(row, right, sum[r][1]);
        }
    }
    store_sums(sum, out, to.stride, columns);
}

} // namespace

bool has_avx2() {
    static const bool has = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    return has;
}

TARGET void pack_panel_avx2(const weights & w, const part & p, void * panel) {
    const int vectors = (p.columns + 15) / 16;
    auto *    out     = (float *) panel;
    for (int v = 0; v < vectors; v++) {
        for (int half = 0; half < 16; half += 8) {
            const char * rows[8];
            for (int i = 0; i < 8; i++) {
                // Lanes beyond the last column repeat it; their sums are not stored.
                const int column = std::min(16 * v + half + i, p.columns - 1);
                rows[i] = w.data + size_t(p.column + column) * w.row_bytes + ggml_row_size(w.type, p.input);
            }
            for (int k = 0; k < p.inputs; k += 8) {
                const int n = std::min(8, p.inputs - k);
                __m256 r[8];
                for (int i = 0; i < 8; i++) {
                    r[i] = load_halves(rows[i] + 2 * k, n, w.type);
                }
                transpose(r);
                for (int i = 0; i < n; i++) {
                    _mm256_store_ps(out + (size_t(v) * p.inputs + k + i) * 16 + half, r[i]);
                }
            }
        }
    }
}

TARGET void multiply_avx2(const rows_f32 & rows, int n_rows, const part & p, const void * panel, const target & to) {
    const int vectors = (p.columns + 15) / 16;
    for (int r = 0; r < n_rows; r += tile_rows) {
        const float * from = rows.values + size_t(r) * rows.stride;
        for (int v = 0; v < vectors; v++) {
            const float * by  = (const float *) panel + size_t(v) * p.inputs * 16;
            float *       out = to.values + size_t(r) * to.stride + 16 * v;
            const int columns = std::min(16, p.columns - 16 * v);
            by_rows<tile_rows>(n_rows - r, [&](auto n) { tile<n>(from, rows.stride, by, p.inputs, columns, to, out); });
        }
    }
}

#else

bool has_avx2() { return false; }
void pack_panel_avx2(const weights &, const part &, void *) {}
void multiply_avx2(const rows_f32 &, int, const part &, const void *, const target &) {}

#endif

} // namespace illava::product
