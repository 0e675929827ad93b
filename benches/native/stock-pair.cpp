// The pristine library, through upstream's own API.

#include "bench-pair.h"
#include "mtmd.h"

#include <algorithm>
#include <numeric>

namespace bench {
namespace {

struct mtmd_freed {
    void operator()(mtmd_context * p) const { mtmd_free(p); }
    void operator()(mtmd_bitmap * p) const { mtmd_bitmap_free(p); }
    void operator()(mtmd_input_chunks * p) const { mtmd_input_chunks_free(p); }
};
template <typename T> using owned = std::unique_ptr<T, mtmd_freed>;

class stock_pair : public pair {
  public:
    stock_pair(llama_model & model, const settings & set) : model_(model), set_(set) {
        require(!set.repack, "the unpatched library cannot repack a tower");
        require(!set.own, "the unpatched library has no other kernels");
        if (!set.mmproj.empty()) {
            load_tower();
        }
    }

    const char * build() const override { return "stock"; }

    uint64_t repacked_bytes() const override { return 0; }

    int32_t n_visual() const override {
        return chunk_ ? int32_t(mtmd_input_chunk_get_n_tokens(chunk_)) : 0;
    }

    visual_rows encode(const schedule & tower) override {
        refuse(tower);
        require(chunk_ != nullptr, "no tower was loaded");
        require(mtmd_encode_chunk(vision_.get(), chunk_) == 0, "encoding failed");
        return { mtmd_get_output_embd(vision_.get()), n_visual() };
    }

    llama_context * ready(const schedule & decoder) override {
        refuse(decoder);
        if (!context_) {
            llama_context_params params = llama_context_default_params();
            params.n_ctx           = set_.n_ctx;
            params.n_batch         = std::max(set_.n_ctx, set_.n_ubatch);
            params.n_ubatch        = set_.n_ubatch;
            params.n_threads       = set_.threads;
            params.n_threads_batch = set_.threads;
            params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
            params.no_perf         = true;
            context_.reset(llama_init_from_model(&model_, params));
            require(context_ != nullptr, "the context failed");
        }
        llama_memory_clear(llama_get_memory(context_.get()), false);
        return context_.get();
    }

    void prefill(const schedule & decoder, visual_rows rows, int32_t n_text) override {
        refuse(decoder);
        decode(rows.n, 0, nullptr, const_cast<float *>(rows.embd), false);
        if (n_text > 0) {
            std::vector<llama_token> tokens(n_text);
            const int32_t n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(&model_));
            for (int32_t i = 0; i < n_text; ++i) {
                tokens[i] = text_token(i, n_vocab);
            }
            decode(n_text, rows.n, tokens.data(), nullptr, true);
        }
        llama_synchronize(context_.get());
    }

    // Upstream's API does not tell the bytes of a cache or of compute buffers.
    memory where_memory_goes() const override { return {}; }

    std::vector<double> merge_shares(const schedule &, int) override {
        throw std::runtime_error("this library does not merge");
    }
    std::string encode_profile(const schedule &) override {
        throw std::runtime_error("upstream's API does not show the encoder's graph");
    }

  private:
    static void refuse(const schedule & s) { require(s.empty(), "this library does not merge"); }

    void load_tower() {
        mtmd_context_params params = mtmd_context_params_default();
        params.use_gpu             = false;
        params.print_timings       = false;
        params.n_threads           = set_.threads;
        params.flash_attn_type     = LLAMA_FLASH_ATTN_TYPE_ENABLED;
        vision_.reset(mtmd_init_from_file(set_.mmproj.c_str(), &model_, params));
        require(vision_ != nullptr, "loading " + set_.mmproj + " failed");

        const std::string text = mtmd_default_marker();
        const auto        rgb  = picture(set_.nx, set_.ny);
        const owned<mtmd_bitmap> bitmap(mtmd_bitmap_init(set_.nx, set_.ny, rgb.data()));
        const mtmd_bitmap *      bitmaps[] = { bitmap.get() };
        const mtmd_input_text    input     = { text.c_str(), text.size(), false, true };
        chunks_.reset(mtmd_input_chunks_init());
        require(mtmd_tokenize(vision_.get(), chunks_.get(), &input, bitmaps, 1) == 0, "preparing the picture failed");
        for (size_t i = 0; i < mtmd_input_chunks_size(chunks_.get()); ++i) {
            const auto * chunk = mtmd_input_chunks_get(chunks_.get(), i);
            if (mtmd_input_chunk_get_type(chunk) == MTMD_INPUT_CHUNK_TYPE_IMAGE) {
                chunk_ = chunk;
            }
        }
        require(chunk_ != nullptr, "the picture gave no visual tokens");
    }

    void decode(int32_t n, llama_pos first, llama_token * tokens, float * embd, bool logits_last) {
        // Rows have a position on each axis, and the same on all but the fourth.
        const llama_rope_type       rope = llama_model_rope_type(&model_);
        const bool                  axes = embd && (rope == LLAMA_ROPE_TYPE_MROPE || rope == LLAMA_ROPE_TYPE_IMROPE);
        std::vector<llama_pos>      pos(size_t(n) * (axes ? 4 : 1));
        std::vector<int32_t>        n_seq_id(n, 1);
        std::vector<int8_t>         logits(n, 0);
        llama_seq_id                sequence = 0;
        std::vector<llama_seq_id *> seq_id(size_t(n) + 1, &sequence);
        for (int32_t axis = 0; axis < (axes ? 3 : 1); ++axis) {
            std::iota(pos.begin() + axis * n, pos.begin() + (axis + 1) * n, first);
        }
        seq_id.back() = nullptr;
        logits.back() = logits_last;

        llama_batch batch = { n, tokens, embd, pos.data(), n_seq_id.data(), seq_id.data(), logits.data() };
        require(llama_decode(context_.get(), batch) == 0, "decoding failed");
    }

    llama_model &            model_;
    settings                 set_;
    owned<mtmd_context>      vision_;
    owned<mtmd_input_chunks> chunks_;
    const mtmd_input_chunk * chunk_ = nullptr;
    context_ptr              context_;
};

} // namespace

void log_to(ggml_log_callback callback) {
    llama_log_set(callback, nullptr);
    mtmd_log_set(callback, nullptr);
}

std::unique_ptr<pair> load_pair(llama_model & model, const settings & set) {
    return std::make_unique<stock_pair>(model, set);
}

} // namespace bench
