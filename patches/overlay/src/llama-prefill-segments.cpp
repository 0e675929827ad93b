#include "llama-prefill-segments.h"

#include "illava-plan.h"
#include "illava-status.h"
#include "llama-batch.h"
#include "llama-context.h"
#include "llama-kv-segments.h"
#include "llama-model.h"

#include <algorithm>
#include <cstring>

void llama_set_merge_layers(llama_cparams & cparams, const llama_context_params & params, const llama_model & model) {
    if (params.n_merge_layers == 0) {
        return;
    }
    if (!illava_model_can_merge(&model)) {
        illava_fail(ILLAVA_UNSUPPORTED, "merging inside the language model is not available for architecture '%s'; "
                "turn it off (--merge off, or only --vit-layers)", model.arch_name().c_str());
    }

    const int32_t n_layer = model.hparams.n_layer();

    int32_t prev = 0;
    for (size_t i = 0; i < params.n_merge_layers; ++i) {
        const int32_t layer = params.merge_layers[i];
        if (layer <= prev || layer >= n_layer) {
            illava_fail(ILLAVA_BAD_ARG, "merge layer %d: layers ascend strictly within 1 to %d of this model",
                    layer, n_layer - 1);
        }
        cparams.merge_layers.push_back(layer);
        prev = layer;
    }

    // some GPU attention kernels want whole blocks of 256 cells; the CPU's do not, and memory is scarcer there
    const uint32_t pad = model.devices.empty() ? 32 : 256;

    cparams.merge_n_ctx.push_back(cparams.n_ctx_seq);
    for (size_t i = 0; i < params.n_merge_layers; ++i) {
        uint32_t n = params.merge_n_ctx ? params.merge_n_ctx[i] : cparams.n_ctx;
        if (!cparams.kv_unified) {
            n = (n + cparams.n_seq_max - 1)/cparams.n_seq_max;
        }
        cparams.merge_n_ctx.push_back(GGML_PAD(std::max(n, 1u), pad));
    }
}

namespace {

// the rows still alive, as they enter the current segment
struct row {
    int32_t index; // in the call
    int32_t span;  // -1: text
};

// consecutive rows that go through the graph together
struct chunk {
    size_t           first;
    size_t           n;
    llama_score_rows score = LLAMA_SCORE_ROWS_NONE;
};

struct prefill {
    const illava_prefill_params & params;
    const int32_t n_pos;
    const int32_t n_embd;
    const bool    equal_seqs; // how a cache with several streams wants its ubatches

    std::vector<row>   rows;
    std::vector<float> residual; // [rows, n_embd]; empty before the first segment

    prefill(const illava_prefill_params & params, int32_t n_pos, int32_t n_embd, bool equal_seqs) :
        params(params), n_pos(n_pos), n_embd(n_embd), equal_seqs(equal_seqs) {
        rows.resize(params.n_rows);
        for (int32_t i = 0; i < params.n_rows; ++i) {
            rows[i] = { i, -1 };
        }
        for (size_t s = 0; s < params.n_spans; ++s) {
            for (int32_t i = 0; i < params.spans[s].n; ++i) {
                rows[params.spans[s].first + i].span = s;
            }
        }
    }

    bool is_token(size_t i) const {
        return residual.empty() && params.tokens[rows[i].index] >= 0;
    }

    const float * embedding(size_t i) const {
        return residual.empty() ? params.embd + size_t(rows[i].index)*n_embd : residual.data() + i*n_embd;
    }

    // A chunk stays within one span or between two, so that its query rows are exactly the span's where scores are
    // read. The cuts fall where decode() would have to make them for tokens and embeddings, at every segment, so
    // that removing nothing gives the result of one ordinary cache bit for bit.
    std::vector<chunk> cut(uint32_t n_ubatch, bool scored) const {
        std::vector<chunk> res;
        for (size_t i = 0; i < rows.size(); ++i) {
            const bool joins = i > 0 &&
                res.back().n < n_ubatch &&
                is_token(i) == is_token(i - 1) &&
                rows[i].span == rows[i - 1].span;
            if (joins) {
                res.back().n++;
            } else {
                res.push_back({ i, 1 });
            }
        }
        if (scored) {
            for (auto & c : res) {
                if (params.score == ILLAVA_SCORE_IMAGE && rows[c.first].span >= 0) {
                    c.score = LLAMA_SCORE_ROWS_ALL;
                }
            }
            if (params.score == ILLAVA_SCORE_LAST_TOKEN) {
                res.back().score = LLAMA_SCORE_ROWS_LAST;
            }
        }
        return res;
    }

