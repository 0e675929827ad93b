// Merging in the decoder: what must not change it (ubatch size, other sequences, chunking, the score's kernel), and
// what a cache that shrinks with depth must still do (chat on, forget, save and restore, refuse). The values
// themselves are held against a float64 reference by the Rust tests.
//
// Models: the tiny pairs of tools/make_model.py in $ILLAVA_TEST_MODELS.

#include "illava.h"

#include "graph-fixture.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>

namespace {

using logits_t = std::vector<float>;

struct model_deleter   { void operator()(llama_model   * m) const { llama_model_free(m); } };
struct context_deleter { void operator()(llama_context * c) const { llama_free(c); } };
struct trace_deleter   { void operator()(illava_trace  * t) const { illava_trace_free(t); } };

using model_ptr   = std::unique_ptr<llama_model,   model_deleter>;
using context_ptr = std::unique_ptr<llama_context, context_deleter>;
using trace_ptr   = std::unique_ptr<illava_trace,  trace_deleter>;

struct context_options {
    uint32_t             n_ubatch   = 512;
    uint32_t             n_seq_max  = 1;
    uint32_t             n_ctx      = 512;
    bool                 unified    = true;
    int                  flash_attn = 1;
    ggml_type            type_kv    = GGML_TYPE_F16;
    std::vector<int32_t> layers     = { 2 };
    std::vector<uint32_t> deep      = {};
};

illava_status make_context(llama_model * model, const context_options & o, context_ptr & out) {
    illava_context_params p = {};
    p.size            = sizeof(p);
    p.n_ctx           = o.n_ctx;
    p.n_batch         = o.n_ctx;
    p.n_ubatch        = o.n_ubatch;
    p.n_seq_max       = o.n_seq_max;
    p.n_threads       = 1;
    p.n_threads_batch = 1;
    p.flash_attn      = o.flash_attn;
    p.type_k          = o.type_kv;
    p.type_v          = o.type_kv;
    p.kv_unified      = o.unified;
    p.merge_layers    = o.layers.data();
    p.n_merge_layers  = o.layers.size();
    p.n_ctx_deep      = o.deep.empty() ? nullptr : o.deep.data();

    llama_context * ctx = nullptr;
    const auto status = illava_context_new(model, &p, &ctx);
    out.reset(ctx);
    return status;
}

// text, one or more visual spans of `n_visual` random rows, text
struct prompt {
    std::vector<llama_token> tokens;
    std::vector<float>       embd;
    std::vector<llama_pos>   pos;
    std::vector<illava_span> spans;
    std::vector<int32_t>     r;
    int32_t                  n_pos;
    int32_t                  n_embd;
    llama_pos                next = 0;

    prompt(llama_model * model, std::vector<int32_t> r_per_layer, llama_pos first = 0) :
        r(std::move(r_per_layer)), n_pos(illava_model_n_pos(model)), n_embd(llama_model_n_embd(model)), next(first) {}

    int32_t n_rows() const { return tokens.size(); }

    void text(std::vector<llama_token> ids) {
        for (llama_token id : ids) {
            tokens.push_back(id);
            embd.insert(embd.end(), n_embd, 0.0f);
            coordinates.push_back({ next, next, next, 0 });
            next++;
        }
    }

    // a grid for M-RoPE, a line otherwise
    void image(int32_t n, uint32_t seed) {
        const int32_t side = n_pos > 1 ? int32_t(std::lround(std::sqrt(double(n)))) : n;
        spans.push_back({ n_rows(), n, nullptr });
        const auto values = fixture::normal(size_t(n)*n_embd, 0.5f, seed);
        embd.insert(embd.end(), values.begin(), values.end());
        for (int32_t i = 0; i < n; ++i) {
            tokens.push_back(-1);
            if (n_pos > 1) {
                coordinates.push_back({ next, next + i/side, next + i%side, 0 });
            } else {
                coordinates.push_back({ next + i, 0, 0, 0 });
            }
        }
        next += side;
    }

