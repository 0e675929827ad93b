// The comparison strategies: what holds for every one of them whatever the values, on the host, in an encoder and in a
// decoder. That each decides as its definition says is held against the float64 reference in tests/parity.rs.

#include "decoder-fixture.h"
#include "illava-groups.h"
#include "projector-fixture.h"
#include "vision-fixture.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <random>
#include <set>

namespace {

using fixture::checks;

constexpr enum illava_strategy every[] = {
    ILLAVA_STRATEGY_MERGE, ILLAVA_STRATEGY_PRUNE, ILLAVA_STRATEGY_RANDOM, ILLAVA_STRATEGY_BIPARTITE,
    ILLAVA_STRATEGY_KMEANS, ILLAVA_STRATEGY_GREEDY, ILLAVA_STRATEGY_PRUMERGE, ILLAVA_STRATEGY_ASSIGN,
};

std::string label(enum illava_strategy strategy, const std::string & what) {
    static const char * const names[] = { "merge", "prune", "random", "bipartite", "kmeans", "greedy", "prumerge", "assign" };
    return std::string(names[strategy]) + ": " + what;
}

//
// on the host
//

struct values {
    std::vector<float> features, sizes, scores;
    illava_tokens      tokens;

    values(size_t n, size_t d, uint32_t seed) :
        features(fixture::normal(n * d, 1.0f, seed)), sizes(n), scores(fixture::normal(n, 1.0f, seed + 1)) {
        for (size_t i = 0; i < n; i++) {
            sizes[i]  = float(1 + i % 3);
            scores[i] = std::exp(scores[i]);
        }
        tokens = { n, d, features.data(), sizes.data(), scores.data() };
    }
};

void check_groups(checks & t, enum illava_strategy strategy, size_t n, size_t d, size_t r, const values & v) {
    const std::string what = "n=" + std::to_string(n) + " r=" + std::to_string(r);
    const illava_groups groups = illava_make_groups(strategy, v.tokens, r);
    const auto survivors = illava_survivors(groups.into);
    t.expect(survivors.size() == n - r, label(strategy, what + ": tokens left"));
    t.expect(std::is_sorted(survivors.begin(), survivors.end()), label(strategy, what + ": ascending"));
    const bool ends = std::all_of(groups.into.begin(), groups.into.end(), [&](int32_t to) {
        return to >= 0 && size_t(to) < n && groups.into[to] == to;
    });
    if (!t.expect(ends, label(strategy, what + ": everyone goes to a survivor"))) {
        return;
    }
    t.expect(std::all_of(groups.weights.begin(), groups.weights.end(), [](float w) { return w > 0; }),
            label(strategy, what + ": weights above 0"));

    const auto sizes = illava_group_sizes(groups.into, v.sizes.data(), survivors);
    t.expect(std::accumulate(sizes.begin(), sizes.end(), 0.0) == std::accumulate(v.sizes.begin(), v.sizes.end(), 0.0),
            label(strategy, what + ": no original token is lost"));

    // weights that sum to one leave a constant as it is
    std::vector<float> x(n * 2, 3.25f), y(survivors.size() * 2);
    illava_merge_groups(x.data(), 2, groups.into, groups.weights.data(), false, survivors, 0, survivors.size(), y.data());
    t.expect(std::all_of(y.begin(), y.end(), [](float value) { return value == 3.25f; }), label(strategy, what + ": means"));

    // one stretch of survivors after another is the same as all at once
    std::vector<float> whole(survivors.size() * d), parts(whole.size());
    illava_merge_groups(v.features.data(), d, groups.into, groups.weights.data(), false, survivors, 0, survivors.size(), whole.data());
    for (size_t g = 0; g < survivors.size(); g++) {
        illava_merge_groups(v.features.data(), d, groups.into, groups.weights.data(), false, survivors, g, g + 1, parts.data());
    }
    t.expect(memcmp(whole.data(), parts.data(), whole.size() * sizeof(float)) == 0, label(strategy, what + ": parts"));

    std::vector<int32_t> names(n);
    std::iota(names.begin(), names.end(), 100);
    const auto lists = illava_list_groups(groups.into, names);
    size_t at = 0, gone = 0;
    for (int32_t length : lists.lengths) {
        at   += length;
        gone += length - 1;
        const int32_t survivor = lists.members[at - 1] - 100;
        t.expect(length > 1 && groups.into[survivor] == survivor, label(strategy, what + ": a group ends in its survivor"));
    }
    t.expect(at == lists.members.size() && gone == r, label(strategy, what + ": lists"));
}

void on_the_host(checks & t) {
    for (auto strategy : every) {
        if (!illava_strategy_groups(strategy)) {
            continue;
        }
        for (size_t n : { 2, 3, 7, 40 }) {
            for (size_t r = 0; r < n; r++) {
                check_groups(t, strategy, n, 5, r, values(n, 5, uint32_t(n * 100 + r)));
            }
        }
        // all alike, none with a direction, none a number
        for (float value : { 1.0f, 0.0f, NAN, INFINITY }) {
            values v(30, 4, 1);
            std::fill(v.features.begin(), v.features.end(), value);
            check_groups(t, strategy, 30, 1, 17, v);
            std::fill(v.scores.begin(), v.scores.end(), value);
            const auto groups = illava_make_groups(strategy, v.tokens, 17);
            t.expect(illava_survivors(groups.into).size() == 13, label(strategy, "values without meaning"));
        }
        // the direction counts, not the length
        values v(40, 6, 9);
        const auto before = illava_make_groups(strategy, v.tokens, 11).into;
        for (size_t i = 0; i < v.features.size(); i++) {
            v.features[i] *= float(1 << (i / 6 % 5));
        }
        t.expect(illava_make_groups(strategy, v.tokens, 11).into == before, label(strategy, "lengths of features"));
    }

    // two tokens that are the same are the first to be one
    for (auto strategy : { ILLAVA_STRATEGY_BIPARTITE, ILLAVA_STRATEGY_GREEDY }) {
        values v(20, 8, 4);
        std::copy_n(v.features.begin() + 6 * 8, 8, v.features.begin() + 13 * 8);
        const auto into = illava_make_groups(strategy, v.tokens, 1).into;
        t.expect(into[6] == into[13], label(strategy, "twins"));
    }
    {
        values v(20, 8, 4);
        std::fill(v.scores.begin(), v.scores.end(), 0.1f);
        v.scores[3] = v.scores[17] = 5.0f;
        const auto left = illava_survivors(illava_make_groups(ILLAVA_STRATEGY_PRUMERGE, v.tokens, 15).into);
        t.expect(std::count(left.begin(), left.end(), 3) == 1 && std::count(left.begin(), left.end(), 17) == 1,
                label(ILLAVA_STRATEGY_PRUMERGE, "outliers stay"));
        v.scores[9] = 4.0f;
        t.expect(illava_survivors(illava_make_groups(ILLAVA_STRATEGY_PRUMERGE, v.tokens, 18).into) == std::vector<int32_t>({ 3, 17 }),
                label(ILLAVA_STRATEGY_PRUMERGE, "the highest, where there are too many"));
    }

    const auto order = illava_random_order(7, 0, 3, 200);
    auto sorted = order;
    std::sort(sorted.begin(), sorted.end());
    bool whole = true;
    for (int32_t i = 0; i < 200; i++) {
        whole = whole && sorted[i] == i;
    }
    t.expect(whole, "random: every token once");
    t.expect(illava_random_order(7, 0, 3, 200) == order, "random: a seed repeats");
    std::set<std::vector<int32_t>> draws = {
        order, illava_random_order(8, 0, 3, 200), illava_random_order(7, 1, 3, 200), illava_random_order(7, 0, 4, 200),
        illava_random_order(7 | 1ull << 32, 0, 3, 200),
    };
    t.expect(draws.size() == 5, "random: another seed, half, layer or tile is another draw");
}

//
// in an encoder
//

fixture::encoded_ptr encode(
        const fixture::vision_ptr & vision, const fixture::image_ptr & image, const fixture::merge_steps & steps,
        enum illava_strategy strategy, uint64_t seed, illava_grid grid, int n_threads = 1, bool composed = false,
        bool count_sizes = false, illava_tower_score score = ILLAVA_TOWER_SCORE_RECEIVED) {
    auto params = fixture::encode_params(steps, grid, composed, n_threads);
    params.strategy = strategy;
    params.seed     = seed;
    params.score    = score;
    params.count_sizes = count_sizes;
    return fixture::encode_tile(vision, image, params);
}

// Composed scores are the fused ones but for the rounding of f32. ILLAVA_STRATEGY_ASSIGN weighs values by them and hands that
// on; keys in f16 behind the merge, rounded up here and down there, make more than 1e-4 of it.
void expect_composed(checks & t, enum illava_strategy strategy, const std::string & name, const fixture::encoded_ptr & fused, const fixture::encoded_ptr & composed) {
    const auto a = fixture::step_of(fused, 0), b = fixture::step_of(composed, 0);
    const std::vector<float> scores(a.scores, a.scores + a.n_scores), others(b.scores, b.scores + b.n_scores);
    t.expect(scores.empty() ? others.empty() : fixture::relative_error(others, scores) < 1e-5, name + ": composed scores");
    const double allowed = strategy == ILLAVA_STRATEGY_ASSIGN ? 1e-3 : 1e-4;
    t.expect(fixture::relative_error(fixture::values(fixture::view_of(composed)), fixture::values(fixture::view_of(fused))) < allowed,
            name + ": values with composed scores");
}

void check_step(checks & t, enum illava_strategy strategy, const illava_step & step, std::vector<int32_t> & alive, int32_t r) {
    const std::vector<int32_t> kept(step.kept, step.kept + step.n_out), merged(step.merged, step.merged + step.n_merged);
    t.expect(step.n_in == int32_t(alive.size()) && step.n_out == step.n_in - r, label(strategy, "tokens left"));
    t.expect(std::is_sorted(kept.begin(), kept.end()), label(strategy, "survivors ascend"));
    t.expect(std::includes(alive.begin(), alive.end(), kept.begin(), kept.end()), label(strategy, "survivors were there"));
    t.expect(step.n_scores == (illava_strategy_scores(strategy) ? step.n_in : 0), label(strategy, "scores"));

    const bool merges = strategy == ILLAVA_STRATEGY_MERGE;
    t.expect((step.into >= 0) == merges && step.n_merged == r + (merges ? 1 : 0), label(strategy, "into"));
    std::vector<int32_t> gone(merged.begin(), merged.end() - (merges ? 1 : 0)), all = kept;
    all.insert(all.end(), gone.begin(), gone.end());
    std::sort(all.begin(), all.end());
    t.expect(all == alive, label(strategy, "everyone stays or goes"));

    t.expect((step.n_groups > 0) == illava_strategy_groups(strategy), label(strategy, "groups"));
    int32_t at = 0, went = 0;
    for (int32_t g = 0; g < step.n_groups; g++) {
        at   += step.group_lengths[g];
        went += step.group_lengths[g] - 1;
        t.expect(std::binary_search(kept.begin(), kept.end(), step.group_members[at - 1]), label(strategy, "a group's survivor"));
    }
    t.expect(!illava_strategy_groups(strategy) || went == r, label(strategy, "groups take up everyone who went"));
    alive = kept;
}

double total(const float * values, size_t n) {
    return std::accumulate(values, values + n, 0.0);
}

// Sizes in the attention of the layers behind the first step.
void counting_sizes(checks & t, const fixture::vision_ptr & vision, const fixture::image_ptr & image, illava_grid grid,
        enum illava_strategy strategy, const fixture::vision_ptr & other_attention) {
    const fixture::merge_steps steps = { { 1, 8 }, { 3, 12 } };
    const auto values = [](const fixture::encoded_ptr & encoded) { return fixture::values(fixture::view_of(encoded)); };
    const auto sized  = encode(vision, image, steps, strategy, 0, grid, 1, false, true);
    if (!t.expect(sized != nullptr, label(strategy, illava_last_error()))) {
        return;
    }
    const auto threads  = encode(vision, image, steps, strategy, 0, grid, 2, false, true);
    const auto composed = encode(vision, image, steps, strategy, 0, grid, 1, true, true);
    const auto other    = encode(other_attention, image, steps, strategy, 0, grid, 1, false, true);
    t.expect(fixture::same_bits(values(sized), values(threads)), label(strategy, "sizes: one thread and two"));
    expect_composed(t, strategy, label(strategy, "sizes"), sized, composed);
    t.expect(fixture::relative_error(values(other), values(sized)) < 5e-3, label(strategy, "sizes: flash attention and without"));
    const auto plain = encode(vision, image, steps, strategy, 0, grid);
    t.expect(fixture::relative_error(values(plain), values(sized)) > 1e-6, label(strategy, "sizes count"));