    llama_ubatch ubatch(const chunk & c, bool output_last) const {
        auto data = std::make_shared<llama_ubatch::data_t>();

        const uint32_t n     = c.n;
        const bool     token = is_token(c.first);

        if (token) {
            data->token.resize(n);
        } else {
            data->embd.resize(size_t(n)*n_embd);
        }
        data->pos    .resize(size_t(n)*n_pos);
        data->output .assign(n, 0);
        data->seq_idx.assign(LLAMA_MAX_SEQ, -1);
        data->n_seq_id   .assign(n, 1);
        data->seq_id_data.assign(n, params.seq_id);

        for (uint32_t i = 0; i < n; ++i) {
            const int32_t index = rows[c.first + i].index;
            if (token) {
                data->token[i] = params.tokens[index];
            } else {
                std::memcpy(data->embd.data() + size_t(i)*n_embd, embedding(c.first + i), n_embd*sizeof(float));
            }
            for (int32_t p = 0; p < n_pos; ++p) {
                data->pos[p*n + i] = params.pos[size_t(p)*params.n_rows + index];
            }
            data->seq_id    .push_back(&data->seq_id_data[i]);
            data->batch_idxs.push_back(index);
        }
        data->seq_id_unq = { params.seq_id };
        data->seq_idx[params.seq_id] = 0;
        data->output[n - 1] = output_last;

        llama_ubatch res = {};
        res.b_equal_seqs = equal_seqs;
        res.n_tokens     = n;
        res.n_seq_tokens = equal_seqs ? n : 1;
        res.n_seqs       = equal_seqs ? 1 : n;
        res.n_seqs_unq   = 1;
        res.n_pos        = n_pos;
        res.token        = token ? data->token.data() : nullptr;
        res.embd         = token ? nullptr : data->embd.data();
        res.pos          = data->pos.data();
        res.n_seq_id     = data->n_seq_id.data();
        res.seq_id       = data->seq_id.data();
        res.seq_id_unq   = data->seq_id_unq.data();
        res.seq_idx      = data->seq_idx.data();
        res.output       = data->output.data();
        res.data         = std::move(data);
        return res;
    }

    // Folds the least attended rows of every span at merge layer number `k`. sums: attention received by each row.
    void merge(size_t k, int32_t layer, int32_t n_head, const std::vector<double> & sums, std::vector<llama_merge_step> * steps) {
        std::vector<bool> alive(rows.size(), true);

        for (size_t first = 0; first < rows.size(); ) {
            const int32_t span = rows[first].span;

            size_t last = first;
            while (last < rows.size() && rows[last].span == span) {
                last++;
            }
            const size_t n = last - first;
            const int32_t r = span >= 0 ? params.spans[span].r[k] : 0;

            if (r > 0) {
                const double queries = params.score == ILLAVA_SCORE_IMAGE ? double(n) : 1.0;

                llama_merge_step step;
                step.span  = span;
                step.layer = layer;
                step.scores.resize(n);
                for (size_t i = 0; i < n; ++i) {
                    step.scores[i] = float(sums[first + i]/(n_head*queries));
                }

                float * x    = residual.data() + first*n_embd;
                auto    plan = illava_make_plan(step.scores.data(), n, r);
                illava_merge_rows(x, n_embd, plan.order, x + size_t(plan.order.back())*n_embd);

                std::fill(alive.begin() + first, alive.begin() + last, false);
                for (int32_t i : plan.kept) {
                    alive[first + i] = true;
                    if (params.keep_residual) {
                        step.residual.insert(step.residual.end(), x + size_t(i)*n_embd, x + size_t(i + 1)*n_embd);
                    }
                }

                const auto original = [&](int32_t i) { return rows[first + i].index - params.spans[span].first; };
                for (int32_t i : plan.kept)  { step.kept  .push_back(original(i)); }
                for (int32_t i : plan.order) { step.merged.push_back(original(i)); }
                step.into = step.merged.back();

                if (steps) {
                    steps->push_back(std::move(step));
                }
            }
            first = last;
        }

        size_t to = 0;
        for (size_t i = 0; i < rows.size(); ++i) {
            if (alive[i]) {
                rows[to] = rows[i];
                if (to != i) {
                    std::memcpy(residual.data() + to*n_embd, residual.data() + i*n_embd, n_embd*sizeof(float));
                }
                to++;
            }
        }
        rows.resize(to);
        residual.resize(to*n_embd);
    }
};

void check(const illava_prefill_params & p, const llama_model & model, size_t n_cuts, uint32_t n_seq_max) {
    const int32_t n_vocab = model.vocab.n_tokens();

    if (p.n_rows < 1) {
        illava_fail(ILLAVA_BAD_ARG, "prefill of %d rows: at least one is needed", p.n_rows);
    }
    if (p.seq_id < 0 || uint32_t(p.seq_id) >= n_seq_max) {
        illava_fail(ILLAVA_BAD_ARG, "sequence %d: this context has sequences 0 to %u", p.seq_id, n_seq_max - 1);
    }
    for (int32_t i = 0; i < p.n_rows; ++i) {
        if (p.tokens[i] >= n_vocab) {
            illava_fail(ILLAVA_BAD_ARG, "row %d: token %d, the vocabulary has %d", i, p.tokens[i], n_vocab);
        }
        if (p.tokens[i] < 0 && !p.embd) {
            illava_fail(ILLAVA_BAD_ARG, "row %d has neither a token nor an embedding", i);
        }
        if (i > 0 && p.pos[i] < p.pos[i - 1]) {
            illava_fail(ILLAVA_BAD_ARG, "row %d: position %d after %d, positions must not decrease", i, p.pos[i], p.pos[i - 1]);
        }
    }

    int32_t end = 0;
    for (size_t s = 0; s < p.n_spans; ++s) {
        const auto & span = p.spans[s];
        if (span.first < end || span.n < 1 || span.n > p.n_rows - span.first) {
            illava_fail(ILLAVA_BAD_ARG, "span %zu covers rows %d to %d, the call has %d and spans must not overlap",
                    s, span.first, span.first + span.n - 1, p.n_rows);
        }
        int64_t n = span.n;
        for (size_t k = 0; k < n_cuts; ++k) {
            if (span.r[k] < 0 || span.r[k] >= n) {
                illava_fail(ILLAVA_BAD_ARG, "span %zu, merge layer %zu: r = %d of %lld tokens, at least one must remain",
                        s, k, span.r[k], (long long) n);
            }
            n -= span.r[k];
        }
        end = span.first + span.n;
    }
}

} // namespace

