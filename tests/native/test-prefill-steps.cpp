// A prefill taken one ubatch at a time: the result of the one call bit for bit, whatever other sequences do between
// its steps; cancelled or refused anywhere, it leaves nothing behind.
//
// Models: the tiny pairs of tools/make_model.py in $ILLAVA_TEST_MODELS.

#include "illava.h"

#include "graph-fixture.h"

#include <cmath>
#include <cstdlib>

namespace {

using fixture::releaser;

using model_ptr   = std::unique_ptr<llama_model,        releaser<llama_model_free>>;
using context_ptr = std::unique_ptr<llama_context,      releaser<llama_free>>;
using trace_ptr   = std::unique_ptr<illava_trace,       releaser<illava_trace_free>>;
using run_ptr     = std::unique_ptr<illava_prefill_run, releaser<illava_prefill_free>>;

// text, 64 visual rows, text: longer than several of the ubatches below
struct prompt {
    std::vector<llama_token> tokens;
    std::vector<float>       embd;
    std::vector<llama_pos>   pos;
    illava_span              span;
    llama_pos                next = 0;

    prompt(llama_model * model, const std::vector<int32_t> & r, uint32_t seed) {
        const int32_t n_pos  = illava_model_n_pos(model);
        const int32_t n_embd = llama_model_n_embd(model);
        const int32_t n      = 64;
        const int32_t side   = 8;

        std::vector<std::vector<llama_pos>> rows(n_pos);
        const auto place = [&](llama_token token, llama_pos row, llama_pos column) {
            tokens.push_back(token);
            const llama_pos at[4] = { n_pos == 1 ? next + row*side + column : next, next + row, next + column, 0 };
            for (int32_t k = 0; k < n_pos; ++k) {
                rows[k].push_back(at[k]);
            }
        };
        const auto text = [&](llama_token token) {
            place(token, 0, 0);
            next++;
        };

        for (llama_token token : { 5, 6, 7 }) { text(token); }
        span = { int32_t(tokens.size()), n, r.data() };
        for (int32_t i = 0; i < n; ++i) { place(-1, i/side, i%side); }
        next += n_pos == 1 ? n : side;
        for (llama_token token : { 8, 9, 10 }) { text(token); }

        embd.assign(tokens.size()*n_embd, 0.0f);
        const auto values = fixture::normal(size_t(n)*n_embd, 0.5f, seed);
        std::copy(values.begin(), values.end(), embd.begin() + size_t(span.first)*n_embd);
        for (const auto & row : rows) { pos.insert(pos.end(), row.begin(), row.end()); }
    }

    illava_prefill_params params(llama_seq_id seq, illava_score score) const {
        illava_prefill_params p = {};
        p.size        = sizeof(p);
        p.n_rows      = tokens.size();
        p.tokens      = tokens.data();
        p.embd        = embd.data();
        p.pos         = pos.data();
        p.seq_id      = seq;
        p.spans       = &span;
        p.n_spans     = 1;
        p.score       = score;
        p.logits_last = true;
        return p;
    }
};

struct outcome {
    std::vector<float>   logits;
    std::vector<float>   scores;
    std::vector<int32_t> kept;
};

std::vector<float> logits_of(llama_context * ctx, int32_t row) {
    const int32_t n = llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(ctx)));
    const float * x = llama_get_logits_ith(ctx, row);
    return x ? std::vector<float>(x, x + n) : std::vector<float>();
}

outcome read(llama_context * ctx, illava_trace * trace) {
    trace_ptr owner(trace);
    outcome res;
    res.logits = logits_of(ctx, -1);
    for (size_t i = 0; i < illava_trace_n_steps(trace); ++i) {
        illava_step step = {};
        step.size = sizeof(step);
        if (illava_trace_step(trace, i, &step) == ILLAVA_OK) {
            res.scores.insert(res.scores.end(), step.scores, step.scores + step.n_in);
            res.kept  .insert(res.kept.end(),   step.kept,   step.kept   + step.n_out);
        }
    }
    return res;
}