    illava_prefill_params params(illava_score score = ILLAVA_SCORE_IMAGE) {
        pos.resize(size_t(n_pos)*n_rows());
        for (int32_t k = 0; k < n_pos; ++k) {
            for (int32_t i = 0; i < n_rows(); ++i) {
                pos[size_t(k)*n_rows() + i] = coordinates[i][k];
            }
        }
        for (auto & span : spans) {
            span.r = r.data();
        }
        illava_prefill_params p = {};
        p.size        = sizeof(p);
        p.n_rows      = n_rows();
        p.tokens      = tokens.data();
        p.embd        = embd.data();
        p.pos         = pos.data();
        p.spans       = spans.data();
        p.n_spans     = spans.size();
        p.score       = score;
        p.logits_last = true;
        return p;
    }

private:
    std::vector<std::array<llama_pos, 4>> coordinates;
};

struct outcome {
    illava_status                     status = ILLAVA_INTERNAL;
    logits_t                          logits;
    std::vector<std::vector<int32_t>> kept;
};

logits_t last_logits(llama_context * ctx) {
    const int32_t n = llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(ctx)));
    const float * row = llama_get_logits_ith(ctx, -1);
    return row ? logits_t(row, row + n) : logits_t();
}

outcome run(llama_context * ctx, const illava_prefill_params & p) {
    outcome res;
    illava_trace * trace = nullptr;
    res.status = illava_prefill(ctx, &p, &trace);
    trace_ptr owner(trace);
    if (res.status == ILLAVA_OK) {
        res.logits = last_logits(ctx);
        for (size_t i = 0; i < illava_trace_n_steps(trace); ++i) {
            illava_step step = {};
            step.size = sizeof(step);
            if (illava_trace_step(trace, i, &step) == ILLAVA_OK) {
                res.kept.emplace_back(step.kept, step.kept + step.n_out);
            }
        }
    }
    return res;
}

logits_t decode_text(llama_context * ctx, std::vector<llama_token> ids, llama_pos first, llama_seq_id seq = 0) {
    llama_batch batch = llama_batch_init(ids.size(), 0, 1);
    for (size_t i = 0; i < ids.size(); ++i) {
        batch.token[i]     = ids[i];
        batch.pos[i]       = first + llama_pos(i);
        batch.n_seq_id[i]  = 1;
        batch.seq_id[i][0] = seq;
        batch.logits[i]    = i + 1 == ids.size();
    }
    batch.n_tokens = ids.size();
    const int status = llama_decode(ctx, batch);
    llama_batch_free(batch);
    return status == 0 ? last_logits(ctx) : logits_t();
}

