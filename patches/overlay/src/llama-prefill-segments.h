// Prefill with merging: rows of one sequence go through the decoder segment by segment. Between two segments
// the rows of each visual span are merged. A call computes one ubatch, so that other sequences can be decoded
// in between.

#pragma once

#include "llama-context-parts.h"
#include "llama-prefill-rows.h"

#include <cstdint>
#include <vector>

// One prefill under way. Nothing about the cache is remembered from step to step but which of this sequence's rows
// lie in which cells: cells for the rows to come are looked for anew, since others may have taken some.
struct illava_prefill_run {
    // Checks the call and copies it; computes nothing.
    illava_prefill_run(llama_context & context, const illava_prefill_params & params);

    // Cancels what is not done.
    ~illava_prefill_run();

    // Computes one ubatch; true when it was the last. Whatever it throws, nothing of the call stays in the cache.
    bool step();

    // Forgets the rows computed so far; nothing can follow.
    void cancel();

    std::vector<llama_merge_step> steps;

private:
    enum { RUNNING, DONE, CANCELLED } state = RUNNING;

    const llama_context_parts ctx;

    const llama_seq_id seq_id;
    const llama_pos    p0;
    const illava_score score;
    const bool         logits_last;
    const bool         keep_residual;
    const bool         composed_score;
    const enum illava_thinning thinning;

    llama_prefill_rows rows;

    // the segment under way
    size_t                           i_segment = 0;
    size_t                           i_chunk   = 0;
    bool                             merges    = false; // at its end
    bool                             scored    = false; // for that
    bool                             matched   = false; // by likeness
    bool                             thins     = false; // when it is computed
    std::vector<llama_prefill_chunk> chunks;
    std::vector<int32_t>             row_of_cell; // scores come back by cell
    std::vector<std::vector<uint32_t>> cells;     // [caches of the segment, rows] if it is thinned
    std::vector<float>               out;         // [rows, n_embd] the residual stream after it
    std::vector<double>              sums;        // [rows] attention received
    std::vector<float>               keys;        // [rows, n_embd_head] what likeness is taken from; of text nothing

    bool is_segmented() const;

    void enter_segment();
    void compute();
    void leave_segment();
    void thin();
    void add_scores(const llama_prefill_chunk & chunk, const std::vector<float> & received);

    void decode_chunk();
};
