#include "encode-nodes.h"

#include "bench-pair.h"
#include "clip.h"
#include "illava-vision.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <map>
#include <unordered_set>

namespace bench {
namespace {

// Milliseconds. One thread is timed by the processor time it takes, which a busy machine disturbs less.
double now(int32_t threads) {
    if (threads == 1) {
        return 1e3 * double(std::clock()) / CLOCKS_PER_SEC;
    }
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void add_ancestors(const ggml_tensor * tensor, std::unordered_set<const ggml_tensor *> & found) {
    if (tensor == nullptr || !found.insert(tensor).second) {
        return;
    }
    for (const ggml_tensor * source : tensor->src) {
        add_ancestors(source, found);
    }
}

} // namespace

// Sees every node once before it runs. The graph is built anew for each encode, always in the same order: what one
// run learns of node i holds for node i of the next.
struct encode_nodes::clock {
    std::vector<bool>          stop_after; // by node; empty: nowhere
    bool                       stop_always = false;
    std::vector<ggml_tensor *> nodes;
    std::vector<double>        at; // milliseconds since the start, at each stop
    std::vector<size_t>        stops;
    int32_t                    threads = 1;
    double                     begin   = 0;

    static bool on_node(ggml_tensor * node, bool ask, void * self) {
        auto & c = *static_cast<clock *>(self);
        if (ask) {
            c.nodes.push_back(node);
            return c.stop_always || (c.nodes.size() <= c.stop_after.size() && c.stop_after[c.nodes.size() - 1]);
        }
        c.at.push_back(now(c.threads) - c.begin);
        c.stops.push_back(c.nodes.size() - 1);
        return true;
    }
};

encode_nodes::encode_nodes(
    illava_vision & vision, const illava_image & image, std::vector<illava_merge_step> steps, bool balanced, int32_t threads) :
    vision_(vision), image_(image), steps_(std::move(steps)), balanced_(balanced), threads_(threads) {}

void encode_nodes::run(clock & c) {
    clip_image_f32_batch batch;
    batch.entries.push_back(image_.tiles.at(0));
    if (!steps_.empty()) {
        auto schedule            = std::make_shared<illava_merge_schedule>();
        schedule->steps          = steps_;
        schedule->rows_per_token = schedule->unit_rows = vision_.group();
        schedule->protected_rows = vision_.model().class_embedding ? 1 : 0;
        schedule->n_layer        = vision_.n_layer_run();
        schedule->backend        = vision_.parts.backend;
        schedule->strategy       = balanced_ ? ILLAVA_STRATEGY_BIPARTITE : ILLAVA_STRATEGY_MERGE;
        schedule->count_sizes    = balanced_;
        const auto & tile        = batch.entries.front();
        const int    patch       = vision_.hparams().patch_size;
        illava_merge_check(*schedule, int64_t(tile.nx() / patch) * (tile.ny() / patch));
        batch.entries.front().merge = schedule;
    }
    std::vector<float> out(
        size_t(clip_n_output_tokens(vision_.clip.get(), &batch.entries.front())) * clip_n_mmproj_embd(vision_.clip.get()));

    clip_encode_params params;
    params.imgs      = &batch;
    params.n_threads = threads_;
    params.out_embd  = &out;

    c.threads = threads_;
    c.begin   = now(threads_);
    ggml_backend_sched_set_eval_callback(vision_.parts.sched, clock::on_node, &c);
    const bool done = clip_encode(vision_.clip.get(), &params);
    ggml_backend_sched_set_eval_callback(vision_.parts.sched, nullptr, nullptr);
    require(done, "encoding failed");
    c.at.push_back(now(c.threads) - c.begin);
    c.stops.push_back(c.nodes.size() - 1);
}

// What a merged residual is computed from, less what the residual that enters the merge is computed from, is there
// for merging.
std::vector<bool> encode_nodes::find_merging(const std::vector<ggml_tensor *> & nodes) const {
    std::unordered_set<const ggml_tensor *> merging;
    for (const illava_merge_step & step : steps_) {
        const illava_merge_names names(step.layer);
        const ggml_tensor * entering = nullptr, * merged = nullptr;
        for (const ggml_tensor * node : nodes) {
            entering = strcmp(node->name, names.entering) == 0 ? node : entering;
            merged   = strcmp(node->name, names.merged)   == 0 ? node : merged;
        }
        require(entering != nullptr && merged != nullptr, "the graph does not name what it merges");

        std::unordered_set<const ggml_tensor *> before, with;
        add_ancestors(entering, before);
        add_ancestors(merged, with);
        for (const ggml_tensor * tensor : with) {
            if (before.count(tensor) == 0) {
                merging.insert(tensor);
            }
        }
    }
    std::vector<bool> out;
    for (const ggml_tensor * node : nodes) {
        out.push_back(merging.count(node) != 0);
    }
    return out;
}

std::vector<double> encode_nodes::merge_shares(int repeats) {
    clock look;
    run(look);
    const std::vector<bool> merging = find_merging(look.nodes);

    std::vector<bool> stop_after(merging.size(), false);
    for (size_t i = 0; i < merging.size(); ++i) {
        // The first node's end is where the time of the graph alone begins.
        stop_after[i] = i == 0 || (i + 1 < merging.size() && merging[i] != merging[i + 1]);
    }

    std::vector<double> shares;
    for (int repeat = 0; repeat < repeats; ++repeat) {
        clock c;
        c.stop_after = stop_after;
        run(c);
        double in_merging = 0;
        for (size_t s = 1; s < c.stops.size(); ++s) {
            if (merging[c.stops[s]]) {
                in_merging += c.at[s] - c.at[s - 1];
            }
        }
        shares.push_back(in_merging / c.at.back());
    }
    return shares;
}

std::string encode_nodes::profile() {
    clock warm_up;
    run(warm_up);
    const std::vector<bool> merging = find_merging(warm_up.nodes);

    clock c;
    c.stop_always = true;
    run(c);
    std::map<std::string, double> by_operation;
    for (size_t s = 0; s < c.nodes.size(); ++s) {
        const ggml_tensor * node = c.nodes[s];
        std::string         name = ggml_op_desc(node);
        if (merging[s]) {
            name = "merging: " + name;
        } else if (node->op == GGML_OP_MUL_MAT) {
            name += " " + std::to_string(node->src[0]->ne[0]) + " to " + std::to_string(node->ne[0]);
        }
        by_operation[name] += c.at[s] - (s > 0 ? c.at[s - 1] : 0);
    }
    std::vector<std::pair<std::string, double>> sorted(by_operation.begin(), by_operation.end());
    std::sort(sorted.begin(), sorted.end(), [](const auto & a, const auto & b) { return a.second > b.second; });

    std::string out = "{";
    for (const auto & [name, ms] : sorted) {
        char text[160];
        std::snprintf(text, sizeof(text), "%s\"%s\": %.3f", out.size() > 1 ? ", " : "", name.c_str(), ms);
        out += text;
    }
    return out + "}";
}

} // namespace bench