    // the first step is the same, and every step's sizes add up
    const auto a = fixture::step_of(sized, 0), b = fixture::step_of(plain, 0);
    t.expect(std::equal(a.kept, a.kept + a.n_out, b.kept), label(strategy, "sizes count behind the first step"));
    for (size_t i = 0; i < 2; i++) {
        const auto step = fixture::step_of(sized, i);
        t.expect(step.sizes && total(step.sizes, step.n_out) == fixture::step_of(sized, 0).n_in,
                label(strategy, "a step's sizes add up to the tokens there were"));
    }
    // with the only step behind the last attention nothing is left to count for
    const fixture::merge_steps last = { { fixture::describe(vision).n_layer_run - 1, 8 } };
    t.expect(fixture::same_bits(values(encode(vision, image, last, strategy, 0, grid)),
                     values(encode(vision, image, last, strategy, 0, grid, 1, false, true))), label(strategy, "the last layer"));
}

// The class token's attention ranks, and only that.
void ranked_by_class(checks & t, const fixture::vision_ptr & vision, const fixture::image_ptr & image) {
    const fixture::merge_steps steps = { { 1, 8 }, { 3, 12 } };
    for (auto strategy : { ILLAVA_STRATEGY_MERGE, ILLAVA_STRATEGY_PRUNE, ILLAVA_STRATEGY_ASSIGN }) {
        const bool sizes   = strategy == ILLAVA_STRATEGY_ASSIGN;
        const auto encoded = encode(vision, image, steps, strategy, 0, ILLAVA_GRID_FAITHFUL, 1, false, sizes, ILLAVA_TOWER_SCORE_CLASS);
        if (!fixture::describe(vision).class_token) {
            t.expect(!encoded && strstr(illava_last_error(), "no class token"), label(strategy, "refused without a class token"));
            continue;
        }
        if (!t.expect(encoded != nullptr, label(strategy, illava_last_error()))) {
            continue;
        }
        const auto step = fixture::step_of(encoded, 0);
        // the class token's own attention is a distribution, of which its own share is left out
        const double sum = total(step.scores, step.n_scores);
        t.expect(sum > 0.5 && sum < 1.0, label(strategy, "the class token's attention"));
        const auto received = encode(vision, image, steps, strategy, 0, ILLAVA_GRID_FAITHFUL);
        t.expect(!std::equal(step.scores, step.scores + step.n_scores, fixture::step_of(received, 0).scores),
                label(strategy, "other scores"));
    }
}

// Held units stay through all steps while there are others; then they go as well.
void held_ones(checks & t, const fixture::vision_ptr & vision, const fixture::image_ptr & image, int32_t n_units, int32_t unit, illava_grid grid) {
    const fixture::merge_steps steps = { { 1, 8 }, { 3, 12 } };
    const int32_t n_gone = 20 / unit;
    for (int32_t n_free : { n_units / 2, n_gone / 2 + 1 })
    for (bool composed : { false, true }) {
        std::vector<uint8_t> held(n_units, 1);
        for (int32_t k = 0; k < n_free; k++) {
            held[k * n_units / n_free] = 0;
        }
        auto params = fixture::encode_params(steps, grid, composed, 1);
        params.strategy = ILLAVA_STRATEGY_BIPARTITE;
        params.held     = held.data();
        params.n_held   = held.size();
        const auto encoded = fixture::encode_tile(vision, image, params);
        if (!t.expect(encoded != nullptr, std::string("held: ") + illava_last_error())) {
            continue;
        }
        const auto last = fixture::step_of(encoded, 1);
        int32_t n_held = 0;
        for (int32_t i = 0; i < last.n_out; i++) {
            n_held += held[last.kept[i]];
        }
        const int32_t n_over = std::max(0, n_gone - (n_free - 1));
        t.expect(last.n_out == n_units - n_gone, "held: as many go");
        t.expect(n_over == 0 ? n_held == n_units - n_free : n_held >= n_units - n_free - n_over && n_held <= n_units - n_free,
                "held: they stay while others are left");
    }
}

void in_an_encoder(checks & t, fixture::family kind, const std::string & path) {
    fixture::projector_file(kind).write(path);
    const auto vision = fixture::load_vision(path);
    if (!t.expect(vision != nullptr, path + " loads")) {
        return;
    }
    const auto info  = fixture::describe(vision);
    const uint32_t nx = info.dynamic_size ? 96 : 64;
    std::vector<uint8_t> pixels(size_t(nx) * nx * 3);
    for (size_t i = 0; i < pixels.size(); i++) {
        pixels[i] = uint8_t(i * 2654435761u >> 13);
    }
    const auto image = fixture::make_image(vision, pixels, nx, nx);

    for (auto grid : { ILLAVA_GRID_FAITHFUL, ILLAVA_GRID_REFERENCE }) {
        if (info.group == 1 && grid == ILLAVA_GRID_REFERENCE) {
            continue;
        }
        const int32_t unit = grid == ILLAVA_GRID_FAITHFUL ? info.group : 1;
        std::vector<std::vector<int32_t>> kept(std::size(every));
        for (auto strategy : every) {
            fixture::merge_steps steps = { { 1, 8 }, { 2, 0 }, { 3, 12 } };
            if (strategy == ILLAVA_STRATEGY_PRUMERGE) {
                steps = { { info.n_layer_run, 20 } };
            }
            const auto encoded  = encode(vision, image, steps, strategy, 5, grid);
            const auto again    = encode(vision, image, steps, strategy, 5, grid, 2);
            const auto composed = encode(vision, image, steps, strategy, 5, grid, 1, true);
            if (!t.expect(encoded && again && composed, label(strategy, path) + " " + illava_last_error())) {
                continue;
            }
            const auto view = fixture::view_of(encoded);
            t.expect(fixture::same_bits(fixture::values(view), fixture::values(fixture::view_of(again))),
                    label(strategy, "one thread and two give the same bits"));
            expect_composed(t, strategy, label(strategy, path), encoded, composed);

            std::vector<int32_t> alive(nx / info.patch_size * nx / info.patch_size / unit);
            std::iota(alive.begin(), alive.end(), 0);
            const int32_t n_units = alive.size();
            size_t i = 0;
            for (const auto & step : steps) {
                if (step.r > 0) {
                    check_step(t, strategy, fixture::step_of(encoded, i++), alive, step.r / unit);
                }
            }
            t.expect(i == view.n_steps, label(strategy, "steps"));
            t.expect(view.n_tokens * info.group == alive.size() * unit, label(strategy, "tokens"));
            kept[strategy] = alive;

            t.expect((view.sizes != nullptr) == illava_strategy_groups(strategy), label(strategy, "sizes"));
            if (view.sizes) {
                double sum = 0;
                for (uint32_t k = 0; k < view.n_tokens; k++) {
                    sum += double(view.sizes[k]) * (info.group / unit);
                }
                t.expect(std::fabs(sum - n_units) < 1e-3, label(strategy, "sizes add up to the tokens there were"));
            }
        }
        held_ones(t, vision, image, int32_t(nx / info.patch_size * nx / info.patch_size) / unit, unit, grid);
        const auto without_flash = fixture::load_vision(path, fixture::vision_params(0));
        for (auto strategy : { ILLAVA_STRATEGY_BIPARTITE, ILLAVA_STRATEGY_KMEANS, ILLAVA_STRATEGY_GREEDY, ILLAVA_STRATEGY_ASSIGN }) {
            counting_sizes(t, vision, image, grid, strategy, without_flash);
        }
        // the first step ranks alike; what goes on from it differs
        const fixture::merge_steps one = { { 1, 8 } };
        const auto merged = encode(vision, image, one, ILLAVA_STRATEGY_MERGE, 0, grid);
        const auto pruned = encode(vision, image, one, ILLAVA_STRATEGY_PRUNE, 0, grid);
        const auto a = fixture::step_of(merged, 0), b = fixture::step_of(pruned, 0);
        t.expect(std::equal(a.kept, a.kept + a.n_out, b.kept), "prune keeps what merge keeps");
        t.expect(!fixture::same_bits(fixture::values(fixture::view_of(merged)), fixture::values(fixture::view_of(pruned))),
                "prune is not merge");
        const auto other = encode(vision, image, { { 1, 8 }, { 3, 12 } }, ILLAVA_STRATEGY_RANDOM, 6, grid);
        const auto last  = fixture::step_of(other, 1);
        t.expect(std::vector<int32_t>(last.kept, last.kept + last.n_out) != kept[ILLAVA_STRATEGY_RANDOM], "another seed");
    }

    ranked_by_class(t, vision, image);

    // what is refused
    for (auto strategy : { ILLAVA_STRATEGY_MERGE, ILLAVA_STRATEGY_PRUNE, ILLAVA_STRATEGY_RANDOM, ILLAVA_STRATEGY_PRUMERGE }) {
        const fixture::merge_steps steps = { { strategy == ILLAVA_STRATEGY_PRUMERGE ? info.n_layer_run : 1, 8 } };
        t.expect(!encode(vision, image, steps, strategy, 0, ILLAVA_GRID_FAITHFUL, 1, false, true) &&
                strstr(illava_last_error(), "keeps no sizes"), label(strategy, "no sizes to count"));
    }
    const auto refused = [&](const fixture::merge_steps & steps, int32_t number, const char * says) {
        auto params = fixture::encode_params(steps);
        memcpy(&params.strategy, &number, sizeof(number));
        illava_encoded * out = nullptr;
        const auto status = illava_encode(vision.get(), image.get(), 0, &params, &out);
        t.expect(status == ILLAVA_BAD_ARG && !out && strstr(illava_last_error(), says), std::string("refused: ") + says);
    };
    refused({ { 1, 8 } }, 99, "strategy 99");
    refused({ { 1, 8 } }, -1, "strategy -1");
    refused({ { 1, 8 } }, ILLAVA_STRATEGY_PRUMERGE, "behind the last");
    refused({ { info.n_layer_run, 8 } }, ILLAVA_STRATEGY_GREEDY, "merges at layers");
}

//
// in a decoder
//

void in_a_decoder(checks & t, fixture::subject & subject) {
    for (auto strategy : every) {
        std::vector<fixture::logits_t> logits;
        for (uint32_t n_ubatch : { 512, 24 }) {
            auto options = subject.options();
            options.n_ubatch = n_ubatch;
            fixture::llama_ctx_ptr ctx;
            t.expect(fixture::make_context(subject.model.get(), options, ctx) == ILLAVA_OK, subject.label("context"));
            auto p      = subject.one_image();
            auto params = p.params();
            std::vector<float> sizes(p.n_rows(), 1.0f);
            for (int32_t i = 0; i < 64; i += 3) {
                sizes[3 + i] = 2.0f;
            }
            params.strategy = strategy;
            params.seed     = 11;
            params.sizes    = sizes.data();
            illava_trace * raw = nullptr;
            const auto status = illava_prefill(ctx.get(), &params, &raw);
            const fixture::trace_ptr trace(raw);
            if (strategy == ILLAVA_STRATEGY_PRUMERGE) {
                t.expect(status == ILLAVA_BAD_ARG && strstr(illava_last_error(), "strategy 6"), subject.label("prumerge is refused"));
                continue;
            }
            if (!t.expect(status == ILLAVA_OK, subject.label(label(strategy, illava_last_error())))) {
                continue;
            }
            std::vector<int32_t> alive(64);
            std::iota(alive.begin(), alive.end(), 0);
            t.expect(illava_trace_n_steps(raw) == subject.r.size(), subject.label("steps"));
            for (size_t i = 0; i < subject.r.size(); i++) {
                illava_step step = {};
                step.size = sizeof(step);
                t.expect(illava_trace_step(raw, i, &step) == ILLAVA_OK, "step");
                check_step(t, strategy, step, alive, subject.r[i]);
            }
            logits.push_back(fixture::last_logits(ctx.get()));
        }
        // which tokens are most alike may hang on the last bits, which the size of an ubatch changes
        t.expect(logits.empty() || illava_strategy_groups(strategy) || fixture::distance(logits[0], logits[1]) < 2e-2,
                subject.label(label(strategy, "small ubatches give what one gives")));
    }
}

} // namespace

int main() {
    return fixture::run_checks([](checks & t) {
        illava_log_set([](ggml_log_level, const char *, void *) {}, nullptr);

        on_the_host(t);

        const auto folder = std::filesystem::temp_directory_path() / ("illava-strategies-" + std::to_string(std::random_device{}()));
        std::filesystem::create_directories(folder);
        for (auto kind : { fixture::family::siglip, fixture::family::clip, fixture::family::janus, fixture::family::qwen2vl }) {
            in_an_encoder(t, kind, (folder / (std::to_string(int(kind)) + ".gguf")).string());
        }
        std::filesystem::remove_all(folder);

        for (auto & subject : fixture::subjects(t)) {
            in_a_decoder(t, subject);
        }
    });
}
