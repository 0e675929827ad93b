// Which tokens form a group: pairs, clusters, and the nearest of the most attended.

#include "illava-clusters.h"
#include "illava-directions.h"

#include "ggml-impl.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace {

constexpr int n_iterations = 5;

std::vector<illava_direction> begin_with(const illava_directions & tokens) {
    std::vector<illava_direction> all;
    all.reserve(tokens.n);
    for (size_t i = 0; i < tokens.n; i++) {
        all.emplace_back(tokens.at(i), tokens.d, tokens.size[i]);
    }
    return all;
}

std::vector<int32_t> identity(size_t n) {
    std::vector<int32_t> all(n);
    std::iota(all.begin(), all.end(), 0);
    return all;
}

// Cosines with many directions at a time: 16 of them lie side by side, so that their sums go on next to each
// other. Every sum is taken in the same order.
class side_by_side {
  public:
    side_by_side(const std::vector<float> & unit, size_t d, const std::vector<int32_t> & of) :
        d(d), n(of.size()), panels((n + width - 1) / width * width * d, 0.0f) {
        for (size_t j = 0; j < n; j++) {
            const float * row = unit.data() + size_t(of[j]) * d;
            float * to = panels.data() + j / width * width * d + j % width;
            for (size_t e = 0; e < d; e++) {
                to[e * width] = row[e];
            }
        }
    }

    // The lowest index of the most similar, and its cosine. A NaN is similar to nothing.
    std::pair<size_t, float> most_alike(const float * row) const {
        std::pair<size_t, float> best = { 0, float(illava_unlike) };
        for (size_t first = 0; first < n; first += width) {
            const float * panel = panels.data() + first * d;
            float sum[width] = {};
            for (size_t e = 0; e < d; e++) {
                for (size_t j = 0; j < width; j++) {
                    sum[j] += row[e] * panel[e * width + j];
                }
            }
            for (size_t j = 0; j < width && first + j < n; j++) {
                if (sum[j] > best.second) {
                    best = { first + j, sum[j] };
                }
            }
        }
        return best;
    }

  private:
    static constexpr size_t width = 16;

    size_t             d, n;
    std::vector<float> panels; // [panels, d, width]
};

// ToMe: the tokens are dealt to A and B in turn. Each of A finds the most similar of B, and the pairs most
// alike merge into their token of B. One round takes at most half. If more must go, there is another among
// those left. Held tokens join when fewer than two others are left.
std::vector<int32_t> bipartite(const illava_directions & tokens, const uint8_t * held, size_t r) {
    std::vector<int32_t> into  = identity(tokens.n);
    std::vector<int32_t> alive = into;
    std::vector<float>   unit  = tokens.unit;
    const auto survivors = [&] {
        std::vector<int32_t> all;
        std::copy_if(into.begin(), into.end(), std::back_inserter(all), [&, i = 0](int32_t to) mutable { return to == i++; });
        return all;
    };
    if (held) {
        alive.erase(std::remove_if(alive.begin(), alive.end(), [&](int32_t i) { return held[i]; }), alive.end());
    }
    std::vector<illava_direction> sums;

    struct pair {
        float   similarity;
        int32_t a, b;
    };
    while (r > 0) {
        if (alive.size() < 2) {
            alive = survivors();
        }
        std::vector<int32_t> b;
        for (size_t j = 1; j < alive.size(); j += 2) {
            b.push_back(alive[j]);
        }
        const side_by_side others(unit, tokens.d, b);
        std::vector<pair>  pairs;
        for (size_t i = 0; i < alive.size(); i += 2) {
            const auto best = others.most_alike(unit.data() + size_t(alive[i]) * tokens.d);
            pairs.push_back({ best.second, alive[i], b[best.first] });
        }
        std::stable_sort(pairs.begin(), pairs.end(), [](const pair & x, const pair & y) { return x.similarity > y.similarity; });

        pairs.resize(std::min(r, alive.size() / 2));
        r -= pairs.size();
        if (r > 0 && sums.empty()) {
            sums = begin_with(tokens);
        }
        for (const pair & p : pairs) {
            into[p.a] = p.b;
            if (r > 0) {
                sums[p.b].add(sums[p.a]);
            }
        }
        for (size_t i = 0; r > 0 && i < pairs.size(); i++) {
            const int32_t to = pairs[i].b;
            sums[to].measure();
            for (size_t e = 0; e < tokens.d; e++) {
                const double length = sums[to].length;
                unit[to * tokens.d + e] = float(length > 0.0 ? sums[to].sum[e] / length : 0.0);
            }
        }
        alive.erase(std::remove_if(alive.begin(), alive.end(), [&](int32_t i) { return into[i] != i; }), alive.end());
    }
    illava_follow(into);
    return into;
}

