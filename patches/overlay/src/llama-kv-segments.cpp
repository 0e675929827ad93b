#include "llama-kv-segments.h"

#include "llama-batch.h"
#include "llama-cparams.h"
#include "llama-impl.h"
#include "llama-io.h"
#include "llama-model.h"

#include <cassert>
#include <stdexcept>

static std::vector<int32_t> layer_bounds(const std::vector<int32_t> & cuts, int32_t n_layer) {
    std::vector<int32_t> res = { 0 };
    res.insert(res.end(), cuts.begin(), cuts.end());
    res.push_back(n_layer);
    return res;
}

//
// llama_kv_segments
//

llama_kv_segments::llama_kv_segments(
        const llama_model & model,
                ggml_type   type_k,
                ggml_type   type_v,
                     bool   v_trans,
                     bool   offload,
                     bool   unified,
                 uint32_t   n_seq_max,
const std::vector<int32_t>  & cuts,
const std::vector<uint32_t> & n_cells) : bounds(layer_bounds(cuts, model.hparams.n_layer())) {
    GGML_ASSERT(n_cells.size() == bounds.size() - 1);

    for (size_t i = 0; i + 1 < bounds.size(); ++i) {
        const auto range  = layers(i);
        const auto filter = [range](int32_t il) { return il >= range.begin && il < range.end; };

        LLAMA_LOG_INFO("%s: layers [%d, %d), %u cells\n", __func__, range.begin, range.end, n_cells[i]);

        caches.push_back(std::make_unique<llama_kv_cache>(
                model, model.hparams, type_k, type_v, v_trans, offload, unified, n_cells[i], n_seq_max,
                /* n_pad */ 1, /* n_swa */ 0, LLAMA_SWA_TYPE_NONE, /* mem_other */ nullptr,
                filter, nullptr, nullptr));
        caches.back()->has_sizes = true;
    }
}

llama_layer_range llama_kv_segments::layers(size_t i) const {
    return { bounds[i], bounds[i + 1], i + 2 == bounds.size() };
}

llama_memory_context_ptr llama_kv_segments::init_batch(llama_batch_allocr & balloc, uint32_t n_ubatch, bool embd_all) {
    GGML_UNUSED(embd_all);

    const auto failed = []() {
        return std::make_unique<llama_kv_segments_context>(LLAMA_MEMORY_STATUS_FAILED_PREPARE);
    };

    balloc.split_reset();

    std::vector<llama_ubatch> ubatches;
    while (true) {
        auto ubatch = caches[0]->get_n_stream() == 1 ?
            balloc.split_simple(n_ubatch) : balloc.split_equal(n_ubatch, true, 0);
        if (ubatch.n_tokens == 0) {
            break;
        }
        ubatches.push_back(std::move(ubatch));
    }

    if (balloc.get_n_used() < balloc.get_n_tokens()) {
        return failed();
    }

    std::vector<llama_kv_cache::slot_info_vec_t> sinfos;
    for (auto & cache : caches) {
        sinfos.push_back(cache->prepare(ubatches));
        if (sinfos.back().empty()) {
            return failed();
        }
    }

    return std::make_unique<llama_kv_segments_context>(this, std::move(sinfos), std::move(ubatches));
}

llama_memory_context_ptr llama_kv_segments::init_full() {
    return std::make_unique<llama_kv_segments_context>(this);
}

llama_memory_context_ptr llama_kv_segments::init_update(llama_context * lctx, bool optimize) {
    return std::make_unique<llama_kv_segments_context>(this, lctx, optimize);
}

bool llama_kv_segments::get_can_shift() const {
    for (const auto & cache : caches) {
        if (!cache->get_can_shift()) {
            return false;
        }
    }
    return true;
}

void llama_kv_segments::clear(bool data) {
    for (auto & cache : caches) {
        cache->clear(data);
    }
}

bool llama_kv_segments::seq_rm(llama_seq_id seq_id, llama_pos p0, llama_pos p1) {
    bool res = true;
    for (auto & cache : caches) {
        res = cache->seq_rm(seq_id, p0, p1) && res;
    }
    return res;
}

void llama_kv_segments::seq_cp(llama_seq_id seq_id_src, llama_seq_id seq_id_dst, llama_pos p0, llama_pos p1) {
    for (auto & cache : caches) {
        cache->seq_cp(seq_id_src, seq_id_dst, p0, p1);
    }
}

