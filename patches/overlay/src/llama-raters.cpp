#include "llama-raters.h"

#include "illava-status.h"
#include "llama-model.h"

#include <algorithm>
#include <cmath>

// Row `token` of the table of embeddings.
static std::vector<float> embedding_of(const ggml_tensor * table, llama_token token) {
    std::vector<float> row(table->ne[0]);
    if (table->type == GGML_TYPE_F32) {
        ggml_backend_tensor_get(table, row.data(), token*table->nb[1], row.size()*sizeof(float));
        return row;
    }
    std::vector<uint8_t> stored(ggml_row_size(table->type, table->ne[0]));
    ggml_backend_tensor_get(table, stored.data(), token*table->nb[1], stored.size());
    ggml_get_type_traits(table->type)->to_float(stored.data(), row.data(), table->ne[0]);
    return row;
}

// Factor between products of stored embeddings and of those that enter the first layer.
static double product_scale(const llama_model & model) {
    const double both = model.hparams.f_embedding_scale != 0.0f ? model.hparams.f_embedding_scale : 1.0;
    const bool   gemma = model.arch == LLM_ARCH_GEMMA3 || model.arch == LLM_ARCH_GEMMA4;
    const double text  = gemma ? std::sqrt(double(model.hparams.n_embd)) : 1.0;
    return both*both*text;
}

// Mean share of each text row in the softmax of a visual row's products with all of them.
static std::vector<double> relevance(
        const illava_prefill_params & p, const std::vector<std::vector<float>> & text, double scale, size_t n_embd,
        size_t n_embd_inp) {
    std::vector<double> mean(text.size(), 0.0), shares(text.size());
    for (size_t s = 0; s < p.n_spans; ++s) {
        for (int32_t i = p.spans[s].first; i < p.spans[s].first + p.spans[s].n; ++i) {
            if (p.tokens[i] >= 0) {
                continue; // a mark within the picture
            }
            const float * row = p.embd + size_t(i)*n_embd_inp;
            for (size_t t = 0; t < text.size(); ++t) {
                shares[t] = 0.0;
                for (size_t e = 0; e < n_embd; ++e) {
                    shares[t] += double(row[e])*text[t][e];
                }
                shares[t] *= scale;
            }
            const double most = *std::max_element(shares.begin(), shares.end());
            double total = 0.0;
            for (double & share : shares) {
                share  = std::exp(share - most);
                total += share;
            }
            for (size_t t = 0; t < text.size(); ++t) {
                mean[t] += shares[t]/total;
            }
        }
    }
    return mean;
}

std::vector<bool> llama_choose_raters(const illava_prefill_params & p, const llama_model & model) {
    if (p.n_spans == 0 || (p.score != ILLAVA_SCORE_QUESTION && p.score != ILLAVA_SCORE_RATERS)) {
        return {};
    }
    const auto & last = p.spans[p.n_spans - 1];

    std::vector<int32_t> text;
    for (int32_t i = last.first + last.n; i < p.n_rows; ++i) {
        if (p.tokens[i] >= 0) {
            text.push_back(i);
        }
    }
    if (text.empty()) {
        illava_fail(ILLAVA_BAD_ARG, "score %d: no text follows the last picture, and its attention ranks", (int) p.score);
    }
    std::vector<bool> raters(p.n_rows, false);
    if (p.score == ILLAVA_SCORE_RATERS) {
        std::vector<std::vector<float>> embeddings;
        for (int32_t i : text) {
            embeddings.push_back(embedding_of(model.tok_embd, p.tokens[i]));
        }
        const auto   shares = relevance(p, embeddings, product_scale(model), model.hparams.n_embd, model.hparams.n_embd_inp());
        double       mean   = 0.0;
        for (double share : shares) {
            mean += share/double(shares.size());
        }
        bool any = false;
        for (size_t t = 0; t < text.size(); ++t) {
            raters[text[t]] = shares[t] > mean;
            any |= shares[t] > mean;
        }
        if (any) {
            return raters;
        }
    }
    for (int32_t i : text) {
        raters[i] = true;
    }
    return raters;
}
