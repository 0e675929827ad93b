// Runs a model pair on fixed input through upstream's own API and writes the results. It is compiled against
// the pristine and against the patched library. The patches must change no bit of a run that does not merge,
// and the times show their cost.
//
//   stock-dump TEXT MMPROJ DIR [threads] [flash: 0|1] [ubatch] [kv: f16|f32|q8_0] [repeats]
//
// DIR receives embeddings.f32 and logits.f32, raw and native-endian. The first is the encoder's output. The
// second has every position of a text prompt, then the position after the picture, then eight greedy steps.
// Standard output is one JSON object: shortest time of the repeats, by part.

#include "ggml.h"
#include "llama.h"
#include "mtmd-helper.h"
#include "mtmd.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

struct settings {
    std::string text;
    std::string mmproj;
    std::string dir;
    int         threads = 1;
    bool        flash   = true;
    int         ubatch  = 512;
    std::string kv      = "f16";
    int         repeats = 1;
};

struct freed {
    void operator()(llama_model * p) const { llama_model_free(p); }
    void operator()(llama_context * p) const { llama_free(p); }
    void operator()(mtmd_context * p) const { mtmd_free(p); }
    void operator()(mtmd_bitmap * p) const { mtmd_bitmap_free(p); }
    void operator()(mtmd_input_chunks * p) const { mtmd_input_chunks_free(p); }
};
template <typename T> using owned = std::unique_ptr<T, freed>;

template <typename T> owned<T> need(T * made, const std::string & what) {
    if (made == nullptr) {
        throw std::runtime_error(what + " failed");
    }
    return owned<T>(made);
}

void require(bool held, const std::string & what) {
    if (!held) {
        throw std::runtime_error(what + " failed");
    }
}

// A picture with structure at several scales, the same on every machine.
std::vector<unsigned char> pixels(uint32_t side) {
    std::vector<unsigned char> rgb(size_t(side) * side * 3);
    uint32_t state = 12345;
    for (size_t i = 0; i < rgb.size(); ++i) {
        state            = state * 1664525u + 1013904223u;
        const size_t x   = i / 3 % side;
        const size_t y   = i / 3 / side;
        const bool   on  = (x / 17 + y / 29) % 2 == 0;
        rgb[i]           = static_cast<unsigned char>((on ? 160 : 40) + state / (1u << 24) / 4);
    }
    return rgb;
}

class dump {
  public:
    dump(const std::string & dir, const char * name) : file_(std::fopen((dir + "/" + name).c_str(), "wb")) {
        require(file_ != nullptr, "opening " + dir + "/" + name);
    }
    ~dump() { std::fclose(file_); }
    dump(const dump &)             = delete;
    dump & operator=(const dump &) = delete;
    void add(const float * values, size_t n) {
        require(values != nullptr && std::fwrite(values, sizeof(float), n, file_) == n, "writing");
    }

  private:
    FILE * file_;
};

class run {
  public:
    explicit run(const settings & s) : set_(s) {
        llama_model_params model = llama_model_default_params();
        model.n_gpu_layers       = 0;
        model_                   = need(llama_model_load_from_file(s.text.c_str(), model), "loading " + s.text);
        vocab_                   = llama_model_get_vocab(model_.get());
        n_vocab_                 = llama_vocab_n_tokens(vocab_);

        const auto flash = s.flash ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
        mtmd_context_params vision = mtmd_context_params_default();
        vision.use_gpu             = false;
        vision.print_timings       = false;
        vision.n_threads           = s.threads;
        vision.flash_attn_type     = flash;
        vision.warmup              = false;
        vision_ = need(mtmd_init_from_file(s.mmproj.c_str(), model_.get(), vision), "loading " + s.mmproj);

        context_            = llama_context_default_params();
        context_.n_ctx      = 4096;
        context_.n_batch    = 2048;
        context_.n_ubatch   = s.ubatch;
        context_.n_threads  = context_.n_threads_batch = s.threads;
        context_.flash_attn_type = flash;
        context_.no_perf    = true;
        context_.type_k = context_.type_v = s.kv == "f32" ? GGML_TYPE_F32 : s.kv == "q8_0" ? GGML_TYPE_Q8_0 : GGML_TYPE_F16;

        const std::string text = std::string(mtmd_default_marker()) + "\nwhat is here?";
        const auto        rgb  = pixels(448);
        picture_               = need(mtmd_bitmap_init(448, 448, rgb.data()), "the picture");
        chunks_                = need(mtmd_input_chunks_init(), "the prompt");
        mtmd_input_text input  = { text.c_str(), text.size(), true, true };
        const mtmd_bitmap * pictures[] = { picture_.get() };
        require(mtmd_tokenize(vision_.get(), chunks_.get(), &input, pictures, 1) == 0, "the prompt");
    }

    void embeddings() {
        dump out(set_.dir, "embeddings.f32");
        const size_t width = llama_model_n_embd_inp(model_.get());
        for (size_t i = 0; i < mtmd_input_chunks_size(chunks_.get()); ++i) {
            const auto * chunk = mtmd_input_chunks_get(chunks_.get(), i);
            if (mtmd_input_chunk_get_type(chunk) != MTMD_INPUT_CHUNK_TYPE_IMAGE) {
                continue;
            }
            for (int repeat = 0; repeat < set_.repeats; ++repeat) {
                const int64_t start = ggml_time_us();
                require(mtmd_encode_chunk(vision_.get(), chunk) == 0, "encoding");
                shortest(encode_us_, ggml_time_us() - start);
            }
            n_visual_ = mtmd_input_chunk_get_n_tokens(chunk);
            out.add(mtmd_get_output_embd(vision_.get()), n_visual_ * width);
        }
    }