void llama_kv_segments::seq_keep(llama_seq_id seq_id) {
    for (auto & cache : caches) {
        cache->seq_keep(seq_id);
    }
}

void llama_kv_segments::seq_add(llama_seq_id seq_id, llama_pos p0, llama_pos p1, llama_pos shift) {
    for (auto & cache : caches) {
        cache->seq_add(seq_id, p0, p1, shift);
    }
}

void llama_kv_segments::seq_div(llama_seq_id seq_id, llama_pos p0, llama_pos p1, int d) {
    for (auto & cache : caches) {
        cache->seq_div(seq_id, p0, p1, d);
    }
}

llama_pos llama_kv_segments::seq_pos_min(llama_seq_id seq_id) const {
    return caches[0]->seq_pos_min(seq_id);
}

llama_pos llama_kv_segments::seq_pos_max(llama_seq_id seq_id) const {
    return caches[0]->seq_pos_max(seq_id);
}

std::map<ggml_backend_buffer_type_t, size_t> llama_kv_segments::memory_breakdown() const {
    std::map<ggml_backend_buffer_type_t, size_t> res;
    for (const auto & cache : caches) {
        for (const auto & [buft, size] : cache->memory_breakdown()) {
            res[buft] += size;
        }
    }
    return res;
}

// A state is tied to the cuts it was written with: they lead the blob, so that another schedule's state is refused
// instead of being read into the wrong layers.
void llama_kv_segments::state_write(llama_io_write_i & io, llama_seq_id seq_id, llama_state_seq_flags flags) const {
    const uint32_t n = bounds.size();
    io.write(&n, sizeof(n));
    io.write(bounds.data(), n*sizeof(bounds[0]));

    for (const auto & cache : caches) {
        cache->state_write(io, seq_id, flags);
    }
}

void llama_kv_segments::state_read(llama_io_read_i & io, llama_seq_id seq_id, llama_state_seq_flags flags) {
    uint32_t n = 0;
    io.read(&n, sizeof(n));
    if (n != bounds.size()) {
        throw std::runtime_error("the state was saved with other merge layers");
    }

    std::vector<int32_t> saved(n);
    io.read(saved.data(), n*sizeof(saved[0]));
    if (saved != bounds) {
        throw std::runtime_error("the state was saved with other merge layers");
    }

    size_t done = 0;
    try {
        for (; done < caches.size(); ++done) {
            caches[done]->state_read(io, seq_id, flags);
        }
    } catch (...) {
        // the segments must hold the same sequence or none of it
        for (size_t i = 0; i < done; ++i) {
            caches[i]->state_clear(seq_id);
        }
        throw;
    }
}

//
// llama_kv_segments_context
//

llama_kv_segments_context::llama_kv_segments_context(llama_memory_status status) : status(status) {}

llama_kv_segments_context::llama_kv_segments_context(llama_kv_segments * kv) : status(LLAMA_MEMORY_STATUS_SUCCESS) {
    for (size_t i = 0; i < kv->size(); ++i) {
        ranges.push_back(kv->layers(i));
        ctxs.push_back(kv->at(i)->init_full());
        status = llama_memory_status_combine(status, ctxs.back()->get_status());
    }
    range = { ranges.front().begin, ranges.back().end, true };
}

llama_kv_segments_context::llama_kv_segments_context(llama_kv_segments * kv, llama_context * lctx, bool optimize) :
    status(LLAMA_MEMORY_STATUS_NO_UPDATE) {
    for (size_t i = 0; i < kv->size(); ++i) {
        ranges.push_back(kv->layers(i));
        ctxs.push_back(kv->at(i)->init_update(lctx, optimize));
        status = llama_memory_status_combine(status, ctxs.back()->get_status());
    }
}

llama_kv_segments_context::llama_kv_segments_context(
        llama_kv_segments * kv, std::vector<slot_info_vec_t> sinfos, std::vector<llama_ubatch> ubatches_in) :
    ubatches(std::move(ubatches_in)), status(LLAMA_MEMORY_STATUS_SUCCESS) {
    for (size_t i = 0; i < kv->size(); ++i) {
        ranges.push_back(kv->layers(i));
        ctxs.push_back(std::make_unique<llama_kv_cache_context>(kv->at(i), std::move(sinfos[i]), ubatches));
    }
    range = { ranges.front().begin, ranges.back().end, true };
}

