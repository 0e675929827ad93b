#include "llama-kv-segments.h"

#include "llama-batch.h"
#include "llama-cparams.h"
#include "llama-impl.h"
#include "llama-io.h"
#include "llama-model.h"

#include <algorithm>
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
        const auto range = layers(i);

        for (bool swa : { false, true }) {
            const auto filter = [&](int32_t il) { return il >= range.begin && il < range.end && model.hparams.is_swa(il) == swa; };

            bool any = false;
            for (int32_t il = range.begin; il < range.end; ++il) {
                any = any || filter(il);
            }
            if (!any) {
                continue;
            }
            LLAMA_LOG_INFO("%s: layers [%d, %d)%s, %u cells\n", __func__, range.begin, range.end, swa ? " with a window" : "", n_cells[i]);

            parts.push_back({ range, swa, std::make_unique<llama_kv_cache>(
                    model, model.hparams, type_k, type_v, v_trans, offload, unified, n_cells[i], n_seq_max,
                    /* n_pad */ 1, swa ? model.hparams.n_swa : 0, swa ? model.hparams.swa_type : LLAMA_SWA_TYPE_NONE,
                    /* mem_other */ nullptr, filter, nullptr, nullptr) });
            parts.back().cache->has_sizes = true;
            parts.back().cache->keeps_all = true;
        }
    }
}

std::vector<const llama_kv_segments::part *> llama_kv_segments::at(size_t i) const {
    std::vector<const part *> res;
    for (const auto & part : parts) {
        if (part.layers.begin == bounds[i]) {
            res.push_back(&part);
        }
    }
    return res;
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
        auto ubatch = parts[0].cache->get_n_stream() == 1 ?
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
    for (auto & part : parts) {
        sinfos.push_back(part.cache->prepare(ubatches));
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
    for (const auto & part : parts) {
        if (!part.cache->get_can_shift()) {
            return false;
        }
    }
    return true;
}

void llama_kv_segments::clear(bool data) {
    for (auto & part : parts) {
        part.cache->clear(data);
    }
}

bool llama_kv_segments::seq_rm(llama_seq_id seq_id, llama_pos p0, llama_pos p1) {
    bool res = true;
    for (auto & part : parts) {
        res = part.cache->seq_rm(seq_id, p0, p1) && res;
    }
    return res;
}

void llama_kv_segments::seq_cp(llama_seq_id seq_id_src, llama_seq_id seq_id_dst, llama_pos p0, llama_pos p1) {
    for (auto & part : parts) {
        part.cache->seq_cp(seq_id_src, seq_id_dst, p0, p1);
    }
}

void llama_kv_segments::seq_keep(llama_seq_id seq_id) {
    for (auto & part : parts) {
        part.cache->seq_keep(seq_id);
    }
}

void llama_kv_segments::seq_add(llama_seq_id seq_id, llama_pos p0, llama_pos p1, llama_pos shift) {
    for (auto & part : parts) {
        part.cache->seq_add(seq_id, p0, p1, shift);
    }
}

void llama_kv_segments::seq_div(llama_seq_id seq_id, llama_pos p0, llama_pos p1, int d) {
    for (auto & part : parts) {
        part.cache->seq_div(seq_id, p0, p1, d);
    }
}

llama_pos llama_kv_segments::seq_pos_min(llama_seq_id seq_id) const {
    // layers with a window may have let go of their oldest cells
    llama_pos res = -1;
    for (const auto * part : at(0)) {
        res = std::max(res, part->cache->seq_pos_min(seq_id));
    }
    return res;
}

llama_pos llama_kv_segments::seq_pos_max(llama_seq_id seq_id) const {
    return parts[0].cache->seq_pos_max(seq_id);
}

std::map<ggml_backend_buffer_type_t, size_t> llama_kv_segments::memory_breakdown() const {
    std::map<ggml_backend_buffer_type_t, size_t> res;
    for (const auto & part : parts) {
        for (const auto & [buft, size] : part.cache->memory_breakdown()) {
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

    for (const auto & part : parts) {
        part.cache->state_write(io, seq_id, flags);
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
        for (; done < parts.size(); ++done) {
            parts[done].cache->state_read(io, seq_id, flags);
        }
    } catch (...) {
        // the segments must hold the same sequence or none of it
        for (size_t i = 0; i < done; ++i) {
            parts[i].cache->state_clear(seq_id);
        }
        throw;
    }
}

//
// llama_kv_segments_context
//

llama_kv_segments_context::llama_kv_segments_context(llama_memory_status status) : status(status) {}

void llama_kv_segments_context::add(const llama_kv_segments::part & part, llama_memory_context_ptr ctx) {
    parts.push_back(&part);
    ctxs.push_back(std::move(ctx));
}

llama_kv_segments_context::llama_kv_segments_context(llama_kv_segments * kv) : status(LLAMA_MEMORY_STATUS_SUCCESS) {
    for (const auto & part : kv->all()) {
        add(part, part.cache->init_full());
        status = llama_memory_status_combine(status, ctxs.back()->get_status());
    }
    range = { parts.front()->layers.begin, parts.back()->layers.end, true };
}

llama_kv_segments_context::llama_kv_segments_context(llama_kv_segments * kv, llama_context * lctx, bool optimize) :
    status(LLAMA_MEMORY_STATUS_NO_UPDATE) {
    for (const auto & part : kv->all()) {
        add(part, part.cache->init_update(lctx, optimize));
        status = llama_memory_status_combine(status, ctxs.back()->get_status());
    }
}

llama_kv_segments_context::llama_kv_segments_context(
        llama_kv_segments * kv, std::vector<slot_info_vec_t> sinfos, std::vector<llama_ubatch> ubatches_in) :
    ubatches(std::move(ubatches_in)), status(LLAMA_MEMORY_STATUS_SUCCESS) {
    for (size_t i = 0; i < kv->all().size(); ++i) {
        const auto & part = kv->all()[i];
        add(part, std::make_unique<llama_kv_cache_context>(part.cache.get(), std::move(sinfos[i]), ubatches));
    }
    range = { parts.front()->layers.begin, parts.back()->layers.end, true };
}

llama_kv_segments_context::llama_kv_segments_context(
        llama_kv_segments * kv,
        size_t i,
        std::vector<slot_info_vec_t> sinfos,
        std::vector<llama_ubatch> ubatches_in,
        std::vector<llama_score_rows> score,
        bool keys) :
    range(kv->layers(i)),
    wants_keys(keys),
    ubatches(std::move(ubatches_in)),
    score_rows(std::move(score)),
    status(LLAMA_MEMORY_STATUS_SUCCESS) {
    GGML_ASSERT(score_rows.size() == ubatches.size());

    const auto caches = kv->at(i);
    for (size_t k = 0; k < caches.size(); ++k) {
        add(*caches[k], std::make_unique<llama_kv_cache_context>(caches[k]->cache.get(), std::move(sinfos[k]), ubatches));
    }
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
    llm_graph_input_attn_kv(hparams, cparams, nullptr), range(mctx->layers()), score(mctx->score()), keys(mctx->keys()) {}

void llm_graph_input_attn_kv_segments::set_input(const llama_ubatch * ubatch) {
    for (auto & inp : inputs) {
        inp.attn->set_input(ubatch);
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
        res = inputs[i].attn->can_reuse_with(mctx->at(i), params) && res;
    }
    return res;
}

llm_graph_input_attn_kv * llm_graph_input_attn_kv_segments::at_layer(int il) {
    for (auto & inp : inputs) {
        if (il >= inp.range.begin && il < inp.range.end && hparams.is_swa(il) == inp.swa) {
            return inp.attn.get();
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
