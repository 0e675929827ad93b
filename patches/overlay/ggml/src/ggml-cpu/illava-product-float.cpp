// Products in bf16 by VDPBF16PS, whose lanes add two products of neighbouring inputs to an f32 sum, and in f32. Processors
// with AMX multiply the same panels by illava-product-amx.h.
//
// A panel holds, for each word of a row (two inputs in bf16, one in f32), the words of its columns beside one another:
// [words][vectors][16].

#include "illava-product-tile.h"

#include "illava-product-amx.h"
#include "illava-product-avx512.h"

#include <algorithm>

namespace illava::product {

#ifdef ILLAVA_AVX512

#define TARGET __attribute__((target(ILLAVA_TARGET_BASE ",avx512bf16")))

namespace {

constexpr int tile_rows = 6;

// Words between two lines that are asked for: 36 lines in 1,152 inputs in bf16, which is what six rows have to ask for when
// there are 384 rows.
constexpr int words_a_line = 16;

// Sixteen vectors of sixteen 32-bit values: rows become columns.
TARGET void transpose(__m512i r[16]) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i]     = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i]     = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i]      = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4]  = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8]  = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        r[i]      = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 8]  = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        r[i + 4]  = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

// Up to 32 values in bf16; the lanes beyond n are zero.
TARGET __m512i load_f32(const float * x, int n) {
    const __mmask16 low = __mmask16(n >= 16 ? 0xffff : (1u << n) - 1), high = __mmask16(n <= 16 ? 0 : n >= 32 ? 0xffff : (1u << (n - 16)) - 1);
    return (__m512i) _mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(high, x + 16), _mm512_maskz_loadu_ps(low, x));
}

// 32 halves as f32.
struct halves {
    __m512 low, high;
};

TARGET halves load_f16(const char * x, int n) {
    const __m512i both = _mm512_maskz_loadu_epi16(n >= 32 ? ~0u : (1u << n) - 1, x);
    return { _mm512_cvtph_ps(_mm512_castsi512_si256(both)), _mm512_cvtph_ps(_mm512_extracti64x4_epi64(both, 1)) };
}

// Whether bf16 holds these values as they are: those of a checkpoint in bf16 are such in a file in f16.
TARGET bool is_bf16(const halves & x) {
    const __m512i bits = _mm512_or_si512(_mm512_castps_si512(x.low), _mm512_castps_si512(x.high));
    return _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0xffff)) == 0;
}

TARGET __m512i to_bf16(const halves & x) {
    return (__m512i) _mm512_cvtne2ps_pbh(x.high, x.low);
}

TARGET __m512i load_bf16(const char * x, int n) {
    return _mm512_maskz_loadu_epi16(n >= 32 ? ~0u : (1u << n) - 1, x);
}

enum class arithmetic { f32, bf16 };

// R rows by V vectors of columns. `rows` and `stride` are in words.
template <int R, int V, arithmetic A>
TARGET void tile(const uint32_t * rows, size_t stride, const uint32_t * panel, int words, __mmask16 last, const target & to, float * out) {
    __m512 sum[R][V];
    load_sums(sum, out, to.stride, last, to.add);
    for (int first = 0, line = 0; first < words; first += words_a_line, line++) {
        if (line < to.lines) {
            _mm_prefetch(to.next + 64 * line, _MM_HINT_T1);
        }
        const int end = std::min(first + words_a_line, words);
        for (int k = first; k < end; k++) {
            __m512i weights[V];
            ILLAVA_UNROLL
            for (int v = 0; v < V; v++) {
                weights[v] = _mm512_load_si512(panel + (size_t(k) * V + v) * 16);
            }
            ILLAVA_UNROLL
            for (int r = 0; r < R; r++) {
                const __m512i row = _mm512_set1_epi32(int(rows[r * stride + k]));
                ILLAVA_UNROLL
                for (int v = 0; v < V; v++) {
                    sum[r][v] = A == arithmetic::bf16 ? _mm512_dpbf16_ps(sum[r][v], (__m512bh) row, (__m512bh) weights[v])
                        : _mm512_fmadd_ps(_mm512_castsi512_ps(row), _mm512_castsi512_ps(weights[v]), sum[r][v]);
                }
            }
        }
    }
    store_sums(sum, out, to.stride, last);
}

template <int V, arithmetic A>
TARGET void multiply(const uint32_t * rows, size_t stride, int n_rows, int columns, int words, const uint32_t * panel, const target & to) {
    const __mmask16 last = last_lanes(columns);
    for (int r = 0; r < n_rows; r += tile_rows) {
        const uint32_t * from = rows + size_t(r) * stride;
        float *          out  = to.values + size_t(r) * to.stride;
        by_rows<tile_rows>(n_rows - r, [&](auto n) { tile<n, V, A>(from, stride, panel, words, last, to, out); });
    }
}

