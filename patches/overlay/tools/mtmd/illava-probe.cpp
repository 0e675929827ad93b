#include "illava-clip.h"

#include <algorithm>
#include <cstring>
#include <numeric>

static constexpr int n_pauses = 64; // of a tile, about

// The first node that takes a projector weight ("mm." in every projector of upstream) has the encoder's result as its
// other operand.
static const ggml_tensor * find_encoder_out(ggml_cgraph * gf) {
    for (int i = 0; i < ggml_graph_n_nodes(gf); i++) {
        const ggml_tensor * node = ggml_graph_node(gf, i);
        if (node->src[0] && node->src[1] && strncmp(node->src[0]->name, "mm.", 3) == 0) {
            return node->src[1];
        }
    }
    return nullptr;
}

illava_probe::illava_probe(
    illava_merge_schedule_ptr schedule, int64_t n_rows, int32_t n_head, pause_fn pause, void * pause_data) :
    schedule(std::move(schedule)), n_rows(n_rows), n_head(n_head), pause(pause), pause_data(pause_data) {}

illava_probe::~illava_probe() {
    if (sched) {
        ggml_backend_sched_set_eval_callback(sched, nullptr, nullptr);
    }
}

// The scheduler asks before a node whether it should stop after it, and calls again once the node is computed.
bool illava_probe::on_node(ggml_tensor * node, bool ask, void * self) {
    auto * probe = static_cast<illava_probe *>(self);
    if (ask) {
        const bool pauses = probe->pause && ++probe->n_asked % probe->n_piece == 0;
        return pauses || node == probe->encoder_out;
    }
    if (node == probe->encoder_out) {
        probe->t_encoder_us = probe->worked_us();
    }
    if (probe->pause) {
        const int64_t begin_us = ggml_time_us();
        probe->pause(probe->pause_data);
        probe->t_paused_us += ggml_time_us() - begin_us;
    }
    return true;
}

int64_t illava_probe::worked_us() const {
    return ggml_time_us() - t_paused_us;
}

void illava_probe::before(ggml_backend_sched_t sched_in, ggml_cgraph * gf) {
    sched       = sched_in;
    encoder_out = find_encoder_out(gf);
    n_piece     = std::max(1, ggml_graph_n_nodes(gf) / n_pauses);
    if (encoder_out || pause) {
        ggml_backend_sched_set_eval_callback(sched, on_node, this);
    }
    if (schedule && schedule->strategy == ILLAVA_STRATEGY_RANDOM) {
        draw(gf);
    }
    if (ggml_tensor * held = schedule ? ggml_graph_get_tensor(gf, illava_merge_held) : nullptr) {
        GGML_ASSERT(ggml_nelements(held) == (int64_t) schedule->held.size());
        ggml_backend_tensor_set(held, schedule->held.data(), 0, ggml_nbytes(held));
    }
    t_begin_us = worked_us();
}

void illava_probe::draw(ggml_cgraph * gf) const {
    int64_t n_units = n_rows / schedule->unit_rows;
    for (const auto & step : schedule->steps) {
        const auto kept = illava_merge_drawn(*schedule, step, n_units);
        ggml_tensor * tensor = ggml_graph_get_tensor(gf, illava_merge_names(step.layer).kept);
        GGML_ASSERT(tensor && ggml_nelements(tensor) == (int64_t) kept.size());
        ggml_backend_tensor_set(tensor, kept.data(), 0, kept.size() * sizeof(int32_t));
        n_units = (int64_t) kept.size();
    }
}

template <typename T>
static std::vector<T> read(ggml_cgraph * gf, const char * name) {
    ggml_tensor * tensor = ggml_graph_get_tensor(gf, name);
    GGML_ASSERT(tensor && ggml_is_contiguous(tensor) && ggml_nbytes(tensor) % sizeof(T) == 0);
    std::vector<T> data(ggml_nbytes(tensor) / sizeof(T));
    ggml_backend_tensor_get(tensor, data.data(), 0, ggml_nbytes(tensor));
    return data;
}

