// A prompt's KV cache made thinner once the prompt is computed, after LOOK-M (Wan et al., 2024): of a picture's rows
// some cells stay, and what the others held merges into the keys and values that stay, layer by layer and head by head.

#pragma once

#include "illava.h"
#include "llama-kv-cache.h"

#include <cstdint>
#include <vector>

// Cells of one sequence in one cache.
struct llama_thinned_cells {
    std::vector<uint32_t> gone; // to be let go
    std::vector<uint32_t> stay; // each may take up some of them
};

// The r of a span's n = scores.size() rows that go, least attended first: the latest rows last, then by score, of equal
// ones the lower. `n_latest` rows count as the latest.
std::vector<int32_t> llama_choose_thinned(const std::vector<float> & scores, size_t r, size_t n_latest);

// Merges keys and values of the cells that go into those that stay, and lets them go. In each layer and KV head a row
// goes to the cell whose key has the highest cosine with its own, of equal ones the first. A cell c with n rows p holds
// (c + sum of f(p))/(n + 1) afterwards, with f(p) = (p + c)/2, p, or cosine*p as `how` has it; keys and values alike.
// A quantised cell is rounded to its type again; one that takes up nothing keeps its bits.
void llama_thin_cells(
        llama_kv_cache & cache, const llama_hparams & hparams, llama_seq_id seq_id, enum illava_thinning how,
        const llama_thinned_cells & cells);

// Keys [layers, cells, n_embd_k_gqa] and then values [layers, cells, n_embd_v_gqa] of some cells.
std::vector<float> llama_read_cells(
        const llama_kv_cache & cache, const llama_hparams & hparams, llama_seq_id seq_id,
        const std::vector<uint32_t> & cells);