template <arithmetic A>
void multiply_any(const void * rows, size_t stride, int n_rows, int columns, int words, const void * panel, const target & to) {
    const auto * from = (const uint32_t *) rows;
    const auto * by   = (const uint32_t *) panel;
    switch ((columns + 15) / 16) {
        case 1:  multiply<1, A>(from, stride, n_rows, columns, words, by, to); break;
        case 2:  multiply<2, A>(from, stride, n_rows, columns, words, by, to); break;
        case 3:  multiply<3, A>(from, stride, n_rows, columns, words, by, to); break;
        default: multiply<4, A>(from, stride, n_rows, columns, words, by, to); break;
    }
}

// Lanes beyond the last column repeat it; their sums are not stored.
const char * row_of(const weights & w, const part & p, int column) {
    return w.data + size_t(p.column + std::min(column, p.columns - 1)) * w.row_bytes + ggml_row_size(w.type, p.input);
}

} // namespace

bool has_bf16() {
    static const bool has = has_avx512() && __builtin_cpu_supports("avx512bf16");
    return has;
}

TARGET void pack_row_bf16(const float * values, int64_t n, uint16_t * packed) {
    for (int64_t k = 0; k < n; k += step) {
        _mm512_storeu_si512(packed + k, load_f32(values + k, int(std::min<int64_t>(step, n - k))));
    }
}

TARGET bool pack_panel_bf16(const weights & w, const part & p, void * panel, float * scratch, bool rounded) {
    const int  vectors = (p.columns + 15) / 16;
    const bool direct  = w.type == GGML_TYPE_F16 || w.type == GGML_TYPE_BF16;
    const auto traits  = ggml_get_type_traits(w.type);
    auto *     out     = (uint32_t *) panel;

    for (int v = 0; v < vectors; v++) {
        const char * rows[16];
        for (int i = 0; i < 16; i++) {
            rows[i] = row_of(w, p, 16 * v + i);
            if (!direct) {
                traits->to_float(rows[i], scratch + size_t(i) * p.inputs, p.inputs);
            }
        }
        for (int k = 0; k < p.inputs; k += step) {
            const int n = std::min(step, p.inputs - k);
            __m512i r[16];
            for (int i = 0; i < 16; i++) {
                if (!direct) {
                    r[i] = load_f32(scratch + size_t(i) * p.inputs + k, n);
                } else if (w.type == GGML_TYPE_BF16) {
                    r[i] = load_bf16(rows[i] + 2 * k, n);
                } else {
                    const halves values = load_f16(rows[i] + 2 * k, n);
                    if (!rounded && !is_bf16(values)) {
                        return false;
                    }
                    r[i] = to_bf16(values);
                }
            }
            transpose(r);
            for (int i = 0; i < 16; i++) {
                _mm512_store_si512(out + (size_t(k / 2 + i) * vectors + v) * 16, r[i]);
            }
        }
    }
    return true;
}

TARGET void pack_panel_f32(const weights & w, const part & p, void * panel) {
    const int vectors = (p.columns + 15) / 16;
    auto *    out     = (uint32_t *) panel;
    for (int v = 0; v < vectors; v++) {
        for (int k = 0; k < p.inputs; k += step) {
            __m512i low[16], high[16];
            for (int i = 0; i < 16; i++) {
                const halves values = load_f16(row_of(w, p, 16 * v + i) + 2 * k, std::min(step, p.inputs - k));
                low[i]  = _mm512_castps_si512(values.low);
                high[i] = _mm512_castps_si512(values.high);
            }
            transpose(low);
            transpose(high);
            for (int i = 0; i < 16; i++) {
                _mm512_store_si512(out + (size_t(k + i) * vectors + v) * 16, low[i]);
                _mm512_store_si512(out + (size_t(k + 16 + i) * vectors + v) * 16, high[i]);
            }
        }
    }
}

void multiply_bf16(const rows_bf16 & rows, int n_rows, const part & p, const void * panel, const target & to) {
    if (p.inputs % step == 0 && has_amx()) {
        return multiply_amx(rows, n_rows, p, panel, to);
    }
    multiply_any<arithmetic::bf16>(rows.values, rows.stride / 2, n_rows, p.columns, (p.inputs + 1) / 2, panel, to);
}

void multiply_f32(const rows_f32 & rows, int n_rows, const part & p, const void * panel, const target & to) {
    multiply_any<arithmetic::f32>(rows.values, rows.stride, n_rows, p.columns, p.inputs, panel, to);
}

#else

bool has_bf16() { return false; }
void pack_row_bf16(const float *, int64_t, uint16_t *) {}
bool pack_panel_bf16(const weights &, const part &, void *, float *, bool) { return true; }
void pack_panel_f32(const weights &, const part &, void *) {}
void multiply_bf16(const rows_bf16 &, int, const part &, const void *, const target &) {}
void multiply_f32(const rows_f32 &, int, const part &, const void *, const target &) {}

#endif

} // namespace illava::product