double distance(const std::vector<float> & a, const std::vector<float> & b) {
    if (a.size() != b.size() || a.empty()) {
        return INFINITY;
    }
    double diff = 0, norm = 0;
    for (size_t i = 0; i < a.size(); ++i) {
        diff += double(a[i] - b[i])*(a[i] - b[i]);
        norm += double(b[i])*b[i];
    }
    return std::sqrt(diff/norm);
}

struct suite {
    fixture::checks &    t;
    std::string          name;
    llama_model *        model;
    std::vector<int32_t> layers;
    std::vector<int32_t> r;

    void expect(bool ok, const std::string & what) const { t.expect(ok, name + ": " + what); }

    context_ptr context(bool unified, std::vector<uint32_t> deep = {}) const {
        illava_context_params p = {};
        p.size            = sizeof(p);
        p.n_ctx           = 768;
        p.n_batch         = 256;
        p.n_ubatch        = 16;
        p.n_seq_max       = 3;
        p.n_threads       = 1;
        p.n_threads_batch = 1;
        p.flash_attn      = 1;
        p.type_k          = GGML_TYPE_F16;
        p.type_v          = GGML_TYPE_F16;
        p.kv_unified      = unified;
        p.merge_layers    = layers.data();
        p.n_merge_layers  = layers.size();
        p.n_ctx_deep      = deep.empty() ? nullptr : deep.data();

        llama_context * ctx = nullptr;
        expect(illava_context_new(model, &p, &ctx) == ILLAVA_OK, "context");
        return context_ptr(ctx);
    }

    // one token of each sequence in one batch
    static bool decode(llama_context * ctx, const std::vector<std::pair<llama_seq_id, llama_pos>> & at, llama_token token) {
        llama_batch batch = llama_batch_init(at.size(), 0, 1);
        for (size_t i = 0; i < at.size(); ++i) {
            batch.token[i]     = token;
            batch.pos[i]       = at[i].second;
            batch.n_seq_id[i]  = 1;
            batch.seq_id[i][0] = at[i].first;
            batch.logits[i]    = true;
        }
        batch.n_tokens = at.size();
        const int status = llama_decode(ctx, batch);
        llama_batch_free(batch);
        return status == 0;
    }

    outcome at_once(llama_context * ctx, const prompt & p, llama_seq_id seq, illava_score score) const {
        const auto params = p.params(seq, score);
        illava_trace * trace = nullptr;
        if (!t.expect(illava_prefill(ctx, &params, &trace) == ILLAVA_OK, name + ": in one call")) {
            return {};
        }
        return read(ctx, trace);
    }

    uint32_t used(llama_context * ctx) const {
        uint32_t res = 0;
        for (size_t i = 0; i < illava_context_n_segments(ctx); ++i) {
            illava_segment segment = {};
            segment.size = sizeof(segment);
            illava_context_segment(ctx, i, &segment);
            res += segment.n_used;
        }
        return res;
    }

