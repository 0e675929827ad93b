#include "llama-prefill-rows.h"

#include "illava-plan.h"
#include "llama-kv-thinning.h"

#include <algorithm>
#include <cmath>
#include <cstring>

llama_prefill_rows::llama_prefill_rows(
        const illava_prefill_params & params, std::vector<bool> raters_in, size_t n_cuts, int32_t n_pos, int32_t n_embd,
        int32_t n_embd_inp) :
    n_rows(params.n_rows), n_pos(n_pos), n_embd(n_embd), n_embd_inp(n_embd_inp), strategy(params.strategy), seed(params.seed),
    count_sizes(params.count_sizes),
    tokens(params.tokens, params.tokens + params.n_rows),
    pos(params.pos, params.pos + size_t(n_pos)*params.n_rows), raters(std::move(raters_in)), mass(n_cuts, 0.0f) {
    if (params.mass) {
        mass.assign(params.mass, params.mass + n_cuts);
    }
    if (params.embd && std::any_of(tokens.begin(), tokens.end(), [](llama_token t) { return t < 0; })) {
        embd.resize(size_t(n_rows)*n_embd_inp);
        for (int32_t i = 0; i < n_rows; ++i) {
            if (tokens[i] < 0) { // the caller need not have the others
                std::copy_n(params.embd + size_t(i)*n_embd_inp, n_embd_inp, embd.data() + size_t(i)*n_embd_inp);
            }
        }
    }

    rows.resize(n_rows);
    for (int32_t i = 0; i < n_rows; ++i) {
        rows[i] = { i, -1, params.sizes ? params.sizes[i] : 1.0f, params.held && params.held[i] };
    }
    for (size_t s = 0; s < params.n_spans; ++s) {
        const auto & span = params.spans[s];
        spans.push_back({ span.first, span.n, {}, span.two_ways, {} });
        if (n_cuts > 0) {
            spans.back().r.assign(span.r, span.r + n_cuts);
        }
        if (params.thinning != ILLAVA_THINNING_NONE) {
            spans.back().thinned.assign(params.thinned + s*(n_cuts + 1), params.thinned + (s + 1)*(n_cuts + 1));
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
    return mass[cut] > 0.0f ||
        std::any_of(spans.begin(), spans.end(), [cut](const llama_prefill_span & span) { return span.r[cut] > 0; });
}

bool llama_prefill_rows::thins_in(size_t i) const {
    return std::any_of(spans.begin(), spans.end(), [i](const llama_prefill_span & span) {
        return !span.thinned.empty() && span.thinned[i] > 0;
    });
}

std::vector<llama_prefill_rows::fate> llama_prefill_rows::thin(
        size_t segment, int32_t layer, int32_t n_head, illava_score score, const std::vector<double> & sums,
        std::vector<llama_merge_step> & steps) const {
    std::vector<fate> res(rows.size(), STAYS);
    std::fill(res.begin(), res.begin() + spans.front().first, BEFORE);

    for (size_t s = 0; s < spans.size(); ++s) {
        const auto &  span = spans[s];
        const int32_t r    = span.thinned[segment];
        if (r == 0) {
            continue;
        }
        // the call's latest rows: as many as are half of what stays
        const int64_t n_window = int64_t(n_rows)*(span.n - r)/(2*int64_t(span.n));
        const int64_t n_latest = std::clamp<int64_t>(span.first + span.n - (n_rows - n_window), 0, span.n);

        llama_merge_step step;
        step.span  = s;
        step.layer = layer;
        step.n_in  = span.n;
        for (int32_t i = 0; i < span.n; ++i) {
            step.scores.push_back(float(sums[span.first + i]/(n_head*n_queries(score, span.n))));
        }
        step.merged = llama_choose_thinned(step.scores, r, n_latest);
        for (int32_t i : step.merged) {
            res[span.first + i] = GOES;
        }
        for (int32_t i = 0; i < span.n; ++i) {
            if (res[span.first + i] == STAYS) {
                step.kept.push_back(i);
            }
        }
        steps.push_back(std::move(step));
    }
    return res;
}

bool llama_prefill_rows::is_token(size_t i) const {
    return residual.empty() && tokens[rows[i].index] >= 0;
}

// The first layers have added their image features before the first merge layer: behind the residual stand zeros.
void llama_prefill_rows::embedding(size_t i, float * out) const {
    if (residual.empty()) {
        std::memcpy(out, embd.data() + size_t(rows[i].index)*n_embd_inp, n_embd_inp*sizeof(float));
    } else {
        std::memcpy(out, residual.data() + i*n_embd, n_embd*sizeof(float));
    }
}

std::vector<llama_prefill_chunk> llama_prefill_rows::cut(uint32_t n_ubatch, bool merges, bool scored, illava_score score) const {
    const bool apart = merges || scored || rows.size() == size_t(n_rows) ||
        std::any_of(spans.begin(), spans.end(), [](const llama_prefill_span & span) { return span.two_ways; });
    std::vector<llama_prefill_chunk> res;
    for (size_t i = 0; i < rows.size(); ++i) {
        const bool joins = i > 0 &&
            res.back().n < n_ubatch &&
            is_token(i) == is_token(i - 1) &&
            (!apart || rows[i].span == rows[i - 1].span);
        if (joins) {
            res.back().n++;
        } else {
            res.push_back({ i, 1 });
            res.back().two_ways = rows[i].span >= 0 && spans[rows[i].span].two_ways;
        }
    }
    if (scored) {
        for (auto & c : res) {
            if (score == ILLAVA_SCORE_IMAGE && rows[c.first].span >= 0) {
                c.score = {{ 0, int64_t(c.n) }};
            }
        }
        for (auto & c : res) {
            if (score == ILLAVA_SCORE_PROMPT) {
                c.score = {{ 0, int64_t(c.n) }};
            }
        }
        if (score == ILLAVA_SCORE_LAST_TOKEN) {
            res.back().score = {{ int64_t(res.back().n) - 1, 1 }};
        }
        for (size_t k = 0; k < res.size() && !raters.empty(); ++k) {
            auto & c = res[k];
            for (size_t i = 0; i < c.n; ++i) {
                if (!raters[rows[c.first + i].index]) {
                    continue;
                }
                if (!c.score.empty() && c.score.back().first + c.score.back().second == int64_t(i)) {
                    c.score.back().second++;
                } else {
                    c.score.push_back({ int64_t(i), 1 });
                }
            }
        }
    }
    return res;
}

double llama_prefill_rows::n_queries(illava_score score, size_t n) const {
    switch (score) {
        case ILLAVA_SCORE_IMAGE:      return double(n);
        case ILLAVA_SCORE_LAST_TOKEN: return 1.0;
        case ILLAVA_SCORE_PROMPT:     return double(n_rows);
        default:                      return double(std::count(raters.begin(), raters.end(), true));
    }
}

int32_t llama_prefill_rows::n_removed(
        const llama_prefill_span & span, size_t cut, size_t n, const std::vector<float> & scores) const {
    int32_t n_out = span.n;
    for (size_t k = 0; k <= cut; ++k) {
        n_out -= span.r[k];
    }
    if (mass[cut] > 0.0f) {
        n_out = std::min(n_out, illava_smallest_share(scores.data(), scores.size(), mass[cut]));
    }
    return std::max<int32_t>(0, int32_t(n) - n_out);
}

llama_ubatch llama_prefill_rows::ubatch(
        const llama_prefill_chunk & chunk, llama_seq_id seq_id, bool equal_seqs, bool output_last) const {
    auto data = std::make_shared<llama_ubatch::data_t>();

    const uint32_t n     = chunk.n;
    const bool     token = is_token(chunk.first);

    if (token) {
        data->token.resize(n);
    } else {
        data->embd.resize(size_t(n)*n_embd_inp);
    }
    data->pos    .resize(size_t(n)*n_pos);
    data->output .assign(n, 0);
    data->seq_idx.assign(LLAMA_MAX_SEQ, -1);
    data->n_seq_id   .assign(n, 1);
    data->seq_id_data.assign(n, seq_id);
    if (count_sizes) {
        data->log_size.resize(n);
    }

    for (uint32_t i = 0; i < n; ++i) {
        const int32_t index = rows[chunk.first + i].index;
        if (token) {
            data->token[i] = tokens[index];
        } else {
            embedding(chunk.first + i, data->embd.data() + size_t(i)*n_embd_inp);
        }
        for (int32_t p = 0; p < n_pos; ++p) {
            data->pos[p*n + i] = pos[size_t(p)*n_rows + index];
        }
        if (count_sizes) {
            data->log_size[i] = std::log(rows[chunk.first + i].size);
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

std::vector<int32_t> llama_prefill_rows::reduce(
        row * of, float * x, const float * keys, size_t d, int32_t n, int32_t r, llama_merge_step & step) const {
    std::vector<int32_t> names(n);
    for (int32_t i = 0; i < n; ++i) {
        names[i] = of[i].index - spans[of[i].span].first;
    }
    std::vector<int32_t> kept;

    if (strategy == ILLAVA_STRATEGY_MERGE || strategy == ILLAVA_STRATEGY_PRUNE) {
        auto plan = illava_make_plan(step.scores.data(), n, r);
        if (strategy == ILLAVA_STRATEGY_MERGE) {
            const int32_t into = plan.order.back();
            illava_merge_rows(x, n_embd, plan.order, x + size_t(into)*n_embd);
            for (size_t i = 0; i + 1 < plan.order.size(); ++i) {
                of[into].size += of[plan.order[i]].size;
            }
            step.into = names[into];
        } else {
            plan.order.pop_back(); // the first of those that stay
        }
        kept        = std::move(plan.kept);
        step.merged = std::move(plan.order);
    } else if (strategy == ILLAVA_STRATEGY_RANDOM) {
        step.merged = illava_random_order(seed, 1, step.layer, n);
        kept.assign(step.merged.begin() + r, step.merged.end());
        std::sort(kept.begin(), kept.end());
        step.merged.resize(r);
    } else {
        std::vector<float>   sizes(n);
        std::vector<uint8_t> held(n);
        for (int32_t i = 0; i < n; ++i) {
            sizes[i] = of[i].size;
            held[i]  = of[i].held;
        }
        illava_tokens tokens = { size_t(n), d, keys };
        if (strategy == ILLAVA_STRATEGY_SPARSEVLM) {
            tokens.d        = n_embd;
            tokens.features = x;
        }
        tokens.sizes  = sizes.data();
        tokens.held   = held.data();
        tokens.scores = wants_scores() ? step.scores.data() : nullptr;

        const auto groups = illava_make_groups(strategy, tokens, r);
        kept = illava_survivors(groups.into);

        std::vector<float> means(kept.size()*n_embd);
        illava_merge_groups(x, n_embd, groups.into, groups.weights.data(), illava_strategy_sums(strategy), kept, 0, kept.size(), means.data());
        const auto stands_for = illava_group_sizes(groups.into, sizes.data(), kept);
        for (size_t g = 0; g < kept.size(); ++g) {
            std::memcpy(x + size_t(kept[g])*n_embd, means.data() + g*n_embd, n_embd*sizeof(float));
            of[kept[g]].size = stands_for[g];
        }
        for (int32_t i = 0; i < n; ++i) {
            if (groups.into[i] != i) {
                step.merged.push_back(i);
            }
        }
        if (wants_scores()) { // least attended first
            const auto key = [&](int32_t i) { return std::isnan(step.scores[i]) ? -INFINITY : step.scores[i]; };
            std::stable_sort(step.merged.begin(), step.merged.end(), [&](int32_t a, int32_t b) { return key(a) < key(b); });
        }
        step.sizes  = stands_for;
        step.groups = illava_list_groups(groups.into, names);
    }
    for (int32_t i : kept)            { step.kept.push_back(names[i]); }
    for (int32_t & i : step.merged)   { i = names[i]; }
    return kept;
}

void llama_prefill_rows::merge(
        size_t cut, int32_t layer, int32_t n_head, illava_score score, const std::vector<double> & sums,
        const std::vector<float> & keys, bool keep_residual, std::vector<llama_merge_step> & steps) {
    std::vector<bool> alive(rows.size(), true);
    const size_t d = keys.size()/rows.size();

    for (size_t first = 0; first < rows.size(); ) {
        const int32_t span = rows[first].span;

        size_t last = first;
        while (last < rows.size() && rows[last].span == span) {
            last++;
        }
        const size_t n = last - first;
        std::vector<float> scores;
        for (size_t i = 0; i < n && span >= 0 && wants_scores(); ++i) {
            scores.push_back(float(sums[first + i]/(n_head*n_queries(score, n))));
        }
        const int32_t r = span >= 0 ? n_removed(spans[span], cut, n, scores) : 0;

        if (r > 0) {
            llama_merge_step step;
            step.span  = span;
            step.layer = layer;
            step.n_in  = n;
            step.scores = std::move(scores);

            float *    x    = residual.data() + first*n_embd;
            const auto kept = reduce(rows.data() + first, x, keys.data() + first*d, d, n, r, step);

            std::fill(alive.begin() + first, alive.begin() + last, false);
            for (int32_t i : kept) {
                alive[first + i] = true;
                if (keep_residual) {
                    step.residual.insert(step.residual.end(), x + size_t(i)*n_embd, x + size_t(i + 1)*n_embd);
                }
            }

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