// Those that do not stay go into the most similar of those that do.
std::vector<int32_t> into_nearest(const illava_directions & tokens, const std::vector<bool> & stays) {
    std::vector<int32_t> survivors;
    for (size_t i = 0; i < tokens.n; i++) {
        if (stays[i]) {
            survivors.push_back(int32_t(i));
        }
    }
    const side_by_side   others(tokens.unit, tokens.d, survivors);
    std::vector<int32_t> into = identity(tokens.n);
    for (size_t i = 0; i < tokens.n; i++) {
        if (!stays[i]) {
            into[i] = survivors[others.most_alike(tokens.at(i)).first];
        }
    }
    return into;
}

// The r least attended, by (score, index); no number counts as the lowest.
std::vector<bool> all_but_least(const float * scores, size_t n, size_t r) {
    const auto key = [&](int32_t i) { return std::isnan(scores[i]) ? -INFINITY : scores[i]; };
    std::vector<int32_t> order = identity(n);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return key(a) < key(b); });
    std::vector<bool> stays(n, true);
    for (size_t k = 0; k < r; k++) {
        stays[order[k]] = false;
    }
    return stays;
}

// VisionZip (Yang et al., 2024): of n - r tokens that stay, 27 of 32 are the most attended. The others stand at even
// distances among the rest and take up the rest, each the most similar; what is taken up has a mean of its own, which
// is added.
illava_groups visionzip(const illava_directions & tokens, const float * scores, size_t r) {
    const size_t n_out = tokens.n - r, n_targets = (n_out * 5 + 16) / 32;

    illava_groups groups;
    groups.into = identity(tokens.n);
    groups.weights.assign(tokens.n, 1.0f);
    const auto dominant = all_but_least(scores, tokens.n, tokens.n - (n_out - n_targets));
    std::vector<int32_t> rest;
    for (size_t i = 0; i < tokens.n; i++) {
        if (!dominant[i]) {
            rest.push_back(int32_t(i));
        }
    }
    std::vector<int32_t> targets, others;
    const size_t step = n_targets > 0 ? rest.size() / n_targets : 0;
    for (size_t j = 0; j < rest.size(); j++) {
        (n_targets > 0 && j % step == 0 && targets.size() < n_targets ? targets : others).push_back(rest[j]);
    }
    const side_by_side  among(tokens.unit, tokens.d, targets);
    std::vector<size_t> taken(tokens.n, 0);
    for (int32_t i : others) {
        groups.into[i] = n_targets > 0 ? targets[among.most_alike(tokens.at(i)).first] : -1;
        taken[std::max(groups.into[i], 0)]++;
    }
    for (int32_t i : others) {
        groups.weights[i] = groups.into[i] < 0 ? 1.0f : 1.0f / float(taken[groups.into[i]]);
    }
    return groups;
}

// The most similar pair of all merges into the larger of the two, r times.
std::vector<int32_t> greedy(const illava_directions & tokens, size_t r) {
    std::vector<illava_direction> sums  = begin_with(tokens);
    std::vector<double>           sizes = tokens.size;
    std::vector<int32_t>          into  = identity(tokens.n);
    std::vector<int32_t>          alive = into;

    // of each token the most similar of those behind it
    std::vector<int32_t> partner(tokens.n, -1);
    std::vector<double>  closest(tokens.n, illava_unlike - 1.0);
    const auto look = [&](int32_t i) {
        partner[i] = -1;
        closest[i] = illava_unlike - 1.0;
        for (auto at = std::upper_bound(alive.begin(), alive.end(), i); at != alive.end(); ++at) {
            const double similarity = illava_cosine(sums[i], sums[*at]);
            if (similarity > closest[i]) {
                closest[i] = similarity;
                partner[i] = *at;
            }
        }
    };
    for (int32_t i : alive) {
        look(i);
    }
    for (; r > 0; r--) {
        const int32_t a = *std::max_element(alive.begin(), alive.end(), [&](int32_t i, int32_t j) { return closest[i] < closest[j]; });
        const int32_t b = partner[a];
        const int32_t stays = sizes[b] > sizes[a] ? b : a;
        const int32_t goes  = stays == a ? b : a;

        into[goes] = stays;
        sums[stays].add(sums[goes]);
        sums[stays].measure();
        sizes[stays] += sizes[goes];
        alive.erase(std::lower_bound(alive.begin(), alive.end(), goes));
        for (int32_t i : alive) {
            if (i == stays || partner[i] == stays || partner[i] == goes) {
                look(i);
            } else if (i < stays) {
                const double similarity = illava_cosine(sums[i], sums[stays]);
                if (similarity > closest[i] || (similarity == closest[i] && stays < partner[i])) {
                    closest[i] = similarity;
                    partner[i] = stays;
                }
            }
        }
    }
    illava_follow(into);
    return into;
}

