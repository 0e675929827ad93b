// A cache that shrinks with depth must still do everything: several pictures, several sequences, a chat that
// goes on, forgetting, saving and restoring, and refusing what it cannot hold.
//
// Models: the tiny pairs of tools/make_model.py in $ILLAVA_TEST_MODELS.

#include "decoder-fixture.h"

#include <cstring>

namespace {

using namespace fixture;

struct suite : subject {
    checks & t;

    suite(checks & t, subject of) : subject(std::move(of)), t(t) {}

    void several_images_and_sequences() {
        // two images in one call against the same call cut after the first image
        auto o = options();
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

            llama_ctx_ptr alone;
            make_context(model.get(), o, alone);
            auto whole = build(1);
            const auto expected = run(alone.get(), whole.params());
            const auto expected_next = decode_text(alone.get(), { 11 }, whole.next);
            t.expect(expected.kept.size() == 2*layers.size(), label("both images merge"));

            llama_ctx_ptr shared;
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
        auto o = options();
        llama_ctx_ptr ctx;
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
        auto o = options();
        llama_ctx_ptr a, b, other;
        make_context(model.get(), o, a);
        make_context(model.get(), o, b);

        auto p = one_image();
        run(a.get(), p.params());

        std::vector<uint8_t> blob(llama_state_seq_get_size(a.get(), 0));
        t.expect(llama_state_seq_get_data(a.get(), blob.data(), blob.size(), 0) == blob.size(), label("state saved"));
        t.expect(llama_state_seq_set_data(b.get(), blob.data(), blob.size(), 0) > 0, label("state restored"));
        t.expect(distance(decode_text(b.get(), { 12 }, p.next), decode_text(a.get(), { 12 }, p.next)) < 1e-6,
                label("the restored state continues alike"));

        o.layers = { 3 };
        make_context(model.get(), o, other);
        t.expect(llama_state_seq_set_data(other.get(), blob.data(), blob.size(), 0) == 0,
                label("a state of other merge layers is refused"));
        t.expect(!decode_text(other.get(), { 12 }, 0).empty(), label("and leaves the context usable"));
    }

    // a conversation that was saved, restored and went on, then cut back to before its picture: a sliding window that had
    // moved past the first tokens sees them again
    void cut_back_after_a_restore() {
        auto o = options();
        llama_ctx_ptr a, b, fresh;
        make_context(model.get(), o, a);
        make_context(model.get(), o, b);
        make_context(model.get(), o, fresh);

        auto p = one_image();
        const llama_pos before = p.spans[0].first;
        run(a.get(), p.params());
        decode_text(fresh.get(), { p.tokens.begin(), p.tokens.begin() + before }, 0);
        const auto expected = decode_text(fresh.get(), { 21, 22 }, before);

        std::vector<uint8_t> sequence(llama_state_seq_get_size(a.get(), 0)), whole(llama_state_get_size(a.get()));
        llama_state_seq_get_data(a.get(), sequence.data(), sequence.size(), 0);
        llama_state_get_data(a.get(), whole.data(), whole.size());

        for (bool all : { false, true }) {
            t.expect((all ? llama_state_set_data(b.get(), whole.data(), whole.size())
                          : llama_state_seq_set_data(b.get(), sequence.data(), sequence.size(), 0)) > 0, label("state restored"));
            decode_text(b.get(), { 12, 13, 14 }, p.next);
            t.expect(llama_memory_seq_rm(llama_get_memory(b.get()), 0, before, -1), label("seq_rm"));
            t.expect(distance(decode_text(b.get(), { 21, 22 }, before), expected) < 2e-3, label("cut back after a restore"));
        }
    }

    void refusals() {
        llama_ctx_ptr ctx;
        for (const auto & bad : std::vector<std::vector<int32_t>>{ { 0 }, { 10 }, { 3, 3 }, { 4, 2 }, { -1 } }) {
            context_options o;
            o.layers = bad;
            t.expect(make_context(model.get(), o, ctx) == ILLAVA_BAD_ARG && !ctx, label("merge layers out of order or range"));
            t.expect(strlen(illava_last_error()) > 0, label("with a message"));
        }

        auto o = options();
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
};

} // namespace

int main() {
    return run_checks([](checks & t) {
        for (auto & subject : subjects(t)) {
            suite s(t, std::move(subject));
            s.several_images_and_sequences();
            s.chat_goes_on();
            s.saved_state_continues();
            s.cut_back_after_a_restore();
            s.refusals();
        }
    });
}
