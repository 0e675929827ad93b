#include "llama-kv-thinning.h"

#include "llama-hparams.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

std::vector<int32_t> llama_choose_thinned(const std::vector<float> & scores, size_t r, size_t n_latest) {
    const size_t n = scores.size();

    // a broken model still gives an order
    const auto key = [&](int32_t i) { return std::isnan(scores[i]) ? -INFINITY : scores[i]; };

    std::vector<int32_t> order(n);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
        const bool late_a = size_t(a) + n_latest >= n;
        const bool late_b = size_t(b) + n_latest >= n;
        return late_a != late_b ? late_b : key(a) < key(b);
    });
    order.resize(r);
    return order;
}

// The rows of one layer's keys or values that lie in some cells.
class cell_rows {
public:
    // n: numbers of a row
    cell_rows(ggml_tensor * tensor, bool transposed, uint32_t n, uint32_t stream, const std::vector<uint32_t> & cells) :
        tensor(tensor), n(n), first(*std::min_element(cells.begin(), cells.end())),
        n_cells(*std::max_element(cells.begin(), cells.end()) - first + 1),
        size(transposed ? ggml_element_size(tensor) : ggml_row_size(tensor->type, n)),
        n_lines(transposed ? n : 1),
        line_begin(stream*tensor->nb[2] + first*(transposed ? size : tensor->nb[1])),
        line_step(transposed ? tensor->ne[1]*size : 0),
        line_size(n_cells*(transposed ? size : tensor->nb[1])),
        cell_step(transposed ? size : tensor->nb[1]),
        bytes(n_lines*line_size) {
        for (size_t j = 0; j < n_lines; ++j) {
            ggml_backend_tensor_get(tensor, bytes.data() + j*line_size, line_begin + j*line_step, line_size);
        }
    }

    void get(uint32_t cell, float * row) const {
        std::vector<uint8_t> stored(n_lines*size);
        for (size_t j = 0; j < n_lines; ++j) {
            std::memcpy(stored.data() + j*size, bytes.data() + at(cell, j), size);
        }
        if (tensor->type == GGML_TYPE_F32) {
            std::memcpy(row, stored.data(), n*sizeof(float));
        } else {
            ggml_get_type_traits(tensor->type)->to_float(stored.data(), row, n);
        }
    }

    void set(uint32_t cell, const float * row) {
        std::vector<uint8_t> stored(n_lines*size);
        if (tensor->type == GGML_TYPE_F32) {
            std::memcpy(stored.data(), row, n*sizeof(float));
        } else {
            ggml_get_type_traits(tensor->type)->from_float_ref(row, stored.data(), n);
        }
        for (size_t j = 0; j < n_lines; ++j) {
            std::memcpy(bytes.data() + at(cell, j), stored.data() + j*size, size);
        }
    }

    // Puts the rows back. Nothing computes meanwhile: the cells between them keep what was read.
    void write() const {
        for (size_t j = 0; j < n_lines; ++j) {
            ggml_backend_tensor_set(tensor, bytes.data() + j*line_size, line_begin + j*line_step, line_size);
        }
    }

private:
    size_t at(uint32_t cell, size_t line) const { return line*line_size + (cell - first)*cell_step; }

    ggml_tensor * const tensor;
    const uint32_t n, first, n_cells;
    // bytes of a cell's part of a line: its whole row, or one number where each channel has a line of its own
    const size_t size;
    const size_t n_lines, line_begin, line_step, line_size, cell_step;
    std::vector<uint8_t> bytes;
};

static std::vector<float> rows_of(const cell_rows & rows, const std::vector<uint32_t> & cells, uint32_t n) {
    std::vector<float> res(cells.size()*n);
    for (size_t i = 0; i < cells.size(); ++i) {
        rows.get(cells[i], res.data() + i*n);
    }
    return res;
}

// Unit vectors of one head's part [begin, begin + d) of rows [n_rows, width]; zero for a row that is.
static std::vector<double> directions(const std::vector<float> & rows, size_t width, size_t begin, size_t d) {
    std::vector<double> res(rows.size()/width*d);
    for (size_t i = 0; i < rows.size()/width; ++i) {
        double square = 0.0;
        for (size_t c = 0; c < d; ++c) {
            const double x = rows[i*width + begin + c];
            square += x*x;
        }
        for (size_t c = 0; c < d && square > 0.0; ++c) {
            res[i*d + c] = rows[i*width + begin + c]/std::sqrt(square);
        }
    }
    return res;
}

struct nearest {
    std::vector<size_t> to;     // [gone]
    std::vector<double> cosine; // [gone]
};

static nearest find_nearest(const std::vector<double> & gone, const std::vector<double> & stay, size_t d) {
    const size_t n_gone = gone.size()/d;
    const size_t n_stay = stay.size()/d;

    // turned around, so that the sums of all cells grow side by side
    std::vector<double> turned(stay.size());
    for (size_t j = 0; j < n_stay; ++j) {
        for (size_t c = 0; c < d; ++c) {
            turned[c*n_stay + j] = stay[j*d + c];
        }
    }
    nearest res;
    std::vector<double> sums(n_stay);
    for (size_t i = 0; i < n_gone; ++i) {
        std::fill(sums.begin(), sums.end(), 0.0);
        for (size_t c = 0; c < d; ++c) {
            const double x = gone[i*d + c];
            for (size_t j = 0; j < n_stay; ++j) {
                sums[j] += x*turned[c*n_stay + j];
            }
        }
        const size_t best = std::max_element(sums.begin(), sums.end()) - sums.begin();
        res.to.push_back(best);
        res.cosine.push_back(sums[best]);
    }
    return res;
}

