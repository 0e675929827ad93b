// The rows of a prefill under way: which are still alive, how they are cut into ubatches, and how a merge layer
// folds the least attended of each span into one.

#pragma once

#include "illava-step.h"
#include "llama-batch.h"
#include "llama-segment.h"

#include <cstdint>
#include <vector>

struct llama_merge_step : illava_step_trace {
    std::vector<float> residual; // [n_out, n_embd], only if the call keeps it
};

// consecutive rows that go through the graph together
struct llama_prefill_chunk {
    size_t           first;
    size_t           n;
    llama_score_rows score = LLAMA_SCORE_ROWS_NONE;
    bool             two_ways = false; // its rows attend to each other both ways
};

struct llama_prefill_span {
    int32_t              first;
    int32_t              n;
    std::vector<int32_t> r; // removed at each merge layer
    bool                 two_ways;
    std::vector<int32_t> thinned; // let go in each segment's cache after the prompt; empty: none
};

class llama_prefill_rows {
public:
    // copies the call, which has been checked: its arrays need not outlive this
    // raters: as illava_choose_raters() gives them; n_embd: width of the residual stream; n_embd_inp: of an embedding row, wider where image features follow it that
    // the first layers add
    llama_prefill_rows(
            const illava_prefill_params & params, std::vector<bool> raters, size_t n_cuts, int32_t n_pos, int32_t n_embd,
            int32_t n_embd_inp);

    // rows still alive
    size_t size() const { return rows.size(); }

    // rows that will be alive in segment i, at most
    size_t size_in_segment(size_t i) const;

    // whether any span loses rows at merge layer number `cut`
    bool merges_at(size_t cut) const;

    // the span of a row, -1 for text
    int32_t span(size_t i) const { return rows[i].span; }

    // The query rows that `score` asks, and the scores' divisor beside the heads, of a span of n rows.
    double n_queries(illava_score score, size_t n) const;

    // A chunk stays within one span or between two: its query rows are then exactly the span's if scores are
    // read. The cuts fall at every segment, as decode() would make them for tokens and embeddings. Removing
    // nothing therefore gives the result of one ordinary cache bit for bit.
    // If rows are gone and nothing is merged or scored any more, spans and text go together: few rows cost
    // almost as much as many.
    std::vector<llama_prefill_chunk> cut(uint32_t n_ubatch, bool merges, bool scored, illava_score score) const;

    // equal_seqs: how a cache with several streams wants its ubatches
    llama_ubatch ubatch(const llama_prefill_chunk & chunk, llama_seq_id seq_id, bool equal_seqs, bool output_last) const;

    // whether the strategy ranks by attention
    bool wants_scores() const { return illava_strategy_scores(strategy); }

    // whether the strategy matches tokens that are alike
    bool wants_features() const { return illava_strategy_groups(strategy) && strategy != ILLAVA_STRATEGY_SPARSEVLM; }

    // whether cells of segment i are let go once it is computed
    bool thins_in(size_t i) const;

    // BEFORE: text that stands before every span, which other prompts may share
    enum fate { BEFORE, STAYS, GOES };

    // Chooses the rows whose cells segment number `segment` lets go, which begins at `layer`. sums: as in merge(). Adds a
    // step for each span that loses any; [rows] what becomes of each.
    std::vector<fate> thin(
            size_t segment, int32_t layer, int32_t n_head, illava_score score, const std::vector<double> & sums,
            std::vector<llama_merge_step> & steps) const;

    // the first row of a span, if none has gone
    size_t first_of(int32_t span) const { return spans[span].first; }

    // the residual stream after a segment becomes the input of the next
    void enter_next(std::vector<float> residual_next) { residual = std::move(residual_next); }

    // Takes what goes from every span at merge layer number `cut`, by the call's strategy. sums: attention received by
    // each row, where the strategy ranks by it; keys: [rows, d] features of each row, where it matches by likeness.
    void merge(
            size_t cut, int32_t layer, int32_t n_head, illava_score score, const std::vector<double> & sums,
            const std::vector<float> & keys, bool keep_residual, std::vector<llama_merge_step> & steps);

private:
    struct row {
        int32_t index; // in the call
        int32_t span;  // -1: text
        float   size;  // original tokens it stands for
        bool    held;  // merges last
    };

    // Merges n rows x of one span, alike by keys [n, d]. Returns the rows that stay, ascending, and sets
    // their values and sizes.
    // Rows that go from the n of a span at merge layer number `cut`: all but the planned number, or but the smallest set
    // with that layer's share of the scores if it is smaller.
    int32_t n_removed(const llama_prefill_span & span, size_t cut, size_t n, const std::vector<float> & scores) const;

    std::vector<int32_t> reduce(
            row * of, float * x, const float * keys, size_t d, int32_t n, int32_t r, llama_merge_step & step) const;

    const int32_t n_rows;
    const int32_t n_pos;
    const int32_t n_embd;
    const int32_t n_embd_inp;

    const enum illava_strategy strategy;
    const uint64_t             seed;
    const bool                 count_sizes;

    std::vector<llama_token>        tokens; // [n_rows]
    std::vector<float>              embd;   // [n_rows, n_embd_inp], or empty
    std::vector<llama_pos>          pos;    // [n_pos, n_rows]
    std::vector<llama_prefill_span> spans;
    std::vector<bool>               raters; // [n_rows] text whose attention ranks; empty if none is asked
    std::vector<float>              mass;   // [n_cuts] share of the scores that stays; 0: the planned number does

    std::vector<row>   rows;
    std::vector<float> residual; // [rows, n_embd]; empty before the first segment

    bool          is_token(size_t i) const;
    void          embedding(size_t i, float * out) const; // [n_embd_inp]
};