// A context without merge layers has one ordinary memory of whatever kind: the rows go through decode().
static void prefill_unmerged(llama_context & ctx, const illava_prefill_params & p, int32_t n_pos, int32_t n_embd) {
    const int32_t n_batch = ctx.n_batch();

    for (int32_t first = 0; first < p.n_rows; ) {
        const bool token = p.tokens[first] >= 0;

        int32_t n = 1;
        while (first + n < p.n_rows && n < n_batch && (p.tokens[first + n] >= 0) == token) {
            n++;
        }

        std::vector<llama_pos>      pos;
        std::vector<int32_t>        n_seq_id(n, 1);
        std::vector<llama_seq_id>   seq_ids (n, p.seq_id);
        std::vector<llama_seq_id *> seq_id;
        std::vector<int8_t>         logits  (n, 0);

        // token rows take one position, embedding rows all of them
        for (int32_t k = 0; k < (token ? 1 : n_pos); ++k) {
            const llama_pos * src = p.pos + size_t(k)*p.n_rows + first;
            pos.insert(pos.end(), src, src + n);
        }
        for (auto & id : seq_ids) {
            seq_id.push_back(&id);
        }
        seq_id.push_back(nullptr);
        logits[n - 1] = p.logits_last && first + n == p.n_rows;

        llama_batch batch = {};
        batch.n_tokens = n;
        batch.token    = token ? const_cast<llama_token *>(p.tokens + first) : nullptr;
        batch.embd     = token ? nullptr : const_cast<float *>(p.embd + size_t(first)*n_embd);
        batch.pos      = pos.data();
        batch.n_seq_id = n_seq_id.data();
        batch.seq_id   = seq_id.data();
        batch.logits   = logits.data();

        switch (ctx.decode(batch)) {
            case 0: break;
            case 1: illava_fail(ILLAVA_KV_FULL, "no room for %d rows in a context of %u cells", p.n_rows, ctx.n_ctx());
            case 2: illava_fail(ILLAVA_ABORTED, "interrupted");
            default: illava_fail(ILLAVA_INTERNAL, "decoding rows %d to %d failed", first, first + n - 1);
        }
        first += n;
    }
}

static void fail_full(const llama_kv_cache & cache, llama_layer_range layers, llama_seq_id seq_id, size_t n_rows) {
    illava_fail(ILLAVA_KV_FULL, "layers %d to %d have %u cells, %u of them in use: no room for %zu more rows",
            layers.begin, layers.end - 1, cache.get_size(), cache.get_cells(seq_id).get_used(), n_rows);
}

