// Loads a model pair once and answers commands, one line each, for benches/engine.py. Compiled against the pristine
// and against the patched library: two such programs, asked in turn, show the ratio of their times on one machine.
//
//   bench-pair --text FILE [--mmproj FILE] [--threads 1] [--ctx 1024] [--ubatch 512] [--repack-tower 0]
//              [--kernels stock|auto] [--picture 384x384]
//
// A schedule S is `off` or `layer:r,layer:r,...`, in the tower with `balanced/` before it for bipartite merging with sizes
// in place of the paper's. Each command is answered by one JSON object on one line; times are
// in milliseconds, `ms` by the clock on the wall and `cpu_ms` by the processor time of all threads.
//
//   describe                  build, visual tokens, repacked bytes of the tower, layers of the text model
//   encode S                  the picture through tower and projector
//   prefill N S               N visual rows through the language model, no logits
//   first S S                 encode, prefill, 32 text tokens and their logits: tower's schedule, decoder's schedule
//   generate N                N tokens one by one after the last prefill; times of one step
//   memory                    KV segments, compute buffers, the largest resident size
//   share S REPEATS           part of the encode spent in scoring and merging
//   profile S                 milliseconds of an encode by operation

#include "bench-pair.h"

#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iostream>
#include <sstream>

namespace bench {

std::vector<unsigned char> picture(uint32_t nx, uint32_t ny) {
    std::vector<unsigned char> rgb(size_t(nx) * ny * 3);
    uint32_t                   state = 12345;
    for (size_t i = 0; i < rgb.size(); ++i) {
        state          = state * 1664525u + 1013904223u;
        const size_t x = i / 3 % nx;
        const size_t y = i / 3 / nx;
        rgb[i]         = static_cast<unsigned char>(((x / 17 + y / 29) % 2 == 0 ? 160 : 40) + state / (1u << 26));
    }
    return rgb;
}

llama_token text_token(int32_t i, int32_t n_vocab) {
    return (7 + 13 * i) % n_vocab;
}

namespace {

constexpr int32_t n_question = 32; // text tokens after the picture

class stopwatch {
  public:
    double ms() const {
        return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - wall_).count();
    }
    double cpu_ms() const { return 1e3 * double(std::clock() - cpu_) / CLOCKS_PER_SEC; }

  private:
    std::chrono::steady_clock::time_point wall_ = std::chrono::steady_clock::now();
    std::clock_t                          cpu_  = std::clock();
};

std::string times(const stopwatch & watch, double divisor = 1) {
    const double ms = watch.ms() / divisor, cpu_ms = watch.cpu_ms() / divisor;
    char         text[80];
    std::snprintf(text, sizeof(text), "\"ms\": %.4f, \"cpu_ms\": %.4f", ms, cpu_ms);
    return text;
}

std::string quoted(const std::string & text) {
    std::string out = "\"";
    for (const char c : text) {
        out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c == '"' || c == '\\' ? '\'' : c;
    }
    return out + "\"";
}

// Largest resident size in KiB, 0 where the system does not say.
uint64_t peak_resident_kib() {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);) {
        if (line.compare(0, 6, "VmHWM:") == 0) {
            return std::stoull(line.substr(6));
        }
    }
    return 0;
}

schedule parse_schedule(const std::string & text) {
    schedule out;
    if (text == "off") {
        return out;
    }
    const std::string prefix = "balanced/";
    out.balanced = text.compare(0, prefix.size(), prefix) == 0;
    std::istringstream in(out.balanced ? text.substr(prefix.size()) : text);
    for (std::string part; std::getline(in, part, ',');) {
        std::istringstream step(part);
        merge_step         s     = {};
        char               colon = 0;
        require(step >> s.layer >> colon >> s.r && colon == ':' && step.peek() == EOF && s.layer >= 0 && s.r > 0,
                "schedule `" + text + "`: off, or layer:r,layer:r,..., or balanced/layer:r,...");
        out.push_back(s);
    }
    require(!out.empty(), "schedule is empty");
    return out;
}

