// A KV cache whose size shrinks with depth: the decoder's layers are cut at the merge layers into segments, and
// each segment has a cache of its own. Text crosses all segments in one graph; a call that merges visual tokens
// runs the segments one after another (llama-prefill-segments.cpp).
//
// If some of a segment's layers see a sliding window only, the segment has two caches of equal size, one for each kind
// of layer: the mask of attention is made from a cache's window. Positions decide what lies in the window, so that a
// picture that lost tokens hides as much of the past as before.

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

    // the layers of one segment that have a sliding window, or those that have none
    struct part {
        llama_layer_range layers;
        bool              swa;
        std::unique_ptr<llama_kv_cache> cache;
    };

    size_t            size()           const { return bounds.size() - 1; }
    llama_layer_range layers(size_t i) const;

    const std::vector<part> & all() const { return parts; }

    // the caches of segment i, one or two
    std::vector<const part *> at(size_t i) const;

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

    std::vector<part> parts; // segment by segment, in each the layers without a window first
};

// The memory context of a batch: of all segments for text, of a single one while a merging call runs.
class llama_kv_segments_context : public llama_memory_context_i {
public:
    using slot_info_vec_t = llama_kv_cache::slot_info_vec_t;

    explicit llama_kv_segments_context(llama_memory_status status);

    // all segments; full cache, pending updates, or a batch with one slot list per cache
    explicit llama_kv_segments_context(llama_kv_segments * kv);
    llama_kv_segments_context(llama_kv_segments * kv, llama_context * lctx, bool optimize);
    llama_kv_segments_context(llama_kv_segments * kv, std::vector<slot_info_vec_t> sinfos, std::vector<llama_ubatch> ubatches);

    // segment i alone with a slot list per cache, what to score in each ubatch, and whether to hand out the last
    // layer's keys
    llama_kv_segments_context(
            llama_kv_segments * kv,
            size_t i,
            std::vector<slot_info_vec_t> sinfos,
            std::vector<llama_ubatch> ubatches,
            std::vector<llama_score_rows> score,
            bool keys);

    bool next()  override;
    bool apply() override;

    llama_memory_status  get_status() const override;
    const llama_ubatch & get_ubatch() const override;

    llama_layer_range layers() const { return range; }

    // the cache context of each cache that takes part, in order, and what it holds
    size_t                          size()        const { return ctxs.size(); }
    const llama_kv_cache_context *  at(size_t i)  const;
    const llama_kv_segments::part & of(size_t i)  const { return *parts[i]; }

    llama_score_rows score() const;
    bool             keys()  const { return wants_keys; }

private:
    llama_layer_range range = {0, 0, true};
    bool              wants_keys = false;

    std::vector<const llama_kv_segments::part *> parts;
    std::vector<llama_memory_context_ptr>        ctxs;

    void add(const llama_kv_segments::part & part, llama_memory_context_ptr ctx);

    std::vector<llama_ubatch>     ubatches;
    std::vector<llama_score_rows> score_rows;

    size_t i_next = 0;

    llama_memory_status status;
};

// The attention input of a graph over several segments: one ordinary input per cache. build_attn() asks for the
// one that serves its layer, so the architectures' code stays as it is.
class llm_graph_input_attn_kv_segments : public llm_graph_input_attn_kv {
public:
    llm_graph_input_attn_kv_segments(
            const llama_hparams & hparams, const llama_cparams & cparams, const llama_kv_segments_context * mctx);

    void add(const llama_kv_segments::part & part, std::unique_ptr<llm_graph_input_attn_kv> attn) {
        inputs.push_back({ part.layers, part.swa, std::move(attn) });
    }

    void set_input(const llama_ubatch * ubatch) override;
    bool can_reuse(const llm_graph_params & params) override;

    llm_graph_input_attn_kv * at_layer(int il) override;

    // what to score at layer il of this graph
    llama_score_rows score_at(int il) const override;

    // whether the keys of layer il are handed out
    bool keys_at(int il) const override;

private:
    struct input {
        llama_layer_range range;
        bool              swa;
        std::unique_ptr<llm_graph_input_attn_kv> attn;
    };

    std::vector<input> inputs;

    llama_layer_range range;
    llama_score_rows  score;
    bool              keys;
};

// The same for an architecture with layers of both kinds, which asks for an input of its own type.
class llm_graph_input_attn_kv_iswa_segments : public llm_graph_input_attn_kv_iswa {
public:
    llm_graph_input_attn_kv_iswa_segments(
            const llama_hparams & hparams, const llama_cparams & cparams, std::unique_ptr<llm_graph_input_attn_kv> inp) :
        llm_graph_input_attn_kv_iswa(hparams, cparams, nullptr), inp(std::move(inp)) {}

    void set_input(const llama_ubatch * ubatch)        override { inp->set_input(ubatch); }
    bool can_reuse(const llm_graph_params & params)    override { return inp->can_reuse(params); }
    llm_graph_input_attn_kv * segments()               override { return inp.get(); }

private:
    std::unique_ptr<llm_graph_input_attn_kv> inp;
};

// the layers the graph under construction runs: all of them unless a merging call runs one segment
llama_layer_range llama_graph_layers(const llama_cparams & cparams, const llama_memory_context_i * mctx, int n_layer);
