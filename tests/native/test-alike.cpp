// Bipartite matching and assignment as graph nodes, and the same on the host, against their definitions in double
// precision: who goes where, the means, the sizes.

#include "graph-fixture.h"
#include "illava-alike.h"
#include "illava-groups.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

using fixture::graph;

namespace {

struct alike_case {
    int64_t n, r, d, width;
    bool    sized;  // tokens stand for several
    bool    twins;  // every third feature is that of the token before the last: ties
    bool    assign;
    int64_t held = 0; // of seven tokens

    std::string name() const {
        char text[160];
        snprintf(text, sizeof(text), "%s n=%d r=%d d=%d x=%d%s%s held=%d", assign ? "assign" : "bipartite", int(n), int(r), int(d),
            int(width), sized ? " sized" : "", twins ? " twins" : "", int(held));
        return text;
    }
};

struct values {
    std::vector<float> features, x, sizes, scores, held;
};

values make_values(const alike_case & c) {
    values v = { fixture::normal(c.n * c.d, 1.0f, uint32_t(c.n + c.r)), fixture::normal(c.n * c.width, 3.0f, 7),
        std::vector<float>(c.n, 1.0f), fixture::normal(c.n, 1.0f, 9), {} };
    for (int64_t i = 0; i < c.n; i++) {
        if (c.twins && i % 3 == 2) {
            std::copy_n(v.features.begin() + (i - 2) * c.d, c.d, v.features.begin() + i * c.d);
        }
        if (c.sized) {
            v.sizes[i] = float(1 + i * 7 % 5);
        }
        v.held.push_back(i * 5 % 7 < c.held ? 1.0f : 0.0f);
        v.scores[i] = std::round(std::exp(v.scores[i]) * 32.0f); // with ties
    }
    return v;
}

double cosine(const std::vector<double> & a, const std::vector<double> & b) {
    double ab = 0, aa = 0, bb = 0;
    for (size_t e = 0; e < a.size(); e++) {
        ab += a[e] * b[e];
        aa += a[e] * a[e];
        bb += b[e] * b[e];
    }
    // equal directions are equally alike, whatever their rounding
    return std::round(1e12 * ab / std::sqrt(aa * bb)) * 1e-12;
}

// `into` of every token by the definition.
std::vector<int32_t> expected_into(const alike_case & c, const values & v) {
    std::vector<std::vector<double>> direction(c.n);
    std::vector<int32_t> into(c.n);
    std::iota(into.begin(), into.end(), 0);
    for (int64_t i = 0; i < c.n; i++) {
        double square = 0;
        for (int64_t e = 0; e < c.d; e++) {
            square += double(v.features[i * c.d + e]) * v.features[i * c.d + e];
        }
        for (int64_t e = 0; e < c.d; e++) {
            direction[i].push_back(double(v.sizes[i]) * v.features[i * c.d + e] / std::sqrt(square));
        }
    }
    const auto nearest = [&](int32_t i, const std::vector<int32_t> & others) {
        return *std::max_element(others.begin(), others.end(), [&](int32_t a, int32_t b) {
            return cosine(direction[i], direction[a]) < cosine(direction[i], direction[b]);
        });
    };
    if (c.assign) {
        std::vector<int32_t> order = into, stay;
        std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return v.scores[a] < v.scores[b]; });
        stay.assign(order.begin() + c.r, order.end());
        std::sort(stay.begin(), stay.end());
        for (int64_t k = 0; k < c.r; k++) {
            into[order[k]] = nearest(order[k], stay);
        }
        return into;
    }
    std::vector<int32_t> alive;
    for (int32_t i : into) {
        if (v.held[i] == 0.0f) {
            alive.push_back(i);
        }
    }
    for (int64_t r = c.r; r > 0; ) {
        if (alive.size() < 2) {
            alive = illava_survivors(into);
        }
        std::vector<int32_t> a, b;
        for (size_t i = 0; i < alive.size(); i++) {
            (i % 2 ? b : a).push_back(alive[i]);
        }
        std::vector<std::pair<double, int32_t>> pairs;
        for (int32_t i : a) {
            pairs.push_back({ cosine(direction[i], direction[nearest(i, b)]), i });
        }
        std::stable_sort(pairs.begin(), pairs.end(), [](const auto & x, const auto & y) { return x.first > y.first; });
        pairs.resize(std::min<size_t>(r, b.size()));
        r -= int64_t(pairs.size());
        std::vector<int32_t> to;
        for (const auto & [similarity, i] : pairs) {
            to.push_back(nearest(i, b));
        }
        for (size_t k = 0; k < pairs.size(); k++) {
            const int32_t i = pairs[k].second;
            into[i] = to[k];
            for (int64_t e = 0; e < c.d; e++) {
                direction[to[k]][e] += direction[i][e];
            }
        }
        alive.erase(std::remove_if(alive.begin(), alive.end(), [&](int32_t i) { return into[i] != i; }), alive.end());
    }
    illava_follow(into);
    return into;
}

