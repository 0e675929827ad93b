// A cache that is thinned after the prompt: which cells go, what keys and values become, and everything a cache must
// still do: the next token, other sequences, forgetting, saving and restoring, and refusing what cannot be.
//
// Expected rows are made here, in double precision, from the cells of the same prompt without thinning.
//
// Models: the tiny pairs of tools/make_model.py in $ILLAVA_TEST_MODELS.

#include "decoder-fixture.h"
#include "llama-context.h"
#include "llama-kv-segments.h"
#include "llama-kv-thinning.h"
#include "llama-model.h"

#include <algorithm>

namespace {

using namespace fixture;

constexpr int32_t FIRST = 3, N = 64, N_ROWS = 69; // of subject::one_image()

struct step_copy {
    int32_t              layer, span;
    std::vector<int32_t> kept, merged;
    std::vector<float>   scores, rows;
};

struct suite : subject {
    checks & t;

    suite(checks & t, subject of) : subject(std::move(of)), t(t) {}

    size_t n_segments() const { return layers.size() + 1; }

    const llama_kv_segments & cache(llama_context * ctx) const {
        return *static_cast<const llama_kv_segments *>(ctx->get_memory());
    }

    prompt whole() const {
        subject none = { name, nullptr, layers, std::vector<int32_t>(layers.size(), 0) };
        prompt p(model.get(), none.r);
        p.text({ 5, 6, 7 });
        p.image(N, 1);
        p.text({ 8, 9 });
        return p;
    }

    // rows that go in each segment, another number in each
    std::vector<int32_t> gone(size_t n_spans = 1) const {
        std::vector<int32_t> res;
        for (size_t i = 0; i < n_spans*n_segments(); ++i) {
            res.push_back(40 + 7*int32_t(i % n_segments()));
        }
        return res;
    }

    static std::vector<step_copy> steps_of(illava_trace * trace) {
        trace_ptr owner(trace);
        std::vector<step_copy> res;
        for (size_t i = 0; i < illava_trace_n_steps(trace); ++i) {
            illava_step step = {};
            step.size = sizeof(step);
            illava_trace_step(trace, i, &step);
            step_copy copy = { step.layer, step.span, { step.kept, step.kept + step.n_out },
                { step.merged, step.merged + step.n_merged }, { step.scores, step.scores + step.n_scores }, {} };
            const float * rows = nullptr;
            size_t        n    = 0;
            if (illava_trace_residual(trace, i, &rows, &n) == ILLAVA_OK) {
                copy.rows.assign(rows, rows + n);
            }
            res.push_back(std::move(copy));
        }
        return res;
    }

    // One head's part of a row.
    static std::vector<double> part(const std::vector<float> & rows, size_t row, size_t width, size_t begin, size_t d) {
        const auto at = rows.begin() + row*width + begin;
        return std::vector<double>(at, at + d);
    }

    static double cosine(const std::vector<double> & a, const std::vector<double> & b) {
        double ab = 0, aa = 0, bb = 0;
        for (size_t c = 0; c < a.size(); ++c) {
            ab += a[c]*b[c];
            aa += a[c]*a[c];
            bb += b[c]*b[c];
        }
        return ab/std::sqrt(aa*bb);
    }

