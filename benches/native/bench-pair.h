// A model pair that a benchmark asks for work, one implementation for each library: stock-pair.cpp goes through
// upstream's own API, illava-pair.cpp through illava.h. Everything else of bench-pair is the same in both programs.

#pragma once

#include "llama.h"

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace bench {

struct merge_step {
    int32_t layer; // counted from 0
    int32_t r;     // tokens this step removes
};
struct schedule : std::vector<merge_step> { // empty: merging off
    bool balanced = false; // in the tower the most alike merge and sizes count; else the paper's method
};

struct settings {
    std::string text;
    std::string mmproj; // empty: no tower
    int32_t     threads  = 1;
    uint32_t    n_ctx    = 1024;
    uint32_t    n_ubatch = 512;
    uint32_t    nx = 384, ny = 384; // of the picture
    bool        repack   = false; // the tower's weights too, where the library can
    bool        own      = false; // this library's kernels for many rows, where it has some
};

// Rows for the language model, [n, n_embd]. Borrowed: valid until the pair encodes again.
struct visual_rows {
    const float * embd;
    int32_t       n;
};

struct segment {
    int32_t  begin, end; // layers, half-open
    uint32_t cells, used;
    uint64_t bytes;      // of all its cells
};

struct memory {
    std::vector<segment> segments;
    uint64_t             compute_bytes        = 0;
    uint64_t             vision_compute_bytes = 0;
};

inline void require(bool held, const std::string & what) {
    if (!held) {
        throw std::runtime_error(what);
    }
}

struct freed {
    void operator()(llama_model * p) const { llama_model_free(p); }
    void operator()(llama_context * p) const { llama_free(p); }
};
using model_ptr   = std::unique_ptr<llama_model, freed>;
using context_ptr = std::unique_ptr<llama_context, freed>;

// A picture with structure at several scales, the same on every machine: interleaved [ny, nx, 3].
std::vector<unsigned char> picture(uint32_t nx, uint32_t ny);

// Token i of a text that no tokenizer has to know.
llama_token text_token(int32_t i, int32_t n_vocab);

class pair {
  public:
    virtual ~pair() = default;

    // Which library this is: "stock" or "illava".
    virtual const char * build() const = 0;
    // Visual tokens of the picture with merging off.
    virtual int32_t n_visual() const = 0;
    // Bytes of the tower's weights in a layout other than the file's.
    virtual uint64_t repacked_bytes() const = 0;
    // The picture through the tower and the projector.
    virtual visual_rows encode(const schedule & tower) = 0;
    // A context for the schedule, its cache empty. Not part of what is timed.
    virtual llama_context * ready(const schedule & decoder) = 0;
    // The visual rows, then n_text tokens; logits of the last row if there is text. After ready().
    virtual void prefill(const schedule & decoder, visual_rows rows, int32_t n_text) = 0;
    // Of the context made ready last.
    virtual memory where_memory_goes() const = 0;
    // Part of a merged encode that scores, plans and merges, 0 to 1; the shares of `repeats` runs.
    virtual std::vector<double> merge_shares(const schedule & tower, int repeats) = 0;
    // Milliseconds of each kind of operation in one encode, one line each.
    virtual std::string encode_profile(const schedule & tower) = 0;
};

// Every log line of the library goes to `callback`.
void log_to(ggml_log_callback callback);

// model outlives the pair.
std::unique_ptr<pair> load_pair(llama_model & model, const settings & set);

} // namespace bench