    // a sequence decodes, another prefills, while this one takes its steps
    void interleaved(bool unified, illava_score score) const {
        const std::string kind = std::string(unified ? "shared cells, " : "a stream each, ") +
            (score == ILLAVA_SCORE_IMAGE ? "image score" : "last-token score");

        const prompt p(model, r, 1);
        const prompt q(model, r, 2);

        auto quiet = context(unified);
        const outcome expected_p = at_once(quiet.get(), p, 1, score);
        decode(quiet.get(), { { 1, p.next } }, 11);
        const auto expected_next = logits_of(quiet.get(), 0);
        auto quiet_q = context(unified);
        const outcome expected_q = at_once(quiet_q.get(), q, 2, score);

        auto busy = context(unified);
        llama_pos other = 0;
        expect(decode(busy.get(), { { 0, other++ } }, 12), kind + ": another sequence decodes");

        const auto params_p = p.params(1, score);
        const auto params_q = q.params(2, score);
        illava_prefill_run * raw_p = nullptr;
        illava_prefill_run * raw_q = nullptr;
        expect(illava_prefill_begin(busy.get(), &params_p, &raw_p) == ILLAVA_OK, kind + ": begin");
        expect(illava_prefill_begin(busy.get(), &params_q, &raw_q) == ILLAVA_OK, kind + ": begin a second");
        run_ptr run_p(raw_p), run_q(raw_q);

        outcome got_p, got_q;
        bool done_p = false, done_q = false;
        int n_steps = 0;
        while (!done_p || !done_q) {
            illava_trace * trace = nullptr;
            if (!done_p) {
                if (!t.expect(illava_prefill_step(raw_p, &done_p, &trace) == ILLAVA_OK, name + ": " + kind + ": step")) {
                    return;
                }
                n_steps++;
                if (done_p) { got_p = read(busy.get(), trace); }
            }
            if (!done_q) {
                trace = nullptr;
                if (!t.expect(illava_prefill_step(raw_q, &done_q, &trace) == ILLAVA_OK, name + ": " + kind + ": step of the second")) {
                    return;
                }
                if (done_q) { got_q = read(busy.get(), trace); }
            }
            expect(decode(busy.get(), { { 0, other++ } }, 13), kind + ": the other sequence goes on");
        }
        // 1 + 4 + 1 ubatches in the first segment, fewer in the others
        expect(layers.empty() ? n_steps == 6 : n_steps > 6, kind + ": in " + std::to_string(n_steps) + " steps");
        expect(illava_prefill_step(raw_p, &done_p, nullptr) == ILLAVA_BAD_ARG, kind + ": nothing follows the last step");

        expect(got_p.kept == expected_p.kept && !got_p.kept.empty() == !layers.empty(), kind + ": the same tokens are kept");
        if (unified) {
            // cells lie in another order, and so do the terms of each sum
            expect(distance(got_p.logits, expected_p.logits) < 2e-3, kind + ": logits");
            expect(distance(got_q.logits, expected_q.logits) < 2e-3, kind + ": the second's logits");
        } else {
            expect(got_p.logits == expected_p.logits && !got_p.logits.empty(), kind + ": the same logits, bit for bit");
            expect(got_p.scores == expected_p.scores, kind + ": the same scores, bit for bit");
            expect(got_q.logits == expected_q.logits && got_q.kept == expected_q.kept, kind + ": the second, bit for bit");
        }
        expect(decode(busy.get(), { { 0, other++ }, { 1, p.next } }, 11), kind + ": both go on in one batch");
        expect(distance(logits_of(busy.get(), 1), expected_next) < 2e-3, kind + ": what was prefilled goes on alike");
    }

    void alone(illava_score score) const {
        for (bool unified : { true, false }) {
            const prompt p(model, r, 1);
            auto one = context(unified);
            const outcome expected = at_once(one.get(), p, 1, score);

            auto many = context(unified);
            const auto params = p.params(1, score);
            illava_prefill_run * raw = nullptr;
            expect(illava_prefill_begin(many.get(), &params, &raw) == ILLAVA_OK, "begin");
            run_ptr run(raw);
            bool done = false;
            illava_trace * trace = nullptr;
            while (!done && illava_prefill_step(raw, &done, &trace) == ILLAVA_OK) {
            }
            if (t.expect(done, name + ": done")) {
                const outcome got = read(many.get(), trace);
                expect(got.logits == expected.logits && got.scores == expected.scores && got.kept == expected.kept,
                        "steps give what one call gives, bit for bit");
            }
        }
    }

