#include "llama-prefill-segments.h"

#include "illava-status.h"
#include "llama-batch.h"
#include "llama-kv-segments.h"
#include "llama-kv-thinning.h"
#include "llama-model.h"
#include "llama-raters.h"

#include <algorithm>
#include <cmath>

// Throws illava_error for a call whose numbers do not fit together.
static void check(const illava_prefill_params & p, const llama_model & model, size_t n_cuts, const llama_cparams & cparams) {
    const int32_t  n_vocab   = model.vocab.n_tokens();
    const uint32_t n_seq_max = cparams.n_seq_max;

    if (p.n_rows < 1) {
        illava_fail(ILLAVA_BAD_ARG, "prefill of %d rows: at least one is needed", p.n_rows);
    }
    if (p.seq_id < 0 || uint32_t(p.seq_id) >= n_seq_max) {
        illava_fail(ILLAVA_BAD_ARG, "sequence %d: this context has sequences 0 to %u", p.seq_id, n_seq_max - 1);
    }
    for (int32_t i = 0; i < p.n_rows; ++i) {
        if (p.tokens[i] >= n_vocab) {
            illava_fail(ILLAVA_BAD_ARG, "row %d: token %d, the vocabulary has %d", i, p.tokens[i], n_vocab);
        }
        if (p.tokens[i] < 0 && !p.embd) {
            illava_fail(ILLAVA_BAD_ARG, "row %d has neither a token nor an embedding", i);
        }
        if (p.sizes && !(p.sizes[i] > 0.0f && p.sizes[i] < INFINITY)) {
            illava_fail(ILLAVA_BAD_ARG, "row %d: size %g, a row stands for more than nothing", i, p.sizes[i]);
        }
        if (i > 0 && p.pos[i] < p.pos[i - 1]) {
            illava_fail(ILLAVA_BAD_ARG, "row %d: position %d after %d, positions must not decrease", i, p.pos[i], p.pos[i - 1]);
        }
    }

    int32_t end = 0;
    for (size_t s = 0; s < p.n_spans; ++s) {
        const auto & span = p.spans[s];
        if (span.first < end || span.n < 1 || span.n > p.n_rows - span.first) {
            illava_fail(ILLAVA_BAD_ARG, "span %zu covers rows %d to %d, the call has %d and spans must not overlap",
                    s, span.first, span.first + span.n - 1, p.n_rows);
        }
        int64_t n = span.n;
        for (size_t k = 0; k < n_cuts; ++k) {
            if (span.r[k] < 0 || span.r[k] >= n) {
                illava_fail(ILLAVA_BAD_ARG, "span %zu, merge layer %zu: r = %d of %lld tokens, at least one must remain",
                        s, k, span.r[k], (long long) n);
            }
            n -= span.r[k];
        }
        if (span.two_ways && uint32_t(span.n) > cparams.n_ubatch) {
            illava_fail(ILLAVA_BAD_ARG, "a picture of %d tokens that attend to each other both ways: n_ubatch is %u, it must be at least as many",
                    span.n, cparams.n_ubatch);
        }
        end = span.first + span.n;
    }
}

// Attention both ways while one lives.
class both_ways {
public:
    both_ways(const llama_context_parts & ctx, bool wanted) : ctx(ctx), wanted(wanted) {
        if (wanted) {
            ctx.set_causal_attn(false);
        }
    }
    ~both_ways() {
        if (wanted) {
            ctx.set_causal_attn(true);
        }
    }
    both_ways(const both_ways &) = delete;
    both_ways & operator=(const both_ways &) = delete;

private:
    const llama_context_parts & ctx;
    const bool wanted;
};

static void fail_full(const llama_kv_cache & cache, llama_layer_range layers, llama_seq_id seq_id, size_t n_rows) {
    illava_fail(ILLAVA_KV_FULL, "layers %d to %d have %u cells, %u of them in use: no room for %zu more rows",
            layers.begin, layers.end - 1, cache.get_size(), cache.get_cells(seq_id).get_used(), n_rows);
}


illava_prefill_run::illava_prefill_run(llama_context & context, const illava_prefill_params & params) :
    ctx(context),
    seq_id(params.seq_id),
    p0(params.n_rows > 0 ? params.pos[0] : 0),
    score(params.score),
    logits_last(params.logits_last),
    keep_residual(params.keep_residual),
    composed_score(params.composed_score),
    thinning(params.thinning),
    rows((check(params, ctx.model(), ctx.n_cuts(), ctx.cparams()), params), llama_choose_raters(params, ctx.model()),
            ctx.n_cuts(), ctx.model().hparams.n_pos_per_embd(), ctx.model().hparams.n_embd,
            ctx.model().hparams.n_embd_inp()) {
    if (const llama_pos last = ctx.memory().seq_pos_max(seq_id); last >= p0) {
        illava_fail(ILLAVA_BAD_ARG, "the first row has position %d, sequence %d already reaches %d", p0, seq_id, last);
    }
    if (!is_segmented()) {
        if (params.count_sizes) {
            illava_fail(ILLAVA_UNSUPPORTED, "attention cannot count sizes for architecture '%s': give positions without "
                    "gaps and no sizes", ctx.model().arch_name().c_str());
        }
        return;
    }
    // what no segment can hold now is refused before anything is computed
    const auto & kv = ctx.segments();
    for (size_t i = 0; i < kv.size(); ++i) {
        const auto & cache = *kv.at(i).front()->cache;
        if (rows.size_in_segment(i) > cache.get_size() - cache.get_cells(seq_id).get_used()) {
            fail_full(cache, kv.layers(i), seq_id, rows.size_in_segment(i));
        }
    }
}