    // Keys or values [N_ROWS, width] of a layer whose rows merge by the keys, [N_ROWS, width_k].
    static std::vector<float> merged(
            const std::vector<float> & x, size_t width, const std::vector<float> & keys, size_t width_k, size_t n_head,
            const std::vector<int32_t> & kept, illava_thinning how) {
        std::vector<bool> stays(N_ROWS, true);
        for (int32_t i = 0; i < FIRST + N; ++i) {
            stays[i] = i >= FIRST && std::count(kept.begin(), kept.end(), i - FIRST);
        }
        const size_t d = width/n_head, d_k = width_k/n_head;

        std::vector<float> res = x;
        for (size_t h = 0; h < n_head; ++h) {
            std::vector<std::vector<double>> sums(N_ROWS, std::vector<double>(d, 0.0));
            std::vector<double> members(N_ROWS, 0.0);
            for (int32_t i = FIRST; i < FIRST + N; ++i) {
                if (stays[i]) {
                    continue;
                }
                int32_t to   = -1;
                double  best = -2.0;
                for (int32_t j = FIRST; j < N_ROWS; ++j) {
                    const double alike = stays[j] ? cosine(part(keys, i, width_k, h*d_k, d_k), part(keys, j, width_k, h*d_k, d_k)) : -2.0;
                    if (alike > best) {
                        best = alike;
                        to   = j;
                    }
                }
                const auto goes = part(x, i, width, h*d, d), into = part(x, to, width, h*d, d);
                members[to] += 1.0;
                for (size_t c = 0; c < d; ++c) {
                    sums[to][c] += how == ILLAVA_THINNING_PIVOTAL ? (goes[c] + into[c])/2 :
                                   how == ILLAVA_THINNING_WEIGHTED ? best*goes[c] : goes[c];
                }
            }
            for (int32_t j = 0; j < N_ROWS; ++j) {
                for (size_t c = 0; c < d && members[j] > 0; ++c) {
                    float & at = res[j*width + h*d + c];
                    at = float((at + sums[j][c])/(members[j] + 1));
                }
            }
        }
        return res;
    }

    // All rows of a layer as its cache holds them, which has one sequence.
    std::vector<float> rows_of(llama_context * ctx, int32_t il, bool values) const {
        for (const auto & part : cache(ctx).all()) {
            const auto ids = part.cache->get_layer_ids();
            const auto at  = std::find(ids.begin(), ids.end(), uint32_t(il));
            if (at == ids.end()) {
                continue;
            }
            std::vector<uint32_t> cells(N_ROWS);
            for (int32_t i = 0; i < N_ROWS; ++i) { cells[i] = i; }
            const auto all = llama_read_cells(*part.cache, model->hparams, 0, cells);
            size_t begin = 0, size = 0;
            for (bool of_values : { false, true }) {
                for (auto it = ids.begin(); it != ids.end(); ++it) {
                    begin += size;
                    size = N_ROWS*size_t(of_values ? model->hparams.n_embd_v_gqa(*it) : model->hparams.n_embd_k_gqa(*it));
                    if (it == at && of_values == values) {
                        return { all.begin() + begin, all.begin() + begin + size };
                    }
                }
            }
        }
        return {};
    }