class session {
  public:
    explicit session(const settings & set) {
        llama_model_params params = llama_model_default_params();
        params.n_gpu_layers       = 0;
        model_.reset(llama_model_load_from_file(set.text.c_str(), params));
        require(model_ != nullptr, "loading " + set.text + " failed");
        pair_ = load_pair(*model_, set);
    }

    std::string answer(const std::string & line) {
        std::istringstream in(line);
        std::string        command;
        in >> command;
        if (command == "describe") {
            return std::string("{\"build\": \"") + pair_->build() + "\", \"visual\": " + std::to_string(pair_->n_visual()) +
                   ", \"repacked\": " + std::to_string(pair_->repacked_bytes()) +
                   ", \"layers\": " + std::to_string(llama_model_n_layer(model_.get())) + "}";
        }
        if (command == "encode") {
            return encode(next_schedule(in));
        }
        if (command == "prefill") {
            const int32_t n = next_count(in);
            return prefill(n, next_schedule(in));
        }
        if (command == "first") {
            const schedule tower = next_schedule(in);
            return first(tower, next_schedule(in));
        }
        if (command == "generate") {
            return generate(next_count(in));
        }
        if (command == "memory") {
            return memory_line();
        }
        if (command == "share") {
            const schedule tower = next_schedule(in);
            return shares(tower, next_count(in));
        }
        if (command == "profile") {
            return pair_->encode_profile(next_schedule(in));
        }
        throw std::runtime_error("no such command: " + line);
    }

  private:
    static schedule next_schedule(std::istream & in) {
        std::string word;
        require(bool(in >> word), "a schedule is missing");
        return parse_schedule(word);
    }

    static int32_t next_count(std::istream & in) {
        int32_t n = 0;
        require(bool(in >> n) && n > 0, "a count is missing");
        return n;
    }

    std::string encode(const schedule & tower) {
        const stopwatch   watch;
        const visual_rows rows = pair_->encode(tower);
        return "{" + times(watch) + ", \"rows\": " + std::to_string(rows.n) + "}";
    }

    std::string prefill(int32_t n, const schedule & decoder) {
        const size_t width = size_t(llama_model_n_embd_inp(model_.get()));
        if (random_.size() != size_t(n) * width) {
            random_.resize(size_t(n) * width);
            uint32_t state = 1;
            for (float & value : random_) {
                state = state * 1664525u + 1013904223u;
                value = float(state >> 8) / float(1 << 23) - 1.0f;
            }
        }
        context_ = pair_->ready(decoder);
        past_    = n;
        const stopwatch watch;
        pair_->prefill(decoder, { random_.data(), n }, 0);
        return "{" + times(watch) + "}";
    }

    std::string first(const schedule & tower, const schedule & decoder) {
        context_ = pair_->ready(decoder);
        const stopwatch   watch;
        const visual_rows rows      = pair_->encode(tower);
        const double      encode_ms = watch.ms();
        pair_->prefill(decoder, rows, n_question);
        require(llama_get_logits_ith(context_, -1) != nullptr, "no logits");
        const std::string taken = times(watch);
        past_                   = rows.n + n_question;
        return "{" + taken + ", \"encode_ms\": " + std::to_string(encode_ms) + ", \"rows\": " + std::to_string(rows.n) + "}";
    }

    std::string generate(int32_t n) {
        require(context_ != nullptr, "generate comes after a prefill");
        const int32_t     n_vocab  = llama_vocab_n_tokens(llama_model_get_vocab(model_.get()));
        llama_pos         pos      = past_;
        int32_t           n_seq_id = 1;
        llama_seq_id      sequence = 0;
        llama_seq_id *    seq_id[] = { &sequence, nullptr };
        int8_t            logits   = 1;
        const stopwatch   watch;
        for (int32_t i = 0; i < n; ++i, ++pos) {
            llama_token token = text_token(i, n_vocab);
            llama_batch batch = { 1, &token, nullptr, &pos, &n_seq_id, seq_id, &logits };
            require(llama_decode(context_, batch) == 0, "decoding failed");
            require(llama_get_logits_ith(context_, -1) != nullptr, "no logits");
        }
        const std::string taken = times(watch, n);
        require(llama_memory_seq_rm(llama_get_memory(context_), 0, past_, -1), "the cache cannot forget");
        return "{" + taken + "}";
    }