illava_prefill_run::~illava_prefill_run() {
    cancel();
}

bool illava_prefill_run::is_segmented() const {
    return ctx.is_segmented();
}

void illava_prefill_run::cancel() {
    if (state == RUNNING) {
        state = CANCELLED;
        // a span is in the cache whole or not at all
        ctx.memory().seq_rm(seq_id, p0, -1);
    }
}

bool illava_prefill_run::step() {
    if (state != RUNNING) {
        illava_fail(ILLAVA_BAD_ARG, "this prefill is %s", state == DONE ? "done" : "cancelled");
    }
    try {
        if (i_chunk == 0) {
            enter_segment();
        }
        {
            const both_ways attention(ctx, chunks[i_chunk].two_ways);
            if (is_segmented()) {
                compute();
            } else {
                decode_chunk();
            }
        }
        if (++i_chunk == chunks.size()) {
            leave_segment();
        }
    } catch (...) {
        cancel();
        throw;
    }
    return state == DONE;
}

void illava_prefill_run::enter_segment() {
    if (!is_segmented()) {
        chunks = rows.cut(ctx.cparams().n_ubatch, true, false, score);
        return;
    }
    const auto & kv     = ctx.segments();
    const auto   layers = kv.layers(i_segment);

    merges = !layers.last && rows.merges_at(i_segment);
    thins  = rows.thins_in(i_segment);
    scored = thins || (merges && rows.wants_scores());
    matched = merges && rows.wants_features();
    chunks = rows.cut(ctx.cparams().n_ubatch, merges, scored, score);

    out .assign(layers.last ? 0 : rows.size()*ctx.model().hparams.n_embd, 0.0f);
    keys.clear();
    sums.assign(scored ? rows.size() : 0, 0.0);
    row_of_cell.assign(scored ? kv.at(i_segment).front()->cache->get_size() : 0, -1);
    cells.assign(thins ? kv.at(i_segment).size() : 0, {});
}

void illava_prefill_run::compute() {
    auto &       kv     = ctx.segments();
    const auto   caches = kv.at(i_segment);
    const auto   layers = kv.layers(i_segment);
    const auto & chunk  = chunks[i_chunk];
    const size_t n_embd = ctx.model().hparams.n_embd;

    if (!ctx.prepare(composed_score)) {
        illava_fail(ILLAVA_NO_MEMORY, "no memory for one row of logits");
    }

    const bool output = layers.last && logits_last && i_chunk + 1 == chunks.size();

    std::vector<llama_ubatch> ubatches;
    ubatches.push_back(rows.ubatch(chunk, seq_id, kv.all()[0].cache->get_n_stream() > 1, output));

    std::vector<llama_kv_cache::slot_info_vec_t> sinfos;
    for (const auto * part : caches) {
        sinfos.push_back(part->cache->prepare(ubatches));
        if (sinfos.back().empty()) {
            fail_full(*part->cache, layers, seq_id, rows.size() - chunk.first);
        }
        if (thins) {
            const auto & idxs = sinfos.back()[0].idxs[0];
            auto &       into = cells[sinfos.size() - 1];
            into.insert(into.end(), idxs.begin(), idxs.end());
        }
        if (scored && part->swa == ctx.model().hparams.is_swa(layers.end - 1)) {
            for (size_t i = 0; i < chunk.n; ++i) {
                row_of_cell[sinfos.back()[0].idxs[0][i]] = chunk.first + i;
            }
        }
    }

    llama_kv_segments_context mctx(&kv, i_segment, std::move(sinfos), std::move(ubatches),
            std::vector<llama_score_rows>{ chunk.score }, matched && rows.span(chunk.first) >= 0);

    ggml_status status;
    auto * res = ctx.compute(mctx, output, status);
    if (!res) {
        switch (status) {
            case GGML_STATUS_ABORTED:      illava_fail(ILLAVA_ABORTED,   "interrupted");
            case GGML_STATUS_ALLOC_FAILED: illava_fail(ILLAVA_NO_MEMORY, "no memory for the compute buffers of %zu rows", chunk.n);
            default:                       illava_fail(ILLAVA_INTERNAL,  "computing layers %d to %d failed", layers.begin, layers.end - 1);
        }
    }
    if (!layers.last) {
        ggml_backend_tensor_get(res->get_embd(), out.data() + chunk.first*n_embd, 0, chunk.n*n_embd*sizeof(float));
    } else if (output) {
        ggml_backend_tensor_get(res->get_logits(), ctx.logits(), 0, ggml_nbytes(res->get_logits()));
    }

    if (mctx.keys()) {
        const size_t n = ggml_nelements(res->t_attn_keys);
        keys.resize(rows.size()*n/chunk.n);
        ggml_backend_tensor_get(res->t_attn_keys, keys.data() + chunk.first*n/chunk.n, 0, n*sizeof(float));
    }
    if (chunk.score != LLAMA_SCORE_ROWS_NONE) {
        std::vector<float> received(res->t_attn_score->ne[0]);
        ggml_backend_tensor_get(res->t_attn_score, received.data(), 0, received.size()*sizeof(float));
        add_scores(chunk, received);
    }
}

