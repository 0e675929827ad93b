// Rows that stand for several tokens, and positions that leave gaps. A row of size s must be to every query exactly as s
// copies of itself at its position are: that is computed without sizes, as an ordinary prompt, and compared.
//
// Models: the tiny pairs of tools/make_model.py in $ILLAVA_TEST_MODELS.

#include "decoder-fixture.h"

#include <limits>

namespace {

using namespace fixture;

constexpr int32_t    n_cells_of_image = 16;
constexpr llama_pos  gap              = 5; // positions after the picture whose tokens were merged away

// the size of cell i of the picture
int32_t size_of(int32_t i) { return 1 + (i*7) % 4; }

// One picture whose cells stand for size_of(i) tokens: as one row each, or as that many copies.
struct sized_prompt {
    std::vector<llama_token> tokens;
    std::vector<float>       embd;
    std::vector<llama_pos>   pos; // [n_pos, rows]
    std::vector<float>       sizes;
    std::vector<int32_t>     r;
    illava_span              span = {};
    llama_pos                next = 0;

    sized_prompt(const subject & s, bool copies, std::vector<int32_t> r_per_layer) : r(std::move(r_per_layer)) {
        const int32_t n_pos  = illava_model_n_pos(s.model.get());
        const int32_t n_embd = llama_model_n_embd_inp(s.model.get());
        const auto    values = normal(size_t(n_cells_of_image)*n_embd, 0.5f, 1);

        std::vector<std::array<llama_pos, 4>> at;
        const auto text = [&](std::vector<llama_token> ids) {
            for (llama_token id : ids) {
                tokens.push_back(id);
                embd.insert(embd.end(), n_embd, 0.0f);
                at.push_back({ next, next, next, 0 });
                sizes.push_back(1.0f);
                next++;
            }
        };
        text({ 5, 6, 7 });
        span.first = tokens.size();
        for (int32_t i = 0; i < n_cells_of_image; ++i) {
            for (int32_t copy = 0; copy < (copies ? size_of(i) : 1); ++copy) {
                tokens.push_back(-1);
                embd.insert(embd.end(), values.begin() + size_t(i)*n_embd, values.begin() + size_t(i + 1)*n_embd);
                // every other cell is gone, with one position row as with a grid
                at.push_back(n_pos > 1 ? std::array<llama_pos, 4>{ next, next + i/4, next + i%4, 0 }
                                       : std::array<llama_pos, 4>{ next + 2*i, 0, 0, 0 });
                sizes.push_back(copies ? 1.0f : float(size_of(i)));
            }
        }
        span.n = int32_t(tokens.size()) - span.first;
        next += (n_pos > 1 ? 4 : 2*n_cells_of_image) + gap;
        text({ 8, 9 });

        for (int32_t k = 0; k < n_pos; ++k) {
            for (const auto & p : at) {
                pos.push_back(p[k]);
            }
        }
    }

    illava_prefill_params params(bool count_sizes) {
        span.r = r.data();
        illava_prefill_params p = {};
        p.size        = sizeof(p);
        p.n_rows      = tokens.size();
        p.tokens      = tokens.data();
        p.embd        = embd.data();
        p.pos         = pos.data();
        p.spans       = &span;
        p.n_spans     = 1;
        p.logits_last = true;
        p.sizes       = sizes.data();
        p.count_sizes = count_sizes;
        return p;
    }
};

struct suite : subject {
    checks & t;

    suite(checks & t, subject of) : subject(std::move(of)), t(t) {}

    std::vector<int32_t> nothing() const { return std::vector<int32_t>(layers.size(), 0); }

    struct answer {
        logits_t prompt, next;
    };

    answer ask(const context_options & o, bool copies) {
        llama_ctx_ptr ctx;
        if (!t.expect(make_context(model.get(), o, ctx) == ILLAVA_OK, label("context"))) {
            return {};
        }
        sized_prompt p(*this, copies, nothing());
        const auto res = run(ctx.get(), p.params(!copies));
        t.expect(res.status == ILLAVA_OK, label(std::string("prefill: ") + illava_last_error()));
        return { res.logits, decode_text(ctx.get(), { 11, 12 }, p.next) };
    }

    // for every kernel and cache type, cut at merge layers and not
    void as_many_copies() {
        struct setting { int flash_attn; ggml_type type_kv; double tolerance; };
        for (const setting & s : { setting{ 0, GGML_TYPE_F32, 1e-5 }, setting{ 0, GGML_TYPE_F16, 5e-3 }, setting{ 1, GGML_TYPE_F16, 5e-3 } }) {
            for (bool cut : { true, false }) {
                auto o = options();
                if (!cut) {
                    o.layers.clear();
                }
                o.flash_attn = s.flash_attn;
                o.type_kv    = s.type_kv;
                const auto what     = label(std::string(ggml_type_name(s.type_kv)) + " cache, flash attention " +
                        std::to_string(s.flash_attn) + (cut ? ", cut" : ""));
                const auto expected = ask(o, true);
                const auto got      = ask(o, false);
                t.expect(distance(got.prompt, expected.prompt) < s.tolerance,
                        what + ": the prompt's logits, " + std::to_string(distance(got.prompt, expected.prompt)));
                t.expect(distance(got.next, expected.next) < s.tolerance,
                        what + ": those of later tokens, " + std::to_string(distance(got.next, expected.next)));
            }
        }
    }