void test_case(fixture::checks & t, const alike_case & c, illava_place place) {
    graph g(8192);
    ggml_tensor * features = g.input(GGML_TYPE_F32, c.d, c.n);
    ggml_tensor * x        = g.input(GGML_TYPE_F32, c.width, c.n);
    ggml_tensor * sizes    = g.input(GGML_TYPE_F32, c.n);
    ggml_tensor * scores   = g.input(GGML_TYPE_F32, c.n);
    const values v = make_values(c);
    illava_held_tensors held = { g.input(GGML_TYPE_F32, c.n), std::count(v.held.begin(), v.held.end(), 0.0f) };
    ggml_tensor * flags = held.flags;
    const auto alike = c.assign
        ? illava_build_assign   (g.ctx(), place, x, features, c.sized ? sizes : nullptr, scores, c.r)
        : illava_build_bipartite(g.ctx(), place, x, features, c.sized ? sizes : nullptr, c.r, c.held ? &held : nullptr);
    if (c.held && !c.assign) {
        g.output(held.flags);
    }
    for (ggml_tensor * tensor : { alike.x, alike.sizes, alike.kept }) {
        g.output(tensor);
    }
    for (const auto & match : alike.matches) {
        g.output(match.gone);
        g.output(match.into);
    }
    g.allocate();
    fixture::write(features, v.features);
    fixture::write(x, v.x);
    fixture::write(sizes, v.sizes);
    fixture::write(scores, v.scores);
    if (c.held && !c.assign) {
        fixture::write(flags, v.held);
    }
    g.run(1);

    const auto into = expected_into(c, v);
    std::vector<int32_t> found(c.n), alive(c.n);
    std::iota(found.begin(), found.end(), 0);
    alive = found;
    for (const auto & match : alike.matches) {
        const auto gone = fixture::read<int32_t>(match.gone);
        const auto to   = fixture::read<float>(match.into);
        for (size_t i = 0; i < gone.size(); i++) {
            found[alive.at(gone[i])] = alive.at(size_t(to[i]));
        }
        alive = illava_survivors(found);
    }
    illava_follow(found);
    t.expect(found == into, c.name() + ": who goes where");
    const auto survivors = illava_survivors(into);
    t.expect(fixture::read<int32_t>(alike.kept) == survivors, c.name() + ": kept");
    if (c.held && !c.assign) {
        std::vector<float> left;
        for (int32_t i : survivors) {
            left.push_back(v.held[i]);
        }
        t.expect(fixture::read<float>(held.flags) == left, c.name() + ": held");
    }
    t.expect(fixture::read<float>(alike.sizes) == illava_group_sizes(into, v.sizes.data(), survivors), c.name() + ": sizes");

    std::vector<float> means(survivors.size() * c.width);
    illava_merge_groups(v.x.data(), c.width, into, v.sizes.data(), false, survivors, 0, survivors.size(), means.data());
    const auto y = fixture::read<float>(alike.x);
    float worst = 0.0f;
    for (size_t i = 0; i < y.size(); i++) {
        worst = std::max(worst, std::fabs(y[i] - means[i]));
    }
    t.expect(y.size() == means.size() && worst < 1e-5f, c.name() + ": means");

    g.run(2);
    const auto again = fixture::read<float>(alike.x);
    t.expect(memcmp(again.data(), y.data(), y.size() * sizeof(float)) == 0, c.name() + ": one thread and two");

    illava_tokens tokens = { size_t(c.n), size_t(c.d), v.features.data(), v.sizes.data(), v.scores.data() };
    const std::vector<uint8_t> flagged(v.held.begin(), v.held.end());
    tokens.held = c.held ? flagged.data() : nullptr;
    const auto host = illava_make_groups(c.assign ? ILLAVA_STRATEGY_ASSIGN : ILLAVA_STRATEGY_BIPARTITE, tokens, c.r);
    t.expect(host.into == into, c.name() + ": on the host");
}

