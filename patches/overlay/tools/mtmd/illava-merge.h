// Token merging inside the image encoder: what is merged (a schedule), and the graph nodes that do it (a merger).
//
// A schedule rides on clip_image_f32, because like a picture's size it decides how many tokens come out; the graph,
// clip_n_output_tokens() and the inputs clip_encode() fills all ask the same two functions of shape below.

#pragma once

#include "illava.h"

#include "ggml.h"
#include "illava-alike.h"
#include "illava-graph.h"
#include "illava-groups-graph.h"

#include <cstdint>
#include <memory>
#include <vector>

struct illava_merge_schedule {
    std::vector<illava_merge_step> steps; // layers strictly ascending, r > 0, counted in rows of the tower (patches)

    enum illava_strategy strategy = ILLAVA_STRATEGY_MERGE;
    uint64_t             seed     = 0; // of chance
    int32_t              n_layer  = 0; // that the tower runs; a step at this one stands behind the last of them

    int32_t first_layer    = 0;     // that may merge
    int32_t unit_rows      = 1;     // consecutive rows merged as one unit: 4 for whole 2x2 groups
    int32_t rows_per_token = 1;     // rows the projector makes one output token of
    int32_t protected_rows = 0;     // trailing rows (the class token) that are neither scored nor merged
    int32_t pool_side      = 0;     // the projector averages squares of so many patches a side; 0: it does not
    int32_t line_breaks    = -1;    // rows between the lines of tokens, which without merging follow each line but the last; -1: none
    int32_t raster_side    = 0;     // rows come line by line and are put in groups of so many patches a side first; 0: they come so
    bool    rotary_keys    = false; // keys turn with their place, so that they do not tell what is alike
    bool    composed_score = false; // stock operations alone, even if the backend has fused ones
    bool    class_scores   = false; // rank by the attention of the class token alone, which is the last row
    std::vector<float> held;        // [units] 1 for one that bipartite leaves out while two others are there; empty: none
    bool    count_sizes    = false; // a token that stands for s original ones counts s times in later layers' attention

    ggml_backend_t backend = nullptr; // the tower's, which decides; null counts as one with the fused score

    std::vector<illava_group_request> requests; // [steps] of a strategy whose groups a processor makes: its nodes point here

    // Whether the strategy acts once, behind the last layer.
    bool acts_behind() const { return strategy == ILLAVA_STRATEGY_PRUMERGE || strategy == ILLAVA_STRATEGY_VISIONZIP; }

    // Whether the class token alone is asked what it attends to.
    bool class_asks() const { return protected_rows > 0 && (class_scores || acts_behind()); }
};

// Whether the strategy's groups are made on the encoder's backend; else by custom nodes, which a CPU computes.
bool illava_merge_in_graph(enum illava_strategy strategy);

using illava_merge_schedule_ptr = std::shared_ptr<const illava_merge_schedule>;

// Patch rows left of n_rows, and output tokens left of n_tokens. Without a schedule: all of them.
int64_t illava_merge_rows_left  (const illava_merge_schedule_ptr & schedule, int64_t n_rows);
int64_t illava_merge_tokens_left(const illava_merge_schedule_ptr & schedule, int64_t n_tokens);

// Throws illava_error (ILLAVA_BAD_ARG) when the tower cannot take the schedule over n_rows patches; the sentence says
// which step and which limit.
void illava_merge_check(const illava_merge_schedule & schedule, int64_t n_rows);

// The units that chance leaves of the n that enter a step, ascending.
std::vector<int32_t> illava_merge_drawn(const illava_merge_schedule & schedule, const illava_merge_step & step, int64_t n);

// Names of a step's result tensors in the graph, for reading them back.
struct illava_merge_names {
    explicit illava_merge_names(int32_t layer);

    char scores[GGML_MAX_NAME]; // f32 [units in]: sum over heads, queries and the unit's rows
    char kept  [GGML_MAX_NAME]; // i32 [units out]
    char order [GGML_MAX_NAME]; // i32 [units merged], least attended first
    char entering[GGML_MAX_NAME]; // f32 [n_embd, rows], the residual that enters a step, and
    char merged  [GGML_MAX_NAME]; // f32 [unit's floats, units out], what it leaves; for whoever times a graph
    char groups[GGML_MAX_NAME]; // f32 [units in, 2], see illava-groups-graph.h
};

// Name of the input that takes a schedule's `held`.
constexpr char illava_merge_held[] = "illava_held";

// The same of one matching of a step, see illava_match_tensors.
struct illava_match_names {
    illava_match_names(int32_t layer, size_t match);

    char gone[GGML_MAX_NAME];
    char into[GGML_MAX_NAME];
};

// One per graph under construction. A layer calls attend() with what it gave to attention and, after the attention
// residual, merge(); a layer without a step gets its tensors back untouched.
class illava_merger {
  public:
    explicit illava_merger(illava_merge_schedule_ptr schedule);

    // q: [d, n_rows, n_head], k: [d, n_rows, n_head_kv], both permuted as attention takes them. The class token's row
    // is the last.
    void attend(ggml_context * ctx, int il, ggml_tensor * q, ggml_tensor * k, ggml_tensor * mask, float scale);