double distance(const logits_t & a, const logits_t & b) {
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
    fixture::checks & t;
    std::string       name;
    model_ptr         model;
    std::vector<int32_t> layers;
    std::vector<int32_t> r;

    std::string label(const std::string & what) const { return name + ": " + what; }

    prompt one_image() const {
        prompt p(model.get(), r);
        p.text({ 5, 6, 7 });
        p.image(64, 1);
        p.text({ 8, 9 });
        return p;
    }

    outcome reference(illava_score score = ILLAVA_SCORE_IMAGE) const {
        context_options o;
        o.layers = layers;
        context_ptr ctx;
        make_context(model.get(), o, ctx);
        auto p = one_image();
        return run(ctx.get(), p.params(score));
    }

    void unmerged_is_stock() {
        auto p = one_image();
        std::vector<int32_t> zeros(layers.size(), 0);
        auto params = p.params();
        for (auto & span : p.spans) {
            span.r = zeros.data();
        }

        logits_t results[2];
        for (bool cut : { false, true }) {
            context_options o;
            o.layers = cut ? layers : std::vector<int32_t>();
            context_ptr ctx;
            t.expect(make_context(model.get(), o, ctx) == ILLAVA_OK, label("context"));
            results[cut] = run(ctx.get(), params).logits;
        }
        t.expect(!results[0].empty() && results[0] == results[1], label("r = 0 through segments is bit-identical to one cache"));
    }

    void settings_do_not_change_the_result() {
        for (auto score : { ILLAVA_SCORE_IMAGE, ILLAVA_SCORE_LAST_TOKEN }) {
            const auto expected = reference(score);
            const std::string which = score == ILLAVA_SCORE_IMAGE ? "image score" : "last-token score";
            t.expect(expected.kept.size() == layers.size(), label(which + " merges at every layer"));

            for (uint32_t n_ubatch : { 7u, 16u, 33u }) {
                context_options o;
                o.layers   = layers;
                o.n_ubatch = n_ubatch;
                context_ptr ctx;
                make_context(model.get(), o, ctx);
                auto p = one_image();
                const auto got = run(ctx.get(), p.params(score));
                t.expect(got.kept == expected.kept, label(which + ": n_ubatch " + std::to_string(n_ubatch) + " keeps the same tokens"));
                t.expect(distance(got.logits, expected.logits) < 2e-3, label(which + ": n_ubatch " + std::to_string(n_ubatch) + " logits"));
            }
            {
                context_options o;
                o.layers     = layers;
                o.flash_attn = 0;
                context_ptr ctx;
                make_context(model.get(), o, ctx);
                auto p = one_image();
                const auto got = run(ctx.get(), p.params(score));
                t.expect(got.kept == expected.kept, label(which + ": flash attention off keeps the same tokens"));
                t.expect(distance(got.logits, expected.logits) < 5e-3, label(which + ": flash attention off logits"));
            }
            {
                context_options o;
                o.layers = layers;
                context_ptr ctx;
                make_context(model.get(), o, ctx);
                auto p = one_image();
                auto params = p.params(score);
                params.composed_score = true;
                const auto got = run(ctx.get(), params);
                t.expect(got.kept == expected.kept, label(which + ": the composed score keeps the same tokens"));
            }
        }
    }

    // the deep caches hold exactly the survivors
    void cells() {
        context_options o;
        o.layers = layers;
        context_ptr ctx;
        make_context(model.get(), o, ctx);
        auto p = one_image();
        run(ctx.get(), p.params());

        uint32_t expected = p.n_rows();
        for (size_t i = 0; i < illava_context_n_segments(ctx.get()); ++i) {
            illava_segment segment = {};
            segment.size = sizeof(segment);
            t.expect(illava_context_segment(ctx.get(), i, &segment) == ILLAVA_OK, label("segment"));
            t.expect(segment.n_used == expected, label("segment " + std::to_string(i) + " holds " + std::to_string(segment.n_used) +
                        " cells, expected " + std::to_string(expected)));
            if (i < r.size()) {
                expected -= r[i];
            }
        }
    }

    void several_images_and_sequences() {
        // two images in one call against the same call cut after the first image
        context_options o;
        o.layers    = layers;
        o.n_seq_max = 3;
        o.n_ctx     = 1536;
        for (bool unified : { true, false }) {
            o.unified = unified;

            auto build = [&](uint32_t seed) {
                prompt p(model.get(), r);
                p.text({ 5, 6 });
                p.image(64, seed);
                p.text({ 10 });
                p.image(49, seed + 100);
                p.text({ 8, 9 });
                return p;
            };

            context_ptr alone;
            make_context(model.get(), o, alone);
            auto whole = build(1);
            const auto expected = run(alone.get(), whole.params());
            const auto expected_next = decode_text(alone.get(), { 11 }, whole.next);
            t.expect(expected.kept.size() == 2*layers.size(), label("both images merge"));

            context_ptr shared;
            make_context(model.get(), o, shared);
            logits_t got, other;
            for (llama_seq_id seq : { 2, 0, 1 }) {
                auto p = build(seq == 1 ? 1 : 40 + seq);
                auto params = p.params();
                params.seq_id = seq;
                const auto res = run(shared.get(), params);
                if (seq == 1) {
                    got = res.logits;
                    t.expect(res.kept == expected.kept, label("other sequences do not change what is kept"));
                }
            }
            t.expect(distance(got, expected.logits) < 2e-3, label("other sequences do not change the logits"));

            // text of all three sequences in one batch
            llama_batch batch = llama_batch_init(3, 0, 1);
            for (int i = 0; i < 3; ++i) {
                batch.token[i]     = 11;
                batch.pos[i]       = whole.next;
                batch.n_seq_id[i]  = 1;
                batch.seq_id[i][0] = i;
                batch.logits[i]    = true;
            }
            batch.n_tokens = 3;
            t.expect(llama_decode(shared.get(), batch) == 0, label("one batch of three sequences"));
            llama_batch_free(batch);
            const float * row = llama_get_logits_ith(shared.get(), 1);
            t.expect(distance(logits_t(row, row + expected_next.size()), expected_next) < 2e-3, label("its logits"));
        }
    }

    void chat_goes_on() {
        context_options o;
        o.layers = layers;
        context_ptr ctx;
        make_context(model.get(), o, ctx);

        auto p = one_image();
        run(ctx.get(), p.params());
        const auto first = decode_text(ctx.get(), { 12, 13 }, p.next);

        // a second image in a later turn
        prompt later(model.get(), r, p.next + 2);
        later.text({ 14 });
        later.image(64, 9);
        later.text({ 15 });
        const auto second = run(ctx.get(), later.params());
        t.expect(second.status == ILLAVA_OK && second.kept.size() == layers.size(), label("a second image in a later turn merges"));

        // forgetting that turn leads back to the same state
        t.expect(llama_memory_seq_rm(llama_get_memory(ctx.get()), 0, p.next, -1), label("seq_rm"));
        t.expect(distance(decode_text(ctx.get(), { 12, 13 }, p.next), first) < 1e-5, label("forgetting a turn restores the state"));
    }

    void saved_state_continues() {
        context_options o;
        o.layers = layers;
        context_ptr a, b, other;
        make_context(model.get(), o, a);
        make_context(model.get(), o, b);

        auto p = one_image();
        run(a.get(), p.params());

        std::vector<uint8_t> blob(llama_state_seq_get_size(a.get(), 0));
        t.expect(llama_state_seq_get_data(a.get(), blob.data(), blob.size(), 0) == blob.size(), label("state saved"));
        t.expect(llama_state_seq_set_data(b.get(), blob.data(), blob.size(), 0) > 0, label("state restored"));
        t.expect(distance(decode_text(b.get(), { 12 }, p.next), decode_text(a.get(), { 12 }, p.next)) < 1e-6,
                label("the restored state continues alike"));

        o.layers = { 4 };
        make_context(model.get(), o, other);
        t.expect(llama_state_seq_set_data(other.get(), blob.data(), blob.size(), 0) == 0,
                label("a state of other merge layers is refused"));
        t.expect(!decode_text(other.get(), { 12 }, 0).empty(), label("and leaves the context usable"));
    }

    void refusals() {
        context_ptr ctx;
        for (const auto & bad : std::vector<std::vector<int32_t>>{ { 0 }, { 10 }, { 3, 3 }, { 4, 2 }, { -1 } }) {
            context_options o;
            o.layers = bad;
            t.expect(make_context(model.get(), o, ctx) == ILLAVA_BAD_ARG && !ctx, label("merge layers out of order or range"));
            t.expect(strlen(illava_last_error()) > 0, label("with a message"));
        }

        context_options o;
        o.layers = layers;
        make_context(model.get(), o, ctx);
        auto p = one_image();

        auto params = p.params();
        std::vector<int32_t> too_many(layers.size(), 0);
        too_many.back() = 64;
        for (auto & span : p.spans) {
            span.r = too_many.data();
        }
        t.expect(illava_prefill(ctx.get(), &params, nullptr) == ILLAVA_BAD_ARG, label("r of all tokens"));

        params = p.params();
        params.size = 8;
        t.expect(illava_prefill(ctx.get(), &params, nullptr) == ILLAVA_BAD_ARG, label("a struct of another size"));

        p.tokens[0] = 1 << 30;
        params = p.params();
        t.expect(illava_prefill(ctx.get(), &params, nullptr) == ILLAVA_BAD_ARG, label("a token beyond the vocabulary"));

        // a prompt that the first or a deeper segment cannot hold leaves nothing behind
        prompt large(model.get(), r);
        large.image(int32_t(23*23), 3);
        params = large.params();
        t.expect(illava_prefill(ctx.get(), &params, nullptr) == ILLAVA_KV_FULL, label("more rows than cells"));

        o.deep.assign(layers.size(), 32);
        make_context(model.get(), o, ctx);
        auto again = one_image();
        params = again.params();
        t.expect(illava_prefill(ctx.get(), &params, nullptr) == ILLAVA_KV_FULL, label("more survivors than deep cells"));
        t.expect(llama_memory_seq_pos_max(llama_get_memory(ctx.get()), 0) == -1, label("and nothing of the call stays"));
    }

    void quantised_cache() {
        for (ggml_type type : { GGML_TYPE_Q8_0, GGML_TYPE_Q4_0 }) {
            context_options o;
            o.layers  = layers;
            o.type_kv = type;
            context_ptr ctx;
            if (!t.expect(make_context(model.get(), o, ctx) == ILLAVA_OK, label(std::string("cache of ") + ggml_type_name(type)))) {
                printf("  %s\n", illava_last_error());
                continue;
            }
            auto p = one_image();
            const auto got      = run(ctx.get(), p.params());
            const auto expected = reference();
            const size_t merged = expected.kept.empty() ? 0 : expected.kept[0].size();

            // keys lose bits, so a few borderline tokens may change places; a score of unrotated queries against
            // rotated keys would agree only by chance
            std::vector<int32_t> same;
            if (!got.kept.empty()) {
                std::set_intersection(got.kept[0].begin(), got.kept[0].end(), expected.kept[0].begin(), expected.kept[0].end(),
                        std::back_inserter(same));
            }
            t.expect(merged > 0 && same.size()*100 >= merged*(type == GGML_TYPE_Q8_0 ? 95 : 80),
                    label(std::string(ggml_type_name(type)) + " keys rank tokens as f16 ones do: " + std::to_string(same.size()) +
                        " of " + std::to_string(merged)));
        }
    }
};