    void rows_merge(context_options o, illava_thinning how, double tolerance, const std::string & what) {
        const bool window = model->hparams.is_swa_any();
        llama_ctx_ptr plain, thin;
        make_context(model.get(), o, plain);
        make_context(model.get(), o, thin);
        if (!t.expect(plain && thin, label(what + ": contexts"))) {
            return;
        }
        auto p = whole();
        auto params = p.params(ILLAVA_SCORE_PROMPT);
        const auto before = run(plain.get(), params);

        const auto r = gone();
        params.thinning      = how;
        params.thinned       = r.data();
        params.keep_residual = true;
        illava_trace * trace = nullptr;
        if (!t.expect(illava_prefill(thin.get(), &params, &trace) == ILLAVA_OK, label(what + ": prefill"))) {
            return;
        }
        t.expect(last_logits(thin.get()) == before.logits, label(what + ": the prompt's logits are those without thinning"));
        const auto steps = steps_of(trace);
        t.expect(steps.size() == n_segments(), label(what + ": a step for each segment"));

        for (size_t s = 0; s < steps.size(); ++s) {
            const auto & step   = steps[s];
            const auto   bounds = cache(thin.get()).layers(s);
            t.expect(step.layer == bounds.begin && int32_t(step.merged.size()) == r[s] && step.scores.size() == N,
                    label(what + ": the segment's step"));

            // half of the share that stays is of the prompt's latest rows; the text behind the picture is among them
            const int32_t n_latest = std::max(0, N_ROWS*(N - r[s])/(2*N) - 2);
            std::vector<std::pair<std::pair<bool, float>, int32_t>> order;
            for (int32_t i = 0; i < N; ++i) { order.push_back({ { i >= N - n_latest, step.scores[i] }, i }); }
            std::sort(order.begin(), order.end());
            std::vector<int32_t> least;
            for (int32_t i = 0; i < r[s]; ++i) { least.push_back(order[i].second); }
            t.expect(step.merged == least, label(what + ": the least attended go, the latest last"));

            illava_segment segment = {};
            segment.size = sizeof(segment);
            illava_context_segment(thin.get(), s, &segment);
            t.expect(segment.n_used == uint32_t(N_ROWS - r[s]), label(what + ": their cells are free"));

            if (window) {
                continue; // a segment's rows come cache by cache there
            }
            std::vector<float> expected;
            for (bool values : { false, true }) {
                for (int32_t il = bounds.begin; il < bounds.end; ++il) {
                    const auto   keys = rows_of(plain.get(), il, false);
                    const auto   x    = values ? rows_of(plain.get(), il, true) : keys;
                    const size_t n_k = keys.size()/N_ROWS, n_x = x.size()/N_ROWS;
                    const auto   rows = merged(x, n_x, keys, n_k, model->hparams.n_head_kv(il), step.kept, how);
                    for (int32_t i : step.kept) {
                        expected.insert(expected.end(), rows.begin() + (FIRST + i)*n_x, rows.begin() + (FIRST + i + 1)*n_x);
                    }
                }
            }
            t.expect(distance(step.rows, expected) < tolerance, label(what + ": keys and values merge as they should"));
        }
        const auto next = decode_text(thin.get(), { 11 }, p.next);
        t.expect(!next.empty() && distance(next, decode_text(plain.get(), { 11 }, p.next)) > 1e-5,
                label(what + ": the next token sees the thinned cache"));
    }

    // the same whatever the ubatches, and after a state was saved and restored elsewhere
    void states_and_ubatches() {
        const auto r = gone();
        logits_t expected;
        std::vector<uint8_t> saved;
        auto p = whole();
        for (uint32_t n_ubatch : { 512u, 64u }) {
            auto o = options();
            o.n_ubatch = n_ubatch;
            llama_ctx_ptr ctx, other;
            make_context(model.get(), o, ctx);
            make_context(model.get(), o, other);
            auto params = p.params(ILLAVA_SCORE_PROMPT);
            params.thinning = ILLAVA_THINNING_PIVOTAL;
            params.thinned  = r.data();
            t.expect(illava_prefill(ctx.get(), &params, nullptr) == ILLAVA_OK, label("prefill"));
            saved.resize(llama_state_seq_get_size(ctx.get(), 0));
            llama_state_seq_get_data(ctx.get(), saved.data(), saved.size(), 0);
            t.expect(llama_state_seq_set_data(other.get(), saved.data(), saved.size(), 0) > 0, label("a thinned sequence is restored"));

            const auto next = decode_text(ctx.get(), { 11, 12 }, p.next);
            expected = expected.empty() ? next : expected;
            t.expect(distance(next, expected) < 2e-3, label("the same by smaller ubatches"));
            t.expect(distance(decode_text(other.get(), { 11, 12 }, p.next), next) < 2e-3, label("and after a restore"));
        }
    }

