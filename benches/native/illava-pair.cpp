// The patched library, through illava.h.

#include "bench-pair.h"
#include "encode-nodes.h"
#include "illava.h"

#include <algorithm>
#include <map>
#include <numeric>

namespace bench {
namespace {

void check(illava_status status, const char * what) {
    require(status == ILLAVA_OK, std::string(what) + ": " + illava_last_error());
}

template <auto release> struct releaser {
    template <typename T> void operator()(T * handle) const { release(handle); }
};
using vision_ptr  = std::unique_ptr<illava_vision, releaser<illava_vision_free>>;
using image_ptr   = std::unique_ptr<illava_image, releaser<illava_image_free>>;
using encoded_ptr = std::unique_ptr<illava_encoded, releaser<illava_encoded_free>>;

class illava_pair : public pair {
  public:
    illava_pair(llama_model & model, const settings & set) : model_(model), set_(set) {
        illava_set_kernels(set.own);
        if (!set.mmproj.empty()) {
            load_tower();
        }
    }

    const char * build() const override { return "illava"; }

    int32_t n_visual() const override { return n_visual_; }

    uint64_t repacked_bytes() const override { return repacked_bytes_; }

    visual_rows encode(const schedule & tower) override {
        require(vision_ != nullptr, "no tower was loaded");
        const auto           steps  = as_steps(tower);
        illava_encode_params params = encode_params(steps, tower.balanced);
        illava_encoded *     out    = nullptr;
        check(illava_encode(vision_.get(), image_.get(), 0, &params, &out), "encoding");
        encoded_.reset(out);
        illava_encoded_view view = {};
        view.size                = sizeof(view);
        check(illava_encoded_get(encoded_.get(), &view), "reading the embeddings");
        return { view.embd, int32_t(view.n_tokens) };
    }

    llama_context * ready(const schedule & decoder) override {
        // One for each schedule, so that alternating two of them makes no context anew.
        context_ptr & context = contexts_[as_key(decoder)];
        if (!context) {
            std::vector<int32_t>  layers;
            std::vector<uint32_t> deep;
            uint32_t              cells = set_.n_ctx;
            for (const merge_step & step : decoder) {
                require(step.r >= 0 && uint32_t(step.r) < cells, "the schedule removes more rows than the context has");
                cells -= uint32_t(step.r);
                layers.push_back(step.layer);
                deep.push_back(cells);
            }
            illava_context_params params = {};
            params.size            = sizeof(params);
            params.n_ctx           = set_.n_ctx;
            params.n_batch         = std::max(set_.n_ctx, set_.n_ubatch);
            params.n_ubatch        = set_.n_ubatch;
            params.n_seq_max       = 1;
            params.n_threads       = set_.threads;
            params.n_threads_batch = set_.threads;
            params.flash_attn      = 1;
            params.type_k          = GGML_TYPE_F16;
            params.type_v          = GGML_TYPE_F16;
            params.offload_kqv     = true;
            params.merge_layers    = layers.data();
            params.n_merge_layers  = layers.size();
            params.n_ctx_deep      = deep.data();
            llama_context * out    = nullptr;
            check(illava_context_new(&model_, &params, &out), "the context");
            context.reset(out);
        }
        current_ = context.get();
        llama_memory_clear(llama_get_memory(current_), false);
        return current_;
    }

    void prefill(const schedule & decoder, visual_rows rows, int32_t n_text) override {
        const int32_t            n       = rows.n + n_text;
        const int32_t            n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(&model_));
        std::vector<llama_token> tokens(n, -1);
        // The same place on every axis but the fourth, which is 0.
        const int32_t            n_pos = illava_model_n_pos(&model_);
        std::vector<llama_pos>   pos(size_t(n) * n_pos);
        for (int32_t axis = 0; axis < std::min(n_pos, 3); ++axis) {
            std::iota(pos.begin() + axis * n, pos.begin() + (axis + 1) * n, 0);
        }
        for (int32_t i = 0; i < n_text; ++i) {
            tokens[rows.n + i] = text_token(i, n_vocab);
        }
        std::vector<int32_t> removed;
        for (const merge_step & step : decoder) {
            removed.push_back(step.r);
        }
        const illava_span span = { 0, rows.n, removed.data() };

        illava_prefill_params params = {};
        params.size        = sizeof(params);
        params.n_rows      = n;
        params.tokens      = tokens.data();
        params.embd        = rows.embd;
        params.pos         = pos.data();
        params.seq_id      = 0;
        params.spans       = &span;
        params.n_spans     = decoder.empty() ? 0 : 1;
        params.score       = ILLAVA_SCORE_IMAGE;
        params.logits_last = n_text > 0;
        check(illava_prefill(current_, &params, nullptr), "the prefill");
        llama_synchronize(current_);
    }