// Every unit's survivor, from the matchings of one step; `gone` in the order in which they went.
static std::vector<int32_t> read_into(ggml_cgraph * gf, const illava_merge_step & step, int32_t n, std::vector<int32_t> & gone) {
    std::vector<int32_t> into(n), alive(n);
    std::iota(into.begin(), into.end(), 0);
    std::iota(alive.begin(), alive.end(), 0);
    for (size_t i = 0; ; i++) {
        const illava_match_names names(step.layer, i);
        if (!ggml_graph_get_tensor(gf, names.gone)) {
            break;
        }
        const auto from = read<int32_t>(gf, names.gone);
        const auto to   = read<float>  (gf, names.into);
        for (size_t j = 0; j < from.size(); j++) {
            into[alive.at(from[j])] = alive.at((int32_t) to[j]);
            gone.push_back(alive.at(from[j]));
        }
        alive = illava_survivors(into);
    }
    illava_follow(into);
    return into;
}

void illava_probe::after(ggml_cgraph * gf) {
    const int64_t t_end_us = worked_us();

    // without a projector of its own the whole graph is the encoder
    const int64_t t_split_us = t_encoder_us > 0 ? t_encoder_us : t_end_us;
    encoder_ms   = 1e-3 * (double) (t_split_us - t_begin_us);
    projector_ms = 1e-3 * (double) (t_end_us - t_split_us);

    if (!schedule) {
        return;
    }

    int64_t rows = n_rows;
    std::vector<int32_t> original(n_rows / schedule->unit_rows); // of the units that enter a step
    std::iota(original.begin(), original.end(), 0);

    for (const auto & step : schedule->steps) {
        const illava_merge_names names(step.layer);

        illava_step_trace trace;
        trace.layer  = step.layer;
        trace.n_in   = (int32_t) original.size();
        trace.into   = -1;
        if (illava_strategy_scores(schedule->strategy)) {
            trace.scores = read_scores(gf, step, rows);
        }
        switch (schedule->strategy) {
            case ILLAVA_STRATEGY_MERGE:
                trace.kept   = read<int32_t>(gf, names.kept);
                trace.merged = read<int32_t>(gf, names.order);
                trace.into   = original.at(trace.merged.back());
                break;
            case ILLAVA_STRATEGY_PRUNE:
                // its graph needs no order of those that go
                trace.kept = read<int32_t>(gf, names.kept);
                for (int32_t i = 0; i < trace.n_in; i++) {
                    if (!std::binary_search(trace.kept.begin(), trace.kept.end(), i)) {
                        trace.merged.push_back(i);
                    }
                }
                std::stable_sort(trace.merged.begin(), trace.merged.end(),
                    [&](int32_t a, int32_t b) { return trace.scores[a] < trace.scores[b]; });
                break;
            case ILLAVA_STRATEGY_RANDOM:
                trace.kept   = illava_merge_drawn(*schedule, step, trace.n_in);
                trace.merged = illava_random_order(schedule->seed, 0, step.layer, trace.n_in);
                trace.merged.resize(step.r / schedule->unit_rows);
                break;
            default: {
                const auto into = illava_merge_in_graph(schedule->strategy)
                    ? read_into(gf, step, trace.n_in, trace.merged)
                    : illava_read_into(read<float>(gf, names.groups).data(), trace.n_in);
                trace.kept   = illava_survivors(into);
                trace.groups = illava_list_groups(into, original);
                if (schedule->strategy != ILLAVA_STRATEGY_ASSIGN) { // which names them least attended first
                    trace.merged.clear();
                    for (int32_t i = 0; i < trace.n_in; i++) {
                        if (into[i] != i) {
                            trace.merged.push_back(i);
                        }
                    }
                }
                sizes = illava_group_sizes(into, sizes.empty() ? nullptr : sizes.data(), trace.kept);
                trace.sizes = sizes;
            }
        }
        for (auto * indices : { &trace.kept, &trace.merged }) {
            for (int32_t & index : *indices) {
                index = original.at(index);
            }
        }
        original = trace.kept;
        rows    -= step.r;
        steps.push_back(std::move(trace));
    }
}

std::vector<float> illava_probe::read_scores(ggml_cgraph * gf, const illava_merge_step & step, int64_t rows) const {
    std::vector<float> scores = read<float>(gf, illava_merge_names(step.layer).scores);

    // every row of the set asks, the class token too; where it alone asks, it is the only one
    const double queries  = schedule->class_asks() ? 1.0 : (double) (rows + schedule->protected_rows);
    const double n_summed   = (double) n_head * queries * schedule->unit_rows;
    for (float & score : scores) {
        score = (float) (score / n_summed);
    }
    return scores;
}
