// Merging in the decoder: what must not change it (ubatch size, attention kernel, the score's kernel, quantised keys), and
// what it leaves in the caches. The values themselves are held against a float64 reference by the Rust tests.
//
// Models: the tiny pairs of tools/make_model.py in $ILLAVA_TEST_MODELS.

#include "decoder-fixture.h"

#include <algorithm>
#include <iterator>

namespace {

using namespace fixture;

struct suite : subject {
    checks & t;

    suite(checks & t, subject of) : subject(std::move(of)), t(t) {}

    outcome reference(illava_score score = ILLAVA_SCORE_IMAGE) const {
        auto o = options();
        llama_ctx_ptr ctx;
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
            llama_ctx_ptr ctx;
            t.expect(make_context(model.get(), o, ctx) == ILLAVA_OK, label("context"));
            results[cut] = run(ctx.get(), params).logits;
        }
        const auto stock = through_llama_decode(p);
        t.expect(!stock.empty() && results[0] == stock, label("one segment is bit-identical to an ordinary cache"));
        t.expect(results[1] == stock, label("r = 0 through segments is bit-identical to an ordinary cache"));
    }

    // the same rows in an ordinary context of the library: text, picture, text
    logits_t through_llama_decode(const prompt & p) {
        llama_context_params params = llama_context_default_params();
        params.n_ctx           = 512;
        params.n_batch         = 512;
        params.n_ubatch        = 512;
        params.n_threads       = 1;
        params.n_threads_batch = 1;
        params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
        llama_ctx_ptr ctx(llama_init_from_model(model.get(), params));

        const int32_t first = p.spans[0].first, n = p.spans[0].n, end = first + n, rows = p.n_rows();
        decode_text(ctx.get(), { p.tokens.begin(), p.tokens.begin() + first }, p.pos[0]);

        std::vector<llama_pos> pos;
        for (int32_t k = 0; k < p.n_pos; ++k) {
            pos.insert(pos.end(), p.pos.begin() + size_t(k)*rows + first, p.pos.begin() + size_t(k)*rows + end);
        }
        std::vector<float>          embd(p.embd.begin() + size_t(first)*p.n_embd, p.embd.begin() + size_t(end)*p.n_embd);
        std::vector<int32_t>        n_seq(n, 1);
        llama_seq_id                seq = 0;
        std::vector<llama_seq_id *> seqs(n, &seq);
        std::vector<int8_t>         outputs(n, 0);
        const llama_batch batch = { n, nullptr, embd.data(), pos.data(), n_seq.data(), seqs.data(), outputs.data() };
        t.expect(llama_decode(ctx.get(), batch) == 0, label("llama_decode takes the picture"));

        return decode_text(ctx.get(), { p.tokens.begin() + end, p.tokens.end() }, p.pos[end]);
    }

    void settings_do_not_change_the_result() {
        for (auto score : { ILLAVA_SCORE_IMAGE, ILLAVA_SCORE_LAST_TOKEN }) {
            const auto expected = reference(score);
            const std::string which = score == ILLAVA_SCORE_IMAGE ? "image score" : "last-token score";
            t.expect(expected.kept.size() == layers.size(), label(which + " merges at every layer"));

            for (uint32_t n_ubatch : { 7u, 16u, 33u }) {
                auto o = options();
                o.n_ubatch = n_ubatch;
                llama_ctx_ptr ctx;
                make_context(model.get(), o, ctx);
                auto p = one_image();
                const auto got = run(ctx.get(), p.params(score));
                t.expect(got.kept == expected.kept, label(which + ": n_ubatch " + std::to_string(n_ubatch) + " keeps the same tokens"));
                t.expect(distance(got.logits, expected.logits) < 2e-3, label(which + ": n_ubatch " + std::to_string(n_ubatch) + " logits"));
            }
            {
                auto o = options();
                o.flash_attn = 0;
                llama_ctx_ptr ctx;
                make_context(model.get(), o, ctx);
                auto p = one_image();
                const auto got = run(ctx.get(), p.params(score));
                t.expect(got.kept == expected.kept, label(which + ": flash attention off keeps the same tokens"));
                t.expect(distance(got.logits, expected.logits) < 5e-3, label(which + ": flash attention off logits"));
            }
            {
                auto o = options();
                llama_ctx_ptr ctx;
                make_context(model.get(), o, ctx);
                auto p = one_image();
                auto params = p.params(score);
                params.composed_score = true;
                const auto got = run(ctx.get(), params);
                t.expect(got.kept == expected.kept, label(which + ": the composed score keeps the same tokens"));
            }
        }
    }

    // the first layers of some models add image features to every row of a picture
    void merges_behind_the_image_features() {
        const int32_t deep = llama_model_n_embd_inp(model.get())/llama_model_n_embd(model.get()) - 1;
        context_options o;
        o.layers = { std::max(deep - 1, 0) };
        llama_ctx_ptr ctx;
        t.expect(make_context(model.get(), o, ctx) == ILLAVA_BAD_ARG, label("no merge before the image features are in"));
    }

    // the deep caches hold exactly the survivors
    void cells() {
        auto o = options();
        llama_ctx_ptr ctx;
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

    void quantised_cache() {
        for (ggml_type type : { GGML_TYPE_Q8_0, GGML_TYPE_Q4_0 }) {
            auto o = options();
            o.type_kv = type;
            llama_ctx_ptr ctx;
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

} // namespace

int main() {
    return run_checks([](checks & t) {
        for (auto & subject : subjects(t)) {
            suite s(t, std::move(subject));
            s.unmerged_is_stock();
            s.merges_behind_the_image_features();
            s.settings_do_not_change_the_result();
            s.cells();
        }

        suite wide(t, { "siglip-qwen2-wide-f16", load_text("siglip-qwen2-wide-f16"), { 2 }, { 19 } });
        if (t.expect(wide.model != nullptr, wide.label("loads"))) {
            wide.quantised_cache();
        }
    });
}