    void cancelled_at_every_step() const {
        const prompt p(model, r, 1);
        for (bool unified : { true, false }) {
            auto ctx = context(unified);
            decode(ctx.get(), { { 0, 0 } }, 12);
            const uint32_t before = used(ctx.get());
            const auto params = p.params(1, ILLAVA_SCORE_IMAGE);

            bool done = false;
            int  n    = 0;
            for (; !done; ++n) {
                illava_prefill_run * raw = nullptr;
                if (!t.expect(illava_prefill_begin(ctx.get(), &params, &raw) == ILLAVA_OK, name + ": begin again")) {
                    return;
                }
                run_ptr run(raw);
                for (int i = 0; i < n && !done; ++i) {
                    illava_prefill_step(raw, &done, nullptr);
                }
                if (!done) {
                    run.reset();
                    expect(used(ctx.get()) == before, "cancelled after " + std::to_string(n) + " steps, nothing is left");
                    expect(llama_memory_seq_pos_max(llama_get_memory(ctx.get()), 1) == -1, "and its sequence is empty");
                }
            }
            expect(n > 6, "it has many steps");
            expect(decode(ctx.get(), { { 0, 1 }, { 1, p.next } }, 13), "then it can be done after all");
        }
    }

    void full() const {
        const prompt p(model, r, 1);
        const auto params = p.params(1, ILLAVA_SCORE_IMAGE);
        illava_prefill_run * raw = nullptr;

        if (!layers.empty()) {
            auto narrow = context(true, std::vector<uint32_t>(layers.size(), 32));
            expect(illava_prefill_begin(narrow.get(), &params, &raw) == ILLAVA_KV_FULL && !raw, "no room in a deeper segment");
        }

        // room at first, which another sequence then takes
        auto ctx = context(true);
        expect(illava_prefill_begin(ctx.get(), &params, &raw) == ILLAVA_OK, "room as things stand");
        run_ptr run(raw);
        bool done = false;
        expect(illava_prefill_step(raw, &done, nullptr) == ILLAVA_OK, "a first step");
        llama_pos at = 0;
        while (at < 768 && decode(ctx.get(), { { 0, at } }, 12)) {
            at++;
        }
        illava_status status = ILLAVA_OK;
        while (!done && status == ILLAVA_OK) {
            status = illava_prefill_step(raw, &done, nullptr);
        }
        expect(status == ILLAVA_KV_FULL, "full half-way");
        expect(llama_memory_seq_pos_max(llama_get_memory(ctx.get()), 1) == -1, "and nothing of it is left");
        expect(decode(ctx.get(), { { 0, at } }, 12), "its cells are free for the other sequence");
    }
};

} // namespace

int main() {
    fixture::checks t;

    const char * dir = std::getenv("ILLAVA_TEST_MODELS");
    if (!dir) {
        fprintf(stderr, "set ILLAVA_TEST_MODELS to the folder that tools/make_model.py wrote\n");
        return 1;
    }

    llama_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    llama_backend_init();

    for (const char * pair : { "siglip-qwen2-f32", "clip-llama-f32", "qwen2vl-f32" }) {
        auto params = llama_model_default_params();
        params.n_gpu_layers = 0;
        model_ptr model(llama_model_load_from_file((std::string(dir) + "/" + pair + "/text.gguf").c_str(), params));
        if (!t.expect(model != nullptr, std::string(pair) + " loads from " + dir)) {
            continue;
        }
        const std::vector<std::pair<std::vector<int32_t>, std::vector<int32_t>>> cuts = {
            { {}, {} }, { { 2 }, { 19 } }, { { 6, 7, 8 }, { 6, 0, 4 } },
        };
        for (const auto & [layers, r] : cuts) {
            const suite s{ t, std::string(pair) + ", " + std::to_string(layers.size()) + " merge layers", model.get(), layers, r };
            for (auto score : { ILLAVA_SCORE_IMAGE, ILLAVA_SCORE_LAST_TOKEN }) {
                s.alone(score);
                s.interleaved(false, score);
                s.interleaved(true, score);
            }
            s.cancelled_at_every_step();
            s.full();
        }
    }

    llama_backend_free();
    return t.finish();
}