// Lloyd's iterations on the sphere, from tokens at even distances. A cluster that loses its last token is given the
// one that fits worst where it is.
std::vector<int32_t> kmeans(const illava_directions & tokens, size_t r) {
    const size_t n = tokens.n;
    const size_t k = n - r;

    std::vector<illava_direction> centres;
    for (size_t g = 0; g < k; g++) {
        centres.emplace_back(tokens.at(g * n / k), tokens.d, 1.0);
    }
    std::vector<size_t> cluster(n);
    std::vector<double> fit(n);
    for (int iteration = 0; iteration < n_iterations; iteration++) {
        std::vector<size_t> members(k, 0);
        for (size_t i = 0; i < n; i++) {
            fit[i] = illava_unlike - 1.0;
            for (size_t g = 0; g < k; g++) {
                const double similarity = illava_cosine(tokens.at(i), centres[g]);
                if (similarity > fit[i]) {
                    fit[i]     = similarity;
                    cluster[i] = g;
                }
            }
            members[cluster[i]]++;
        }
        for (size_t g = 0; g < k; g++) {
            if (members[g] > 0) {
                continue;
            }
            size_t worst = n;
            for (size_t i = 0; i < n; i++) {
                if (members[cluster[i]] > 1 && (worst == n || fit[i] < fit[worst])) {
                    worst = i;
                }
            }
            members[cluster[worst]]--;
            cluster[worst] = g;
            members[g]     = 1;
        }
        centres.assign(k, illava_direction(tokens.d));
        for (size_t i = 0; i < n; i++) {
            centres[cluster[i]].add(tokens.at(i), tokens.size[i]);
        }
        for (auto & centre : centres) {
            centre.measure();
        }
    }

    // A cluster stands where the middle of its tokens stood. Not the one nearest its centre: of two tokens both are
    // equally near, and rounding would choose.
    std::vector<std::vector<int32_t>> members(k);
    for (size_t i = 0; i < n; i++) {
        members[cluster[i]].push_back(int32_t(i));
    }
    std::vector<int32_t> into(n);
    for (const auto & of : members) {
        for (int32_t i : of) {
            into[i] = of[(of.size() - 1) / 2];
        }
    }
    return into;
}

// Between the two values nearest to the place, in proportion.
double quantile(const std::vector<float> & sorted, double share) {
    const double place = share * double(sorted.size() - 1);
    const size_t below = size_t(place);
    const size_t above = std::min(below + 1, sorted.size() - 1);
    return sorted[below] + (place - double(below)) * (double(sorted[above]) - sorted[below]);
}

// The m tokens of n that stay. First come outliers: their score lies further above the third quartile than
// one and a half times the distance of the quartiles. If there are more than m, the highest m stay; if fewer,
// some of the others at even distances.
std::vector<bool> outliers(const float * scores, size_t n, size_t m) {
    std::vector<float> sorted(scores, scores + n);
    for (float & score : sorted) {
        score = std::isnan(score) ? 0.0f : score;
    }
    const std::vector<float> value = sorted;
    std::sort(sorted.begin(), sorted.end());
    const double q1    = quantile(sorted, 0.25);
    const double q3    = quantile(sorted, 0.75);
    const double bound = q3 + 1.5 * (q3 - q1);

    std::vector<int32_t> high, rest;
    for (size_t i = 0; i < n; i++) {
        (value[i] > bound ? high : rest).push_back(int32_t(i));
    }
    if (high.size() > m) {
        std::stable_sort(high.begin(), high.end(), [&](int32_t a, int32_t b) { return value[a] > value[b]; });
        high.resize(m);
    }
    std::vector<bool> stays(n, false);
    for (int32_t i : high) {
        stays[i] = true;
    }
    const size_t more = m - high.size();
    for (size_t j = 0; j < more; j++) {
        stays[rest[(2 * j + 1) * rest.size() / (2 * more)]] = true;
    }
    return stays;
}

} // namespace

illava_groups illava_make_groups(enum illava_strategy strategy, const illava_tokens & tokens, size_t r) {
    GGML_ASSERT(r < tokens.n);
    if (strategy == ILLAVA_STRATEGY_SPARSEVLM) {
        return illava_make_clusters(tokens, r);
    }
    const illava_directions directions(tokens);

    illava_groups groups;
    groups.weights.assign(directions.size.begin(), directions.size.end());
    switch (strategy) {
        case ILLAVA_STRATEGY_BIPARTITE: groups.into = bipartite(directions, tokens.held, r); break;
        case ILLAVA_STRATEGY_KMEANS:    groups.into = kmeans   (directions, r); break;
        case ILLAVA_STRATEGY_GREEDY:    groups.into = greedy   (directions, r); break;
        case ILLAVA_STRATEGY_PRUMERGE:
            groups.into = into_nearest(directions, outliers(tokens.scores, tokens.n, tokens.n - r));
            for (size_t i = 0; i < tokens.n; i++) {
                // attention that vanishes or is no number still leaves a token a part in its mean
                const float smallest = 1e-30f;
                groups.weights[i] = tokens.scores[i] > smallest ? tokens.scores[i] : smallest;
            }
            break;
        case ILLAVA_STRATEGY_VISIONZIP: return visionzip(directions, tokens.scores, r);
        case ILLAVA_STRATEGY_ASSIGN:
            groups.into = into_nearest(directions, all_but_least(tokens.scores, tokens.n, r));
            break;
        default: GGML_ABORT("strategy %d merges no groups", int(strategy));
    }
    return groups;
}