    memory where_memory_goes() const override {
        memory out;
        if (current_ != nullptr) {
            for (size_t i = 0; i < illava_context_n_segments(current_); ++i) {
                illava_segment s = {};
                s.size           = sizeof(s);
                check(illava_context_segment(current_, i, &s), "the cache");
                out.segments.push_back({ s.il_begin, s.il_end, s.n_cells, s.n_used, s.bytes });
            }
            out.compute_bytes = illava_context_compute_bytes(current_);
        }
        out.vision_compute_bytes = illava_vision_compute_bytes(vision_.get());
        return out;
    }

    std::vector<double> merge_shares(const schedule & tower, int repeats) override {
        require(vision_ != nullptr, "no tower was loaded");
        return encode_nodes(*vision_, *image_, as_steps(tower), tower.balanced, set_.threads).merge_shares(repeats);
    }

    std::string encode_profile(const schedule & tower) override {
        require(vision_ != nullptr, "no tower was loaded");
        return encode_nodes(*vision_, *image_, as_steps(tower), tower.balanced, set_.threads).profile();
    }

  private:
    void load_tower() {
        illava_vision_params params = {};
        params.size                 = sizeof(params);
        params.flash_attn           = 1;
        params.n_threads            = set_.threads;
        params.repack               = set_.repack;
        illava_vision * vision      = nullptr;
        check(illava_vision_load(set_.mmproj.c_str(), &params, &vision), "the tower");
        vision_.reset(vision);

        illava_vision_info info = {};
        info.size               = sizeof(info);
        check(illava_vision_describe(vision_.get(), &info), "the tower");
        repacked_bytes_ = info.repacked_bytes;
        require(info.n_embd_out == llama_model_n_embd_inp(&model_),
                "the projector is " + std::to_string(info.n_embd_out) + " wide, the text model " +
                    std::to_string(llama_model_n_embd_inp(&model_)));

        check(illava_vision_set_text(vision_.get(), &model_), "the text model");
        const auto     rgb   = picture(set_.nx, set_.ny);
        illava_image * image = nullptr;
        check(illava_image_from_rgb(vision_.get(), rgb.data(), set_.nx, set_.ny, &image), "the picture");
        image_.reset(image);
        for (size_t i = 0; i < illava_image_n_parts(image); ++i) {
            illava_part part = {};
            part.size        = sizeof(part);
            check(illava_image_part(vision_.get(), image, i, &part), "the picture");
            n_visual_ += part.tokens == nullptr ? int32_t(part.n_rows) : 0;
        }
        if (n_visual_ > 0) {
            require(illava_image_n_tiles(image) == 1, "the picture has several tiles: time one, they are alike");
            return;
        }
        illava_tile tile = {};
        tile.size        = sizeof(tile);
        check(illava_image_tile(vision_.get(), image_.get(), 0, &tile), "the picture");
        const std::vector<illava_merge_step> off;
        const illava_encode_params           plain = encode_params(off);
        uint32_t                             n     = 0;
        check(illava_encoded_n_tokens(vision_.get(), tile.grid_x, tile.grid_y, &plain, &n), "the picture");
        n_visual_ = int32_t(n);
    }

    illava_encode_params encode_params(const std::vector<illava_merge_step> & steps, bool balanced = false) const {
        illava_encode_params params = {};
        params.size                 = sizeof(params);
        params.steps                = steps.data();
        params.n_steps              = steps.size();
        params.grid                 = ILLAVA_GRID_FAITHFUL;
        params.n_threads            = set_.threads;
        params.strategy             = balanced ? ILLAVA_STRATEGY_BIPARTITE : ILLAVA_STRATEGY_MERGE;
        params.count_sizes          = balanced;
        return params;
    }

    static std::vector<illava_merge_step> as_steps(const schedule & s) {
        std::vector<illava_merge_step> out;
        for (const merge_step & step : s) {
            out.push_back({ step.layer, step.r });
        }
        return out;
    }

    static std::vector<int32_t> as_key(const schedule & s) {
        std::vector<int32_t> out;
        for (const merge_step & step : s) {
            out.insert(out.end(), { step.layer, step.r });
        }
        return out;
    }

    llama_model &                               model_;
    settings                                    set_;
    vision_ptr                                  vision_;
    image_ptr                                   image_;
    encoded_ptr                                 encoded_;
    int32_t                                     n_visual_       = 0;
    uint64_t                                    repacked_bytes_ = 0;
    std::map<std::vector<int32_t>, context_ptr> contexts_;
    llama_context *                             current_ = nullptr;
};

} // namespace

void log_to(ggml_log_callback callback) {
    illava_log_set(callback, nullptr);
}

std::unique_ptr<pair> load_pair(llama_model & model, const settings & set) {
    return std::make_unique<illava_pair>(model, set);
}

} // namespace bench