void llama_context::prefill_segments(const illava_prefill_params & params, std::vector<llama_merge_step> * steps) {
    const int32_t n_pos  = model.hparams.n_pos_per_embd();
    const int32_t n_embd = model.hparams.n_embd;

    check(params, model, cparams.merge_layers.size(), cparams.n_seq_max);

    const llama_pos p0 = params.pos[0];
    if (const llama_pos last = memory ? memory->seq_pos_max(params.seq_id) : -1; last >= p0) {
        illava_fail(ILLAVA_BAD_ARG, "the first row has position %d, sequence %d already reaches %d", p0, params.seq_id, last);
    }

    try {
        if (cparams.merge_layers.empty()) {
            prefill_unmerged(*this, params, n_pos, n_embd);
            return;
        }

        auto & kv = static_cast<llama_kv_segments &>(*memory);

        prefill state(params, n_pos, n_embd, kv.at(0)->get_n_stream() > 1);

        cparams.score_composed = params.composed_score;

        embd_seq.clear();
        output_swaps.clear();
        embd_batch_idxs.clear();

        sched_reserve();
        memory_update(false);

        if (output_reserve(1) < 1) {
            illava_fail(ILLAVA_NO_MEMORY, "no memory for one row of logits");
        }

        for (size_t s = 0; s < kv.size(); ++s) {
            const auto layers = kv.layers(s);
            auto &     cache  = *kv.at(s);

            bool scored = false;
            for (size_t i = 0; i < params.n_spans && !layers.last; ++i) {
                scored = scored || params.spans[i].r[s] > 0;
            }

            const auto chunks = state.cut(cparams.n_ubatch, scored);

            std::vector<llama_ubatch>     ubatches;
            std::vector<llama_score_rows> score_rows;
            for (size_t c = 0; c < chunks.size(); ++c) {
                const bool output = layers.last && params.logits_last && c + 1 == chunks.size();
                ubatches  .push_back(state.ubatch(chunks[c], output));
                score_rows.push_back(chunks[c].score);
            }

            auto sinfos = cache.prepare(ubatches);
            if (sinfos.empty()) {
                fail_full(cache, layers, params.seq_id, state.rows.size());
            }

            // which row a cell holds: scores come back by cell
            std::vector<int32_t> row_of_cell(scored ? cache.get_size() : 0, -1);
            for (size_t c = 0; c < chunks.size() && scored; ++c) {
                for (size_t i = 0; i < chunks[c].n; ++i) {
                    row_of_cell[sinfos[c].idxs[0][i]] = chunks[c].first + i;
                }
            }

            std::vector<float>  out (layers.last ? 0 : state.rows.size()*n_embd);
            std::vector<double> sums(scored ? state.rows.size() : 0, 0.0);
            std::vector<float>  received;

            llama_kv_segments_context mctx(&kv, s, std::move(sinfos), ubatches, score_rows);

            for (size_t c = 0; c < chunks.size(); ++c, mctx.next()) {
                n_outputs = ubatches[c].output[chunks[c].n - 1];

                ggml_status status;
                auto * res = process_ubatch(mctx.get_ubatch(), LLM_GRAPH_TYPE_DEFAULT, &mctx, status);
                if (!res) {
                    switch (status) {
                        case GGML_STATUS_ABORTED:      illava_fail(ILLAVA_ABORTED,   "interrupted");
                        case GGML_STATUS_ALLOC_FAILED: illava_fail(ILLAVA_NO_MEMORY, "no memory for the compute buffers of %zu rows", chunks[c].n);
                        default:                       illava_fail(ILLAVA_INTERNAL,  "computing layers %d to %d failed", layers.begin, layers.end - 1);
                    }
                }
                ggml_backend_sched_synchronize(sched.get());

                if (!layers.last) {
                    ggml_backend_tensor_get(res->get_embd(), out.data() + chunks[c].first*n_embd, 0, chunks[c].n*n_embd*sizeof(float));
                } else if (n_outputs > 0) {
                    ggml_backend_tensor_get(res->get_logits(), logits.data, 0, ggml_nbytes(res->get_logits()));
                }

                if (chunks[c].score != LLAMA_SCORE_ROWS_NONE) {
                    received.resize(res->t_attn_score->ne[0]);
                    ggml_backend_tensor_get(res->t_attn_score, received.data(), 0, received.size()*sizeof(float));

                    const int32_t span = state.rows[chunks[c].first].span;
                    for (size_t cell = 0; cell < received.size(); ++cell) {
                        const int32_t i = row_of_cell[cell];
                        if (i < 0 || state.rows[i].span < 0) {
                            continue;
                        }
                        // the image's score counts its own query rows only
                        if (params.score == ILLAVA_SCORE_LAST_TOKEN || state.rows[i].span == span) {
                            sums[i] += received[cell];
                        }
                    }
                }
            }

            if (!layers.last) {
                state.residual = std::move(out);
                if (scored) {
                    state.merge(s, layers.end, model.hparams.n_head(layers.end - 1), sums, steps);
                }
            }
        }

        n_outputs = params.logits_last ? 1 : 0;
    } catch (...) {
        // a span is in the cache whole or not at all
        memory->seq_rm(params.seq_id, p0, -1);
        throw;
    }
}