    // Whether attention counts sizes from here on: softmax(scale * q k + log s), s = 1 for the class token. The two
    // functions below then take the place of stock attention's, which has no mask that is one row for all queries.
    bool counts_sizes() const { return log_sizes != nullptr; }

    // q, k, v and mask, f16 or null, as ggml_flash_attn_ext takes them -> [d, n_head, n_rows]
    ggml_tensor * flash_attn(ggml_context * ctx, ggml_tensor * q, ggml_tensor * k, ggml_tensor * v, ggml_tensor * mask, float scale);

    // kq: [n_rows, n_rows, n_head], before it is scaled
    ggml_tensor * weigh(ggml_context * ctx, ggml_tensor * kq, float scale) const;

    // x: [n_embd, n_rows] -> [n_embd, rows left]; n_pos follows. beside: features of the units that merge as their rows
    // do, [any, units], or null, or a null.
    ggml_tensor * merge(ggml_context * ctx, int il, ggml_tensor * x, int64_t & n_pos, ggml_tensor ** beside = nullptr);

    // The same behind the last layer.
    ggml_tensor * finish(ggml_context * ctx, ggml_tensor * x, int64_t & n_pos, ggml_tensor ** beside = nullptr) {
        return merge(ctx, schedule->n_layer, x, n_pos, beside);
    }

    // M-RoPE positions, i32 [4 * n_rows] section by section -> those of the rows that layer il left.
    ggml_tensor * positions(ggml_context * ctx, int il, ggml_tensor * pos) const;

    // A mask between rows, [n_rows, n_rows] -> f32, that of the rows that layer il left.
    ggml_tensor * mask(ggml_context * ctx, int il, ggml_tensor * mask) const;

    // x: [n_embd, n_x * n_y + class row], line by line -> the same, group by group where the schedule's rows come in
    // lines; within a group line by line.
    ggml_tensor * gather(ggml_context * ctx, ggml_tensor * x, int64_t n_x, int64_t n_y) const;

    // i32 [rows], a number for each row: those of the n_rows that are left.
    ggml_tensor * left(ggml_context * ctx, ggml_tensor * numbers, int64_t n_rows) const;

    // x: [n_embd, >= n_rows], group by group -> [n_embd * rows of a token, tokens], without what stands behind.
    ggml_tensor * tokens(ggml_context * ctx, ggml_tensor * x, int64_t n_rows) const;

    // x: [n_embd, n_rows] of n_x * n_y patches, line by line -> [n_embd, squares], the mean of the rows left in each;
    // zeros where none is.
    ggml_tensor * pool(ggml_context * ctx, ggml_tensor * x, int64_t n_x, int64_t n_y) const;

    // Rows, positions and mask between rows in the order of windows -> those in the order of the grid's groups.
    // order: i32 [groups], where each group stands among the windows.
    void leave_windows(ggml_context * ctx, ggml_tensor * order, ggml_tensor *& x, ggml_tensor *& pos, ggml_tensor *& mask) const;

  private:
    const illava_merge_step * step_at(int il) const;

    ggml_tensor * score(ggml_context * ctx, ggml_tensor * q, ggml_tensor * k, ggml_tensor * mask, float scale);
    ggml_tensor * received(ggml_context * ctx, ggml_tensor * q, ggml_tensor * k, ggml_tensor * mask, float scale) const;

    // f16 [n_rows, n], n up to the queries of a piece: the logs of sizes, row for row the same
    ggml_tensor * size_mask(ggml_context * ctx, int64_t n);
    void          weigh_from_here(ggml_context * ctx);

    // f16 [n_rows, n_rows]: a mask between rows with the logs of sizes
    ggml_tensor * weighed(ggml_context * ctx, ggml_tensor * mask);

    ggml_tensor * key_features(ggml_context * ctx) const;

    // Null if none is held; begins with the schedule's and follows the steps.
    illava_held_tensors * held_units(ggml_context * ctx);

    // rows: [any, n] -> [any, n - r], by what the units, [unit's floats, n], are like; sets kept
    ggml_tensor * reduce(ggml_context * ctx, const illava_merge_step & step, ggml_tensor * rows, ggml_tensor * units);

    illava_merge_schedule_ptr schedule;

    int           attended = -1;      // the layer whose step `keys` and `scores` are for
    ggml_tensor * keys     = nullptr;
    ggml_tensor * scores   = nullptr; // where the strategy ranks by attention
    ggml_tensor * sizes    = nullptr; // f32 [units], after a step by groups
    illava_held_tensors held = {};   // where some are held
    ggml_tensor * log_sizes = nullptr; // f32 [rows], the class token's too, where attention counts them
    ggml_tensor * mask_rows = nullptr; // f16 [rows, queries of a piece], made when it is needed
    ggml_tensor * unweighed_mask = nullptr; // of which
    ggml_tensor * weighed_mask   = nullptr; // was made
    int           merged   = -1;      // the layer `kept` belongs to
    int64_t       n_units  = 0;       // that entered it
    ggml_tensor * kept     = nullptr; // i32 [units left]
    ggml_tensor * places   = nullptr; // i32 [units left], which of the first units they are, where the projector pools
};

// Null without a schedule: the graph is then built by upstream's lines alone.
std::shared_ptr<illava_merger> illava_make_merger(const illava_merge_schedule_ptr & schedule);