    // in one cache with others, whose rows stay; what is forgotten leaves nothing
    void other_sequences() {
        for (bool unified : { true, false }) {
            auto o = options();
            o.n_seq_max = 2;
            o.n_ctx     = 1024;
            o.unified   = unified;
            llama_ctx_ptr alone, shared;
            make_context(model.get(), o, alone);
            make_context(model.get(), o, shared);

            auto text = prompt(model.get(), std::vector<int32_t>(layers.size(), 0));
            text.text({ 20, 21, 22, 23 });
            auto other = text.params();
            const auto r = gone(2);
            auto p = whole();
            p.image(49, 9);
            p.text({ 13 });
            auto params = p.params(ILLAVA_SCORE_PROMPT);
            params.thinning = ILLAVA_THINNING_AVERAGED;
            std::vector<int32_t> both = r;
            for (size_t i = n_segments(); i < both.size(); ++i) { both[i] = 30; }
            params.thinned = both.data();

            run(alone.get(), params);
            const auto expected = decode_text(alone.get(), { 11 }, p.next);

            other.seq_id = 1;
            run(shared.get(), other);
            t.expect(run(shared.get(), params).kept.size() == 2*n_segments(), label("both pictures are thinned"));
            t.expect(distance(decode_text(shared.get(), { 11 }, p.next), expected) < 2e-3, label("beside another sequence"));
            llama_ctx_ptr fresh;
            make_context(model.get(), o, fresh);
            run(fresh.get(), other);
            t.expect(distance(decode_text(shared.get(), { 24 }, 4, 1), decode_text(fresh.get(), { 24 }, 4, 1)) < 2e-3,
                    label("the other sequence is as it was"));

            llama_memory_seq_rm(llama_get_memory(shared.get()), 0, FIRST, -1);
            llama_memory_seq_rm(llama_get_memory(shared.get()), 1, 0, -1);
            for (size_t s = 0; s < n_segments(); ++s) {
                illava_segment segment = {};
                segment.size = sizeof(segment);
                illava_context_segment(shared.get(), s, &segment);
                t.expect(segment.n_used == FIRST, label("the text before the picture is left"));
            }
            run(shared.get(), params = p.params(ILLAVA_SCORE_PROMPT));
        }
    }

    void refusals() {
        auto o = options();
        llama_ctx_ptr ctx;
        make_context(model.get(), o, ctx);
        auto p = whole();
        auto r = gone();
        const auto status = [&](illava_thinning how, const std::vector<int32_t> & thinned) {
            auto params = p.params(ILLAVA_SCORE_PROMPT);
            params.thinning = how;
            params.thinned  = thinned.empty() ? nullptr : thinned.data();
            return illava_prefill(ctx.get(), &params, nullptr);
        };
        auto all = r;
        all.back() = N;
        t.expect(status((illava_thinning) 9, r) == ILLAVA_BAD_ARG, label("no such way"));
        t.expect(status(ILLAVA_THINNING_PIVOTAL, all) == ILLAVA_BAD_ARG, label("a picture keeps a row"));
        t.expect(status(ILLAVA_THINNING_PIVOTAL, {}) != ILLAVA_OK, label("numbers are needed"));
        p = one_image();
        t.expect(status(ILLAVA_THINNING_PIVOTAL, r) == ILLAVA_BAD_ARG, label("rows that go before, too"));
    }
};

void all(checks & t) {
    for (auto & of : subjects(t)) {
        suite s(t, std::move(of));
        auto o = s.options();
        o.type_kv    = GGML_TYPE_F32;
        o.flash_attn = 0;
        s.rows_merge(o, ILLAVA_THINNING_PIVOTAL,  1e-6, "pivotal");
        s.rows_merge(o, ILLAVA_THINNING_AVERAGED, 1e-6, "averaged");
        s.rows_merge(o, ILLAVA_THINNING_WEIGHTED, 1e-6, "weighted");
        o = s.options();
        s.rows_merge(o, ILLAVA_THINNING_PIVOTAL,  5e-4, "f16");
        o.flash_attn = 0;
        s.rows_merge(o, ILLAVA_THINNING_PIVOTAL,  5e-4, "f16, transposed values");
        const auto & h = s.model->hparams;
        if (h.n_embd_head_k() % 32 == 0 && h.n_embd_head_v() % 32 == 0) {
            o.flash_attn = 1;
            o.type_kv    = GGML_TYPE_Q8_0;
            s.rows_merge(o, ILLAVA_THINNING_PIVOTAL, 1e-2, "q8_0");
        }
        s.states_and_ubatches();
        s.other_sequences();
        s.refusals();
    }
}

} // namespace

int main() {
    return run_checks(all);
}