void illava_prefill_run::add_scores(const llama_prefill_chunk & chunk, const std::vector<float> & received) {
    const int32_t span = rows.span(chunk.first);
    for (size_t cell = 0; cell < received.size(); ++cell) {
        const int32_t i = row_of_cell[cell];
        if (i < 0 || rows.span(i) < 0) {
            continue;
        }
        // the image's score counts its own query rows only
        if (score != ILLAVA_SCORE_IMAGE || rows.span(i) == span) {
            sums[i] += received[cell];
        }
    }
}

void illava_prefill_run::leave_segment() {
    i_chunk = 0;
    if (!is_segmented()) {
        state = DONE;
        return;
    }
    const auto & kv     = ctx.segments();
    const auto   layers = kv.layers(i_segment);

    if (thins) {
        thin();
    }
    if (layers.last) {
        state = DONE;
        return;
    }
    rows.enter_next(std::move(out));
    if (merges) {
        rows.merge(i_segment, layers.end, ctx.model().hparams.n_head(layers.end - 1), score, sums, keys, keep_residual, steps);
    }
    i_segment++;
}

// Rows of each chunk went to the cells in order, so that row i lies in cells[part][i].
void illava_prefill_run::thin() {
    const auto & kv      = ctx.segments();
    const auto   layers  = kv.layers(i_segment);
    const auto & hparams = ctx.model().hparams;

    const auto first = steps.size();
    const auto stays = rows.thin(i_segment, layers.begin, hparams.n_head(layers.end - 1), score, sums, steps);
    const auto parts = kv.at(i_segment);
    for (size_t k = 0; k < parts.size(); ++k) {
        llama_thinned_cells split;
        for (size_t i = 0; i < rows.size(); ++i) {
            switch (stays[i]) {
                case llama_prefill_rows::GOES:   split.gone.push_back(cells[k][i]); break;
                case llama_prefill_rows::STAYS:  split.stay.push_back(cells[k][i]); break;
                case llama_prefill_rows::BEFORE: break;
            }
        }
        llama_thin_cells(*parts[k]->cache, hparams, seq_id, thinning, split);
        for (size_t s = first; s < steps.size() && keep_residual; ++s) {
            std::vector<uint32_t> kept;
            for (int32_t i : steps[s].kept) {
                kept.push_back(cells[k][rows.first_of(steps[s].span) + i]);
            }
            const auto held = llama_read_cells(*parts[k]->cache, hparams, seq_id, kept);
            steps[s].residual.insert(steps[s].residual.end(), held.begin(), held.end());
        }
    }
}

// A context without merge layers has one ordinary memory of whatever kind: the rows go through decode().
void illava_prefill_run::decode_chunk() {
    const auto & chunk  = chunks[i_chunk];
    const bool   output = logits_last && i_chunk + 1 == chunks.size();
    const auto   rows_i = rows.ubatch(chunk, seq_id, false, output);

    llama_batch batch = {};
    batch.n_tokens = rows_i.n_tokens;
    batch.token    = rows_i.token;
    batch.embd     = rows_i.embd;
    // token rows take one position, which is the first row's; embedding rows all of them
    batch.pos      = rows_i.pos;
    batch.n_seq_id = rows_i.n_seq_id;
    batch.seq_id   = rows_i.seq_id;
    batch.logits   = rows_i.output;

    switch (ctx.decode(batch)) {
        case 0: break;
        case 1: illava_fail(ILLAVA_KV_FULL, "no room for %zu rows in a context of %u cells", rows.size() - chunk.first, ctx.n_ctx());
        case 2: illava_fail(ILLAVA_ABORTED, "interrupted");
        default: illava_fail(ILLAVA_INTERNAL, "decoding rows %zu to %zu failed", chunk.first, chunk.first + chunk.n - 1);
    }
}