    void logits() {
        dump out(set_.dir, "logits.f32");
        text_logits(out);
        auto context = need(llama_init_from_model(model_.get(), context_), "the context");
        llama_pos past = 0;
        for (int repeat = 0; repeat < set_.repeats; ++repeat) {
            llama_memory_clear(llama_get_memory(context.get()), true);
            past                = 0;
            const int64_t start = ggml_time_us();
            require(mtmd_helper_eval_chunks(vision_.get(), context.get(), chunks_.get(), 0, 0, 2048, true, &past) == 0,
                    "the prefill");
            shortest(prompt_us_, ggml_time_us() - start);
        }
        const int64_t start = ggml_time_us();
        for (int step = 0; step < 8; ++step) {
            const float * last = llama_get_logits_ith(context.get(), -1);
            out.add(last, n_vocab_);
            decode(context.get(), llama_token(std::max_element(last, last + n_vocab_) - last), past++);
        }
        out.add(llama_get_logits_ith(context.get(), -1), n_vocab_);
        generate_us_ = ggml_time_us() - start;
    }

    void report() const {
        std::printf("{\"visual_tokens\": %zu, \"ms\": {\"encode\": %.3f, \"encode_and_prefill\": %.3f, "
                    "\"generate_8\": %.3f}, \"threads\": %d}\n",
                    n_visual_, encode_us_ / 1e3, prompt_us_ / 1e3, generate_us_ / 1e3, set_.threads);
    }

  private:
    // Tokens spread over the vocabulary, so that no tokenizer has to know any word.
    void text_logits(dump & out) {
        auto        context = need(llama_init_from_model(model_.get(), context_), "the context");
        const int   n       = 40;
        llama_batch batch   = llama_batch_init(n, 0, 1);
        for (int i = 0; i < n; ++i) {
            put(batch, (7 + 13 * i) % n_vocab_, i);
        }
        const int status = llama_decode(context.get(), batch);
        llama_batch_free(batch);
        require(status == 0, "the text prompt");
        for (int i = 0; i < n; ++i) {
            out.add(llama_get_logits_ith(context.get(), i), n_vocab_);
        }
    }

    void decode(llama_context * context, llama_token token, llama_pos pos) {
        // mtmd gives M-RoPE models their text positions itself; a plain batch leaves them to llama.
        llama_batch batch = llama_batch_init(1, 0, 1);
        put(batch, token, pos);
        const int status = llama_decode(context, batch);
        llama_batch_free(batch);
        require(status == 0, "decoding");
    }

    static void put(llama_batch & batch, llama_token token, llama_pos pos) {
        const int i         = batch.n_tokens++;
        batch.token[i]      = token;
        batch.pos[i]        = pos;
        batch.n_seq_id[i]   = 1;
        batch.seq_id[i][0]  = 0;
        batch.logits[i]     = 1;
    }

    static void shortest(int64_t & best, int64_t now) { best = best == 0 ? now : std::min(best, now); }

    settings                 set_;
    owned<llama_model>       model_;
    const llama_vocab *      vocab_   = nullptr;
    int                      n_vocab_ = 0;
    owned<mtmd_context>      vision_;
    llama_context_params     context_ = {};
    owned<mtmd_bitmap>       picture_;
    owned<mtmd_input_chunks> chunks_;
    size_t                   n_visual_    = 0;
    int64_t                  encode_us_   = 0;
    int64_t                  prompt_us_   = 0;
    int64_t                  generate_us_ = 0;
};

void quiet(ggml_log_level level, const char * text, void *) {
    if (level >= GGML_LOG_LEVEL_ERROR && level != GGML_LOG_LEVEL_CONT) {
        std::fputs(text, stderr);
    }
}

settings parse(int argc, char ** argv) {
    settings s;
    s.text   = argv[1];
    s.mmproj = argv[2];
    s.dir    = argv[3];
    s.threads = argc > 4 ? std::atoi(argv[4]) : s.threads;
    s.flash   = argc > 5 ? std::atoi(argv[5]) != 0 : s.flash;
    s.ubatch  = argc > 6 ? std::atoi(argv[6]) : s.ubatch;
    s.kv      = argc > 7 ? argv[7] : s.kv;
    s.repeats = argc > 8 ? std::max(1, std::atoi(argv[8])) : s.repeats;
    return s;
}

} // namespace

int main(int argc, char ** argv) {
    if (argc < 4) {
        std::fprintf(stderr, "usage: %s TEXT MMPROJ DIR [threads] [flash] [ubatch] [kv] [repeats]\n", argv[0]);
        return 2;
    }
    try {
        llama_log_set(quiet, nullptr);
        mtmd_log_set(quiet, nullptr);
        llama_backend_init();
        run r(parse(argc, argv));
        r.embeddings();
        r.logits();
        r.report();
        return 0;
    } catch (const std::exception & error) {
        std::fprintf(stderr, "stock-dump: %s\n", error.what());
        return 1;
    }
}