    // what is measured must be there to be measured
    void sizes_matter() {
        llama_ctx_ptr counted, plain, ones;
        make_context(model.get(), options(), counted);
        make_context(model.get(), options(), plain);
        make_context(model.get(), options(), ones);
        sized_prompt p(*this, false, nothing());
        const auto with    = run(counted.get(), p.params(true)).logits;
        const auto without = run(plain.get(), p.params(false)).logits;
        t.expect(distance(with, without) > 1e-2, label("sizes change the logits"));

        std::fill(p.sizes.begin(), p.sizes.end(), 1.0f);
        t.expect(run(ones.get(), p.params(true)).logits == without, label("sizes of one do not change a bit"));
    }

    // sizes go where their cells go
    void sizes_travel() {
        for (bool unified : { true, false }) {
            auto o = options();
            o.n_seq_max = 2;
            o.n_ctx     = 1024;
            o.unified   = unified;
            llama_ctx_ptr a, b;
            make_context(model.get(), o, a);
            make_context(model.get(), o, b);
            sized_prompt p(*this, false, nothing());
            run(a.get(), p.params(true));

            std::vector<uint8_t> blob(llama_state_seq_get_size(a.get(), 0));
            llama_state_seq_get_data(a.get(), blob.data(), blob.size(), 0);
            std::vector<uint8_t> whole(llama_state_get_size(a.get()));
            llama_state_get_data(a.get(), whole.data(), whole.size());

            auto * memory = llama_get_memory(a.get());
            llama_memory_seq_cp(memory, 0, 1, -1, -1);
            const auto expected = decode_text(a.get(), { 11 }, p.next);
            t.expect(distance(decode_text(a.get(), { 11 }, p.next, 1), expected) < 1e-5, label("a copied sequence"));

            t.expect(llama_state_seq_set_data(b.get(), blob.data(), blob.size(), 1) > 0, label("the state of a sequence is restored"));
            t.expect(distance(decode_text(b.get(), { 11 }, p.next, 1), expected) < 1e-5, label("a restored sequence"));
            t.expect(llama_state_set_data(b.get(), whole.data(), whole.size()) > 0, label("the whole state is restored"));
            t.expect(distance(decode_text(b.get(), { 11 }, p.next), expected) < 1e-5, label("a restored context"));

            if (llama_memory_can_shift(memory)) {
                // RoPE sees distances only
                llama_memory_seq_rm (memory, 0, p.next, -1);
                llama_memory_seq_add(memory, 0, 0, -1, 3);
                t.expect(distance(decode_text(a.get(), { 11 }, p.next + 3), expected) < 5e-3, label("a shifted sequence"));
            }
        }
    }

    // what a merge layer folds together counts on in the deeper layers
    void merging_adds_up() {
        for (auto strategy : { ILLAVA_STRATEGY_MERGE, ILLAVA_STRATEGY_BIPARTITE }) {
            logits_t results[2];
            for (bool count : { false, true }) {
                llama_ctx_ptr ctx;
                make_context(model.get(), options(), ctx);
                sized_prompt p(*this, false, std::vector<int32_t>(layers.size(), 3));
                std::fill(p.sizes.begin(), p.sizes.end(), 1.0f);
                auto params = p.params(count);
                params.strategy = strategy;
                const auto res = run(ctx.get(), params);
                t.expect(res.kept.size() == layers.size(), label("merges at every layer"));
                results[count] = res.logits;
            }
            t.expect(distance(results[0], results[1]) > 1e-6, label("merged tokens count for what they took up"));
        }
    }

    void gaps() {
        // a picture that ends a turn, its last cells gone, in a context of the library itself
        llama_context_params params = llama_context_default_params();
        params.n_ctx = 512;
        llama_ctx_ptr stock(llama_init_from_model(model.get(), params));
        t.expect(!decode_text(stock.get(), { 5, 6 }, 0).empty() && !decode_text(stock.get(), { 7 }, 9).empty(),
                label("llama_decode takes a gap"));
        t.expect(decode_text(stock.get(), { 7 }, 9).empty(), label("and no position twice"));
    }

    void refusals() {
        llama_ctx_ptr ctx;
        make_context(model.get(), options(), ctx);
        for (float bad : { 0.0f, -1.0f, std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN() }) {
            sized_prompt p(*this, false, nothing());
            p.sizes[4] = bad;
            const auto params = p.params(true);
            t.expect(illava_prefill(ctx.get(), &params, nullptr) == ILLAVA_BAD_ARG, label("a size of " + std::to_string(bad)));
        }
    }
};

} // namespace

int main() {
    return run_checks([](checks & t) {
        for (auto & subject : subjects(t)) {
            suite s(t, std::move(subject));
            s.as_many_copies();
            s.sizes_matter();
            s.sizes_travel();
            s.merging_adds_up();
            s.gaps();
            s.refusals();
        }

        // heads large enough for a quantised cache
        suite wide(t, { "siglip-qwen2-wide-f16", load_text("siglip-qwen2-wide-f16"), { 2 }, { 3 } });
        if (t.expect(wide.model != nullptr, wide.label("loads"))) {
            for (ggml_type type : { GGML_TYPE_Q8_0, GGML_TYPE_Q4_0 }) {
                auto o = wide.options();
                o.type_kv = type;
                // copies are rounded alike, so that the two stay as near to each other as in any type
                const auto expected = wide.ask(o, true);
                const auto got      = wide.ask(o, false);
                t.expect(distance(got.prompt, expected.prompt) < 2e-2 && distance(got.next, expected.next) < 2e-2,
                        wide.label(std::string(ggml_type_name(type)) + " cache: " + std::to_string(distance(got.prompt, expected.prompt))));
            }
        }
    });
}
