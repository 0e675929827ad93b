// A KV cache whose size shrinks with depth: the decoder's layers are cut at the merge layers into segments, and
// each segment has a cache of its own. Text crosses all segments in one graph; a call that merges visual tokens
// runs the segments one after another (llama-prefill-segments.cpp).

#pragma once

#include "llama-graph.h"
#include "llama-kv-cache.h"
#include "llama-memory.h"
#include "llama-segment.h"

#include <memory>
#include <vector>

class llama_kv_segments : public llama_memory_i {
public:
    // cuts: merge layers, strictly ascending, each in 1 .. n_layer - 1
    // n_cells: cells (per stream) of each segment, one more than there are cuts
    llama_kv_segments(
            const llama_model & model,
                    ggml_type   type_k,
                    ggml_type   type_v,
                         bool   v_trans,
                         bool   offload,
                         bool   unified,
                     uint32_t   n_seq_max,
  const std::vector<int32_t>  & cuts,
  const std::vector<uint32_t> & n_cells);

    size_t            size()           const { return caches.size(); }
    llama_kv_cache *  at(size_t i)     const { return caches[i].get(); }
    llama_layer_range layers(size_t i) const;

    llama_memory_context_ptr init_batch(llama_batch_allocr & balloc, uint32_t n_ubatch, bool embd_all) override;
    llama_memory_context_ptr init_full() override;
    llama_memory_context_ptr init_update(llama_context * lctx, bool optimize) override;

    bool get_can_shift() const override;

    void clear(bool data) override;

    bool seq_rm  (llama_seq_id seq_id,                              llama_pos p0, llama_pos p1) override;
    void seq_cp  (llama_seq_id seq_id_src, llama_seq_id seq_id_dst, llama_pos p0, llama_pos p1) override;
    void seq_keep(llama_seq_id seq_id)                                                          override;
    void seq_add (llama_seq_id seq_id,                              llama_pos p0, llama_pos p1, llama_pos shift) override;
    void seq_div (llama_seq_id seq_id,                              llama_pos p0, llama_pos p1, int d) override;

    // the first segment holds every token that was ever given, the deeper ones only survivors
    llama_pos seq_pos_min(llama_seq_id seq_id) const override;
    llama_pos seq_pos_max(llama_seq_id seq_id) const override;

    std::map<ggml_backend_buffer_type_t, size_t> memory_breakdown() const override;

    void state_write(llama_io_write_i & io, llama_seq_id seq_id = -1, llama_state_seq_flags flags = 0) const override;
    void state_read (llama_io_read_i  & io, llama_seq_id seq_id = -1, llama_state_seq_flags flags = 0) override;

private:
    const std::vector<int32_t> bounds; // 0, cuts..., n_layer

    std::vector<std::unique_ptr<llama_kv_cache>> caches;
};

// The memory context of a batch: of all segments for text, of a single one while a merging call runs.
class llama_kv_segments_context : public llama_memory_context_i {
public:
    using slot_info_vec_t = llama_kv_cache::slot_info_vec_t;

    explicit llama_kv_segments_context(llama_memory_status status);

    // all segments; full cache, pending updates, or a batch with one slot list per segment
    explicit llama_kv_segments_context(llama_kv_segments * kv);
    llama_kv_segments_context(llama_kv_segments * kv, llama_context * lctx, bool optimize);
    llama_kv_segments_context(llama_kv_segments * kv, std::vector<slot_info_vec_t> sinfos, std::vector<llama_ubatch> ubatches);

    // segment i alone, with what to score in each ubatch and whether to hand out the last layer's keys
    llama_kv_segments_context(
            llama_kv_segments * kv,
            size_t i,
            slot_info_vec_t sinfos,
            std::vector<llama_ubatch> ubatches,
            std::vector<llama_score_rows> score,
            bool keys);

    bool next()  override;
    bool apply() override;

    llama_memory_status  get_status() const override;
    const llama_ubatch & get_ubatch() const override;

    llama_layer_range layers() const { return range; }

    // the cache context of each segment that takes part, in order, and the layers it holds
    size_t                         size()           const { return ctxs.size(); }
    const llama_kv_cache_context * at(size_t i)     const;
    llama_layer_range              layers(size_t i) const { return ranges[i]; }

    llama_score_rows score() const;
    bool             keys()  const { return wants_keys; }

private:
    llama_layer_range range = {0, 0, true};
    bool              wants_keys = false;

    std::vector<llama_layer_range>        ranges;
    std::vector<llama_memory_context_ptr> ctxs;

    std::vector<llama_ubatch>     ubatches;
    std::vector<llama_score_rows> score_rows;

    size_t i_next = 0;

    llama_memory_status status;
};

// The attention input of a graph over several segments: one ordinary input per segment. build_attn() asks for the
// one that serves its layer, so the architectures' code stays as it is.
class llm_graph_input_attn_kv_segments : public llm_graph_input_attn_kv {
public:
    llm_graph_input_attn_kv_segments(
            const llama_hparams & hparams, const llama_cparams & cparams, const llama_kv_segments_context * mctx);

    void add(std::unique_ptr<llm_graph_input_attn_kv> inp) { inputs.push_back(std::move(inp)); }

    void set_input(const llama_ubatch * ubatch) override;
    bool can_reuse(const llm_graph_params & params) override;

    llm_graph_input_attn_kv * at_layer(int il) override;

    // what to score at layer il of this graph
    llama_score_rows score_at(int il) const override;

    // whether the keys of layer il are handed out
    bool keys_at(int il) const override;

private:
    std::vector<std::unique_ptr<llm_graph_input_attn_kv>> inputs;
    std::vector<llama_layer_range> ranges;

    llama_layer_range range;
    llama_score_rows  score;
    bool              keys;
};

// the layers the graph under construction runs: all of them unless a merging call runs one segment
llama_layer_range llama_graph_layers(const llama_cparams & cparams, const llama_memory_context_i * mctx, int n_layer);
