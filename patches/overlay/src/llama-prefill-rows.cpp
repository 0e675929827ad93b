#include "llama-prefill-rows.h"

#include "illava-plan.h"

#include <algorithm>
#include <cstring>

llama_prefill_rows::llama_prefill_rows(
        const illava_prefill_params & params, size_t n_cuts, int32_t n_pos, int32_t n_embd) :
    n_rows(params.n_rows), n_pos(n_pos), n_embd(n_embd),
    tokens(params.tokens, params.tokens + params.n_rows),
    pos(params.pos, params.pos + size_t(n_pos)*params.n_rows) {
    if (params.embd && std::any_of(tokens.begin(), tokens.end(), [](llama_token t) { return t < 0; })) {
        embd.assign(params.embd, params.embd + size_t(n_rows)*n_embd);
    }

    rows.resize(n_rows);
    for (int32_t i = 0; i < n_rows; ++i) {
        rows[i] = { i, -1 };
    }
    for (size_t s = 0; s < params.n_spans; ++s) {
        const auto & span = params.spans[s];
        spans.push_back({ span.first, span.n, {} });
        if (n_cuts > 0) {
            spans.back().r.assign(span.r, span.r + n_cuts);
        }
        for (int32_t i = 0; i < span.n; ++i) {
            rows[span.first + i].span = s;
        }
    }
}

size_t llama_prefill_rows::size_in_segment(size_t i) const {
    size_t n = n_rows;
    for (const auto & span : spans) {
        for (size_t k = 0; k < i; ++k) {
            n -= span.r[k];
        }
    }
    return n;
}

bool llama_prefill_rows::merges_at(size_t cut) const {
    return std::any_of(spans.begin(), spans.end(), [cut](const llama_prefill_span & span) { return span.r[cut] > 0; });
}

bool llama_prefill_rows::is_token(size_t i) const {
    return residual.empty() && tokens[rows[i].index] >= 0;
}

const float * llama_prefill_rows::embedding(size_t i) const {
    return residual.empty() ? embd.data() + size_t(rows[i].index)*n_embd : residual.data() + i*n_embd;
}

std::vector<llama_prefill_chunk> llama_prefill_rows::cut(uint32_t n_ubatch, bool scored, illava_score score) const {
    std::vector<llama_prefill_chunk> res;
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
            if (score == ILLAVA_SCORE_IMAGE && rows[c.first].span >= 0) {
                c.score = LLAMA_SCORE_ROWS_ALL;
            }
        }
        if (score == ILLAVA_SCORE_LAST_TOKEN) {
            res.back().score = LLAMA_SCORE_ROWS_LAST;
        }
    }
    return res;
}

llama_ubatch llama_prefill_rows::ubatch(
        const llama_prefill_chunk & chunk, llama_seq_id seq_id, bool equal_seqs, bool output_last) const {
    auto data = std::make_shared<llama_ubatch::data_t>();

    const uint32_t n     = chunk.n;
    const bool     token = is_token(chunk.first);

    if (token) {
        data->token.resize(n);
    } else {
        data->embd.resize(size_t(n)*n_embd);
    }
    data->pos    .resize(size_t(n)*n_pos);
    data->output .assign(n, 0);
    data->seq_idx.assign(LLAMA_MAX_SEQ, -1);
    data->n_seq_id   .assign(n, 1);
    data->seq_id_data.assign(n, seq_id);

    for (uint32_t i = 0; i < n; ++i) {
        const int32_t index = rows[chunk.first + i].index;
        if (token) {
            data->token[i] = tokens[index];
        } else {
            std::memcpy(data->embd.data() + size_t(i)*n_embd, embedding(chunk.first + i), n_embd*sizeof(float));
        }
        for (int32_t p = 0; p < n_pos; ++p) {
            data->pos[p*n + i] = pos[size_t(p)*n_rows + index];
        }
        data->seq_id    .push_back(&data->seq_id_data[i]);
        data->batch_idxs.push_back(index);
    }
    data->seq_id_unq = { seq_id };
    data->seq_idx[seq_id] = 0;
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

void llama_prefill_rows::merge(
        size_t cut, int32_t layer, int32_t n_head, illava_score score, const std::vector<double> & sums,
        bool keep_residual, std::vector<llama_merge_step> & steps) {
    std::vector<bool> alive(rows.size(), true);

    for (size_t first = 0; first < rows.size(); ) {
        const int32_t span = rows[first].span;

        size_t last = first;
        while (last < rows.size() && rows[last].span == span) {
            last++;
        }
        const size_t n = last - first;
        const int32_t r = span >= 0 ? spans[span].r[cut] : 0;

        if (r > 0) {
            const double queries = score == ILLAVA_SCORE_IMAGE ? double(n) : 1.0;

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
                if (keep_residual) {
                    step.residual.insert(step.residual.end(), x + size_t(i)*n_embd, x + size_t(i + 1)*n_embd);
                }
            }

            const auto original = [&](int32_t i) { return rows[first + i].index - spans[span].first; };
            for (int32_t i : plan.kept)  { step.kept  .push_back(original(i)); }
            for (int32_t i : plan.order) { step.merged.push_back(original(i)); }
            step.into = step.merged.back();

            steps.push_back(std::move(step));
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