model_ptr load(const std::string & path) {
    auto params = llama_model_default_params();
    params.n_gpu_layers = 0;
    return model_ptr(llama_model_load_from_file(path.c_str(), params));
}

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
        for (const auto & cuts : std::vector<std::vector<int32_t>>{ { 2 }, { 6, 7, 8 } }) {
            suite s{ t, std::string(pair) + (cuts.size() > 1 ? " K=6,7,8" : " K=2"),
                load(std::string(dir) + "/" + pair + "/text.gguf"), cuts,
                cuts.size() > 1 ? std::vector<int32_t>{ 6, 5, 4 } : std::vector<int32_t>{ 19 } };
            if (!t.expect(s.model != nullptr, s.label("loads from " + std::string(dir)))) {
                continue;
            }
            s.unmerged_is_stock();
            s.settings_do_not_change_the_result();
            s.cells();
            s.several_images_and_sequences();
            s.chat_goes_on();
            s.saved_state_continues();
            s.refusals();
        }
    }

    suite wide{ t, "siglip-qwen2-wide-f16", load(std::string(dir) + "/siglip-qwen2-wide-f16/text.gguf"), { 2 }, { 19 } };
    if (t.expect(wide.model != nullptr, wide.label("loads"))) {
        wide.quantised_cache();
    }

    llama_backend_free();
    return t.finish();
}