    std::string memory_line() const {
        const memory       m = pair_->where_memory_goes();
        std::ostringstream out;
        out << "{\"segments\": [";
        for (size_t i = 0; i < m.segments.size(); ++i) {
            const segment & s = m.segments[i];
            out << (i > 0 ? ", " : "") << "{\"begin\": " << s.begin << ", \"end\": " << s.end << ", \"cells\": " << s.cells
                << ", \"used\": " << s.used << ", \"bytes\": " << s.bytes << "}";
        }
        out << "], \"compute_bytes\": " << m.compute_bytes << ", \"vision_compute_bytes\": " << m.vision_compute_bytes
            << ", \"vm_hwm_kib\": " << peak_resident_kib() << "}";
        return out.str();
    }

    std::string shares(const schedule & tower, int32_t repeats) {
        std::string list;
        for (const double share : pair_->merge_shares(tower, repeats)) {
            list += (list.empty() ? "" : ", ") + std::to_string(share);
        }
        return "{\"shares\": [" + list + "]}";
    }

    model_ptr             model_;
    std::unique_ptr<pair> pair_;
    std::vector<float>    random_;
    llama_context *       context_ = nullptr;
    llama_pos             past_    = 0;
};

void quiet(ggml_log_level level, const char * text, void *) {
    if (level >= GGML_LOG_LEVEL_ERROR && level != GGML_LOG_LEVEL_CONT) {
        std::fputs(text, stderr);
    }
}

settings parse(int argc, char ** argv) {
    settings set;
    for (int i = 1; i < argc; i += 2) {
        const std::string flag = argv[i];
        require(i + 1 < argc, flag + " needs a value");
        const std::string value = argv[i + 1];
        if (flag == "--text") {
            set.text = value;
        } else if (flag == "--mmproj") {
            set.mmproj = value;
        } else if (flag == "--threads") {
            set.threads = std::stoi(value);
        } else if (flag == "--ctx") {
            set.n_ctx = uint32_t(std::stoul(value));
        } else if (flag == "--ubatch") {
            set.n_ubatch = uint32_t(std::stoul(value));
        } else if (flag == "--repack-tower") {
            set.repack = std::stoi(value) != 0;
        } else if (flag == "--kernels") {
            require(value == "stock" || value == "auto", "--kernels takes stock or auto");
            set.own = value == "auto";
        } else if (flag == "--picture") {
            std::istringstream sides(value);
            char               times = 0;
            require(sides >> set.nx >> times >> set.ny && times == 'x' && sides.peek() == EOF && set.nx > 0 && set.ny > 0,
                    "--picture takes WIDTHxHEIGHT");
        } else {
            throw std::runtime_error("no such option: " + flag);
        }
    }
    require(!set.text.empty(), "--text FILE is needed");
    require(set.threads > 0 && set.n_ctx > 0 && set.n_ubatch > 0, "--threads, --ctx and --ubatch are at least 1");
    return set;
}

} // namespace
} // namespace bench

int main(int argc, char ** argv) {
    try {
        bench::log_to(bench::quiet);
        llama_backend_init();
        bench::session session(bench::parse(argc, argv));
        for (std::string line; std::getline(std::cin, line);) {
            std::string reply;
            try {
                reply = session.answer(line);
            } catch (const std::exception & error) {
                reply = "{\"error\": " + bench::quoted(error.what()) + "}";
            }
            std::cout << reply << std::endl;
        }
        return 0;
    } catch (const std::exception & error) {
        std::fprintf(stderr, "bench-pair: %s\n", error.what());
        return 1;
    }
}