// Merges one head's part [begin, begin + d) of the rows that go into that of the rows that stay, [rows, width] both.
static void merge_head(
        const std::vector<float> & gone, std::vector<float> & stay, size_t width, size_t begin, size_t d,
        const nearest & found, enum illava_thinning how) {
    const size_t n_stay = stay.size()/width;

    std::vector<double> sums(n_stay*d);
    std::vector<double> members(n_stay, 1.0);
    for (size_t j = 0; j < n_stay; ++j) {
        for (size_t c = 0; c < d; ++c) {
            sums[j*d + c] = stay[j*width + begin + c];
        }
    }
    for (size_t i = 0; i < found.to.size(); ++i) {
        const size_t j = found.to[i];
        members[j] += 1.0;
        for (size_t c = 0; c < d; ++c) {
            const double p    = gone[i*width + begin + c];
            const double into = stay[j*width + begin + c];
            switch (how) {
                case ILLAVA_THINNING_PIVOTAL:  sums[j*d + c] += 0.5*(p + into);     break;
                case ILLAVA_THINNING_WEIGHTED: sums[j*d + c] += found.cosine[i]*p;  break;
                default:                       sums[j*d + c] += p;                  break;
            }
        }
    }
    for (size_t j = 0; j < n_stay; ++j) {
        for (size_t c = 0; c < d && members[j] > 1.0; ++c) {
            stay[j*width + begin + c] = float(sums[j*d + c]/members[j]);
        }
    }
}

static std::vector<uint32_t> joined(const llama_thinned_cells & cells) {
    std::vector<uint32_t> res = cells.gone;
    res.insert(res.end(), cells.stay.begin(), cells.stay.end());
    return res;
}

void llama_thin_cells(
        llama_kv_cache & cache, const llama_hparams & hparams, llama_seq_id seq_id, enum illava_thinning how,
        const llama_thinned_cells & cells) {
    if (cells.gone.empty()) {
        return;
    }
    const auto     all    = joined(cells);
    const uint32_t stream = cache.get_stream(seq_id);

    for (uint32_t il : cache.get_layer_ids()) {
        const uint32_t n_head = hparams.n_head_kv(il);
        const uint32_t n_k    = hparams.n_embd_k_gqa(il);
        const uint32_t n_v    = hparams.n_embd_v_gqa(il);

        cell_rows k_rows(cache.get_k_storage(il), false,               n_k, stream, all);
        cell_rows v_rows(cache.get_v_storage(il), cache.is_v_trans(), n_v, stream, all);

        const auto k_gone = rows_of(k_rows, cells.gone, n_k);
        const auto v_gone = rows_of(v_rows, cells.gone, n_v);
        auto       k_stay = rows_of(k_rows, cells.stay, n_k);
        auto       v_stay = rows_of(v_rows, cells.stay, n_v);

        std::vector<bool> changed(cells.stay.size(), false);
        for (uint32_t h = 0; h < n_head; ++h) {
            const size_t d_k = n_k/n_head;
            const size_t d_v = n_v/n_head;

            const auto found = find_nearest(directions(k_gone, n_k, h*d_k, d_k), directions(k_stay, n_k, h*d_k, d_k), d_k);
            merge_head(k_gone, k_stay, n_k, h*d_k, d_k, found, how);
            merge_head(v_gone, v_stay, n_v, h*d_v, d_v, found, how);
            for (size_t j : found.to) {
                changed[j] = true;
            }
        }
        for (size_t j = 0; j < cells.stay.size(); ++j) {
            if (changed[j]) {
                k_rows.set(cells.stay[j], k_stay.data() + j*n_k);
                v_rows.set(cells.stay[j], v_stay.data() + j*n_v);
            }
        }
        k_rows.write();
        v_rows.write();
    }
    cache.seq_rm_cells(seq_id, cells.gone);
}

std::vector<float> llama_read_cells(
        const llama_kv_cache & cache, const llama_hparams & hparams, llama_seq_id seq_id,
        const std::vector<uint32_t> & cells) {
    const uint32_t stream = cache.get_stream(seq_id);

    std::vector<float> res;
    for (bool values : { false, true }) {
        for (uint32_t il : cache.get_layer_ids()) {
            const uint32_t n    = values ? hparams.n_embd_v_gqa(il) : hparams.n_embd_k_gqa(il);
            auto *         data = values ? cache.get_v_storage(il) : cache.get_k_storage(il);
            const auto     rows = rows_of(cell_rows(data, values && cache.is_v_trans(), n, stream, cells), cells, n);
            res.insert(res.end(), rows.begin(), rows.end());
        }
    }
    return res;
}