// Values that are no numbers give tokens that are, as many as asked for.
void test_nonsense(fixture::checks & t, float value, bool assign, illava_place place) {
    graph g(8192);
    ggml_tensor * x      = g.input(GGML_TYPE_F32, 4, 30);
    ggml_tensor * scores = g.input(GGML_TYPE_F32, 30);
    const auto alike = assign
        ? illava_build_assign   (g.ctx(), place, x, x, nullptr, scores, 20)
        : illava_build_bipartite(g.ctx(), place, x, x, nullptr, 20);
    g.output(alike.x);
    g.output(alike.kept);
    g.output(alike.sizes);
    g.allocate();
    fixture::write(x, std::vector<float>(120, value));
    fixture::write(scores, std::vector<float>(30, value));
    g.run(1);
    const auto kept  = fixture::read<int32_t>(alike.kept);
    const auto sizes = fixture::read<float>(alike.sizes);
    const auto above = std::adjacent_find(kept.begin(), kept.end(), [](int32_t a, int32_t b) { return a >= b; });
    t.expect(above == kept.end() && kept.front() >= 0 && kept.back() < 30, "without meaning: kept");
    t.expect(std::accumulate(sizes.begin(), sizes.end(), 0.0f) == 30.0f, "without meaning: sizes");
}

// [d, n, heads] as attention takes keys, of which a class token's row is left out.
void test_key_features(fixture::checks & t) {
    graph g;
    ggml_tensor * keys = g.input(GGML_TYPE_F32, 6, 5, 11); // [d, heads, rows]
    ggml_tensor * sum  = illava_build_key_features(g.ctx(), ggml_permute(g.ctx(), keys, 0, 2, 1, 3), 10);
    g.output(sum);
    g.allocate();
    const auto k = fixture::write(keys, fixture::normal(330, 1.0f, 3));
    g.run(1);
    const auto found = fixture::read<float>(sum);
    bool same = found.size() == 60;
    for (size_t i = 0; same && i < 10; i++) {
        for (size_t e = 0; e < 6; e++) {
            double expected = 0;
            for (size_t h = 0; h < 5; h++) {
                expected += k[(i * 5 + h) * 6 + e];
            }
            same = same && std::fabs(found[i * 6 + e] - expected) < 1e-5;
        }
    }
    t.expect(same, "features are sums over the heads");
}

} // namespace

int main() {
    fixture::checks t;
    for (illava_place place : { ILLAVA_PLACE_ANY, ILLAVA_PLACE_CPU })
    for (bool assign : { false, true }) {
        for (const auto & [n, r] : std::vector<std::pair<int64_t, int64_t>> {
                { 2, 1 }, { 3, 1 }, { 3, 2 }, { 40, 1 }, { 41, 9 }, { 64, 32 }, { 65, 40 }, { 97, 96 }, { 300, 77 } }) {
            for (bool sized : { false, true }) {
                for (bool twins : { false, true }) {
                    // without some, twins stand on both sides and are alike but for rounding, which then ranks the pairs
                    const bool some = !assign && !twins;
                    for (int64_t held : some ? std::vector<int64_t>{ 0, 3, 6, 7 } : std::vector<int64_t>{ 0 }) {
                        test_case(t, { n, r, 24, 16, sized, twins, assign, held }, place);
                    }
                }
            }
        }
        for (float value : { 1.0f, 0.0f, NAN, INFINITY }) {
            test_nonsense(t, value, assign, place);
        }
        test_case(t, { 2400, 600, 16, 8, true, false, assign }, place); // more than one piece
    }
    test_key_features(t);
    return t.finish();
}