llama_kv_segments_context::llama_kv_segments_context(
        llama_kv_segments * kv,
        size_t i,
        slot_info_vec_t sinfos,
        std::vector<llama_ubatch> ubatches_in,
        std::vector<llama_score_rows> score,
        bool keys) :
    range(kv->layers(i)),
    wants_keys(keys),
    ubatches(std::move(ubatches_in)),
    score_rows(std::move(score)),
    status(LLAMA_MEMORY_STATUS_SUCCESS) {
    GGML_ASSERT(score_rows.size() == ubatches.size());

    ranges.push_back(range);
    ctxs.push_back(std::make_unique<llama_kv_cache_context>(kv->at(i), std::move(sinfos), ubatches));
}

bool llama_kv_segments_context::next() {
    for (auto & ctx : ctxs) {
        ctx->next();
    }
    return ++i_next < ubatches.size();
}

bool llama_kv_segments_context::apply() {
    bool res = true;
    for (auto & ctx : ctxs) {
        // an update may concern some of the segments only
        if (ctx->get_status() != LLAMA_MEMORY_STATUS_NO_UPDATE) {
            res = ctx->apply() && res;
        }
    }
    return res;
}

llama_memory_status llama_kv_segments_context::get_status() const {
    return status;
}

const llama_ubatch & llama_kv_segments_context::get_ubatch() const {
    assert(status == LLAMA_MEMORY_STATUS_SUCCESS);
    return ubatches[i_next];
}

const llama_kv_cache_context * llama_kv_segments_context::at(size_t i) const {
    return static_cast<const llama_kv_cache_context *>(ctxs[i].get());
}

llama_score_rows llama_kv_segments_context::score() const {
    return i_next < score_rows.size() ? score_rows[i_next] : LLAMA_SCORE_ROWS_NONE;
}

//
// llm_graph_input_attn_kv_segments
//

llm_graph_input_attn_kv_segments::llm_graph_input_attn_kv_segments(
        const llama_hparams & hparams, const llama_cparams & cparams, const llama_kv_segments_context * mctx) :
    llm_graph_input_attn_kv(hparams, cparams, nullptr), range(mctx->layers()), score(mctx->score()), keys(mctx->keys()) {
    for (size_t i = 0; i < mctx->size(); ++i) {
        ranges.push_back(mctx->layers(i));
    }
}

void llm_graph_input_attn_kv_segments::set_input(const llama_ubatch * ubatch) {
    for (auto & inp : inputs) {
        inp->set_input(ubatch);
    }
}

bool llm_graph_input_attn_kv_segments::can_reuse(const llm_graph_params & params) {
    const auto * mctx = static_cast<const llama_kv_segments_context *>(params.mctx);

    const auto now = mctx->layers();
    if (now.begin != range.begin || now.end != range.end || mctx->score() != score || mctx->keys() != keys) {
        return false;
    }

    bool res = true;
    for (size_t i = 0; i < inputs.size(); ++i) {
        res = inputs[i]->can_reuse_with(mctx->at(i), params) && res;
    }
    return res;
}

llm_graph_input_attn_kv * llm_graph_input_attn_kv_segments::at_layer(int il) {
    for (size_t i = 0; i < ranges.size(); ++i) {
        if (il >= ranges[i].begin && il < ranges[i].end) {
            return inputs[i].get();
        }
    }
    GGML_ABORT("layer %d is in no segment of this graph", il);
}

llama_score_rows llm_graph_input_attn_kv_segments::score_at(int il) const {
    return il == range.end - 1 ? score : LLAMA_SCORE_ROWS_NONE;
}

bool llm_graph_input_attn_kv_segments::keys_at(int il) const {
    return keys && il == range.end - 1;
}

llama_layer_range llama_graph_layers(const llama_cparams & cparams, const llama_memory_context_i * mctx, int n_layer) {
    if (cparams.merge_n_ctx.empty()) {
        return { 0, n_layer, true };
    }
    return static_cast<const llama_kv_segments_context *>(mctx)->layers();
}
