// The boundary between the patched library and Rust.
//
// Every call that can fail returns an illava_status; the sentence that explains a failure is kept per thread
// and read with illava_last_error(). No exception crosses this header and nothing a caller can pass aborts the
// process. A NULL is ILLAVA_BAD_ARG unless the parameter's comment allows it; functions without a status return 0,
// false or "" for it, and every *_free() takes it.
//
// Structs begin with their own size. Begin a parameter struct with its illava_*_default_params(), a result with
// `size` alone: a library that knows more fields than the caller's header reads the rest as defaults and writes none
// of it. A new field therefore stands at the end of its struct, and never in bytes that were padding before.
//
// Threads: an object may be used by one thread at a time and by any of them in turn. A llama_context and its
// illava_prefill_run count as one object. One illava_vision may serve several threads that encode: they take turns.
// A llama_model is only read and serves any number of contexts at once. Callbacks come on the thread that calls, but
// for log lines and `stop`, which may come on any; a callback must not throw, nor call into the object at work.
//
// Shapes are written [outer, inner]: embeddings [n, n_embd] have n_embd consecutive floats per token.

#ifndef ILLAVA_H
#define ILLAVA_H

#include "ggml-backend.h"
#include "illava-strategy.h"
#include "llama.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Raised with every change of this header.
#define ILLAVA_VERSION 4

// ILLAVA_VERSION of the header that the library was built with.
LLAMA_API int32_t illava_version(void);

enum illava_status {
    ILLAVA_OK          = 0,
    ILLAVA_BAD_ARG     = 1, // a value the caller passed: the message names it and its limit
    ILLAVA_BAD_FILE    = 2, // unreadable, damaged or of another kind: the message names the file
    ILLAVA_UNSUPPORTED = 3, // this model or backend cannot do what was asked
    ILLAVA_KV_FULL     = 4, // no free cells: the message has both numbers
    ILLAVA_NO_MEMORY   = 5,
    ILLAVA_ABORTED     = 6, // a callback asked for it
    ILLAVA_INTERNAL    = 7,
};

// The sentence for the last call on this thread that did not return ILLAVA_OK; "" before any. Valid until the
// thread's next call into this header.
LLAMA_API const char * illava_last_error(void);

// Log lines of ggml, llama and the vision part all go to one callback; NULL: to stderr.
LLAMA_API void illava_log_set(ggml_log_callback callback, void * user);

//
// Vision: GGUF projector file -> tiles -> embeddings
//

struct illava_vision;  // a loaded encoder with its projector
struct illava_image;   // one picture, preprocessed into one or more tiles
struct illava_encoded; // one tile after the encoder and projector

struct illava_vision_params {
    size_t  size;
    bool    use_gpu;
    int32_t flash_attn;       // -1 where the backend has it, 0 never, 1 always
    int32_t n_threads;
    int32_t image_min_tokens; // dynamic-resolution models only; 0 is the model's own
    int32_t image_max_tokens;
    bool    repack;           // on a CPU: weights in the layout of its fastest kernels where there is one for their
                              // type; faster, and rounded otherwise than upstream, which leaves them as stored
    // Called now and then while the file is read, with 0 to 1; false stops the load. NULL: never.
    bool (* progress)(float share, void * data);
    void  * progress_data;
};
LLAMA_API struct illava_vision_params illava_vision_default_params(void);

struct illava_vision_info {
    size_t   size;
    char     projector[32];  // as in the file: "mlp", "qwen2vl_merger", ...
    int32_t  n_layer;        // blocks stored
    int32_t  n_layer_run;    // blocks the graph runs; a merge layer is below this
    int32_t  n_embd;         // tower width
    int32_t  n_head;
    int32_t  image_size;     // pixels per side; the largest for dynamic resolution
    int32_t  patch_size;
    int32_t  n_embd_out;     // projector width; equals the text model's n_embd
    int32_t  group;          // patches that make one output token: 1, or 4 for Qwen-VL
    bool     class_token;
    bool     dynamic_size;   // token count follows the picture's size
    bool     can_merge;      // the graph of this projector takes merge steps
    bool     mrope;          // the text model expects (t, h, w) positions
    uint64_t weight_bytes;
    uint64_t repacked_bytes; // of weight_bytes; 0 without `repack`, on a GPU, or without a kernel for the type
    char     backend[32];
    bool     takes_smaller;  // of a fixed-size encoder: tiles of fewer pixels, a square of whole patches
    bool     by_library;     // upstream's mtmd cuts and marks its pictures: see illava_vision_set_text()
    int32_t  pooled;         // patches whose mean makes one output token: 1, or 16 for Gemma 3
    int32_t  first_layer;    // block that may merge; others are before the first attention over the whole picture
};

LLAMA_API enum illava_status illava_vision_load(
        const char * path, const struct illava_vision_params * params, struct illava_vision ** out);
LLAMA_API void               illava_vision_free(struct illava_vision * vision);
LLAMA_API enum illava_status illava_vision_describe(
        const struct illava_vision * vision, struct illava_vision_info * info);
// Bytes of the encoder's compute buffers as they stand now.
LLAMA_API uint64_t           illava_vision_compute_bytes(const struct illava_vision * vision);
// Frees these buffers, as before a long prompt: the next illava_encode() allocates what its tile needs. Waits for one
// that is under way.
LLAMA_API enum illava_status illava_vision_free_buffers(struct illava_vision * vision);

// Before the first picture of a projector with `by_library`: its marks are tokens of the text model, which has to
// outlive the vision. Others need none.
LLAMA_API enum illava_status illava_vision_set_text(struct illava_vision * vision, const struct llama_model * text);

// rgb: 8-bit interleaved, [ny, nx, 3]. Upstream's own preprocessing for this model.
LLAMA_API enum illava_status illava_image_from_rgb(
        struct illava_vision * vision, const uint8_t * rgb, uint32_t nx, uint32_t ny, struct illava_image ** out);
// The same by the size alone: parts and tiles of a picture without pixels, which cannot be encoded. Any thread may call
// it while another one encodes.
LLAMA_API enum illava_status illava_image_from_size(
        const struct illava_vision * vision, uint32_t nx, uint32_t ny, struct illava_image ** out);
// Already normalised pixels of one tile, planar as upstream keeps them: interleaved [ny, nx, 3].
LLAMA_API enum illava_status illava_image_from_f32(
        struct illava_vision * vision, const float * rgb, uint32_t nx, uint32_t ny, struct illava_image ** out);
// Two frames of a video that one temporal patch takes together (Qwen2-VL): both as above and of the same size.
LLAMA_API enum illava_status illava_image_from_frames(
        struct illava_vision * vision, const float * first, const float * second, uint32_t nx, uint32_t ny,
        struct illava_image ** out);
struct illava_view {
    const uint8_t * rgb; // 8-bit interleaved, [ny, nx, 3]
    uint32_t        nx, ny;
};
// A picture of a projector with `by_library` that was cut already: upstream marks the views, and resizes none. With a
// grid its grid_x * grid_y tiles row by row and then the whole; without one (0, 0) one view, or the two frames of a
// temporal patch. For InternVL, Gemma 3, Pixtral and Qwen3-VL.
LLAMA_API enum illava_status illava_image_from_views(
        struct illava_vision * vision, const struct illava_view * views, size_t n_views, uint32_t grid_x, uint32_t grid_y,
        struct illava_image ** out);
LLAMA_API void               illava_image_free(struct illava_image * image);
LLAMA_API size_t             illava_image_n_tiles(const struct illava_image * image);

struct illava_tile {
    size_t        size;
    uint32_t      nx, ny;         // pixels
    uint32_t      grid_x, grid_y; // patches
    const float * data;           // [ny, nx, 3], normalised
};
LLAMA_API enum illava_status illava_image_tile(
        const struct illava_vision * vision, const struct illava_image * image, size_t tile, struct illava_tile * out);

// Part of a picture of a projector with `by_library` in the prompt: a mark or a tile, in order. Others have
// no parts.
struct illava_part {
    size_t              size;
    const llama_token * tokens;   // [n_rows]; NULL: the rows of the next tile
    uint32_t            n_rows;
    int32_t             n_pos;    // positions it takes up
    bool                two_ways; // its rows attend to each other both ways: a span of illava_prefill_params has to say so
};
LLAMA_API size_t             illava_image_n_parts(const struct illava_image * image);
LLAMA_API enum illava_status illava_image_part(
        const struct illava_vision * vision, const struct illava_image * image, size_t part, struct illava_part * out);
// [n_rows, 4] positions from the part's first: time, height, width, and the fourth; -1 where it is 0 wherever the part
// stands. Models with one position row take the first.
LLAMA_API enum illava_status illava_image_part_positions(const struct illava_image * image, size_t part, int32_t * out);

struct illava_merge_step {
    int32_t layer; // counted from 0; n_layer_run is behind the last one: for ILLAVA_STRATEGY_PRUMERGE and _VISIONZIP,
                   // which act nowhere else, and for a single step of ILLAVA_STRATEGY_PRUNE
    int32_t r;     // tokens (patches) this step removes; 0 is the identity
};

// Attention that ranks the tokens of the image encoder.
enum illava_tower_score {
    ILLAVA_TOWER_SCORE_RECEIVED = 0, // of all rows, the class token's too
    ILLAVA_TOWER_SCORE_CLASS    = 1, // of the class token alone; refused where there is none
};

enum illava_grid {
    ILLAVA_GRID_FAITHFUL  = 0,
    ILLAVA_GRID_REFERENCE = 1,
};

struct illava_encode_params {
    size_t                           size;
    const struct illava_merge_step * steps; // layers strictly ascending
    size_t                           n_steps;
    enum illava_grid                 grid;
    int32_t                          n_threads;
    bool                             composed_score; // score by stock ops even where the fused op exists (tests)
    enum illava_strategy             strategy;
    uint64_t                         seed;      // of ILLAVA_STRATEGY_RANDOM
    // Called some 64 times in a tile, by the calling thread, when nothing is being computed: others may use the
    // processor until it returns. NULL: never.
    void                          (* pause)(void * data);
    void                           * pause_data;
    // Asked before the graph is computed and, where the backend can stop (CPU, Metal), before every node of it: true
    // ends the call with ILLAVA_ABORTED. NULL: never.
    bool                          (* stop)(void * data);
    void                           * stop_data;
    enum illava_tower_score          score;
    // Behind the first step, a token that stands for s original ones counts s times in attention:
    // softmax(q k / sqrt(d) + log s). Needs a strategy that keeps sizes: bipartite, kmeans, greedy or assign.
    bool                             count_sizes;
    // [patches of the tile, or groups of them where they stay whole] 1 for one that merges last: a matching leaves it
    // out while two others are there. NULL: none. Needs ILLAVA_STRATEGY_BIPARTITE.
    const uint8_t                  * held;
    size_t                           n_held; // number of these patches or groups; 0 with NULL
};
LLAMA_API struct illava_encode_params illava_encode_default_params(void);

// Output tokens of a tile of grid_x x grid_y patches under the given steps: a function of shape alone.
LLAMA_API enum illava_status illava_encoded_n_tokens(
        const struct illava_vision * vision, uint32_t grid_x, uint32_t grid_y,
        const struct illava_encode_params * params, uint32_t * n_tokens);

LLAMA_API enum illava_status illava_encode(
        struct illava_vision * vision, const struct illava_image * image, size_t tile,
        const struct illava_encode_params * params, struct illava_encoded ** out);
LLAMA_API void               illava_encoded_free(struct illava_encoded * encoded);

// One step as it happened. All indices name original tokens: patches of the tile for an encoder step
// (2x2 groups for ILLAVA_GRID_FAITHFUL with group 4), rows of the span for a decoder step.
struct illava_step {
    size_t          size;
    int32_t         span;     // decoder: which span of the call; encoder: 0
    int32_t         layer;
    int32_t         n_in;
    int32_t         n_out;
    const float   * scores;   // [n_scores], in the order of the tokens that entered the step
    const int32_t * kept;     // [n_out], ascending
    const int32_t * merged;   // [n_merged]. ILLAVA_STRATEGY_MERGE: [r + 1], least attended first, the last is `into`, which
                              // stays. Otherwise the r that went: least attended first, as drawn, or ascending
    int32_t         into;     // the survivor whose value became the merged vector; -1 with another strategy
    int32_t         n_scores; // n_in, or 0 where the strategy looks at no attention
    int32_t         n_merged;
    int32_t         n_groups; // of two tokens and more; 0 unless the strategy merges by groups
    const int32_t * group_lengths; // [n_groups]
    const int32_t * group_members; // group after group: those that went, ascending, then the survivor
    const float   * sizes;         // [n_out] original tokens that each survivor stands for; NULL where nobody counts
};

struct illava_encoded_view {
    size_t          size;
    uint32_t        n_tokens, n_embd;
    const float   * embd;         // [n_tokens, n_embd]
    const int32_t * kept;         // [n_tokens] original output cells, ascending: cell = row * cells_x + column
    uint32_t        cells_x, cells_y;
    size_t          n_steps;
    double          encoder_ms;
    double          projector_ms;
    const float   * sizes;        // [n_tokens] original tokens that each stands for; NULL where the strategy keeps no count
    const float   * line_break;   // [n_embd] row behind each line of cells with a token left, but the grid's last; NULL: none
};
LLAMA_API enum illava_status illava_encoded_get(const struct illava_encoded * encoded, struct illava_encoded_view * out);
LLAMA_API enum illava_status illava_encoded_step(const struct illava_encoded * encoded, size_t i, struct illava_step * out);

//
// Text-image models: how well pictures and their parts go with a text (CLIP, and CLIPSeg's map)
//

struct illava_scorer; // a file of tools/convert_scorer.py

struct illava_scorer_params {
    size_t  size;
    bool    use_gpu;
    int32_t n_threads;
};
LLAMA_API struct illava_scorer_params illava_scorer_default_params(void);

struct illava_scorer_info {
    size_t   size;
    bool     has_map;       // the file has CLIPSeg's decoder
    int32_t  image_size;    // pixels per side of a picture
    int32_t  patch_size;
    int32_t  map_size;      // values per side of a map; 0 without one
    int32_t  n_projection;  // values of a feature vector
    int32_t  n_vocab;
    int32_t  n_text;        // tokens of a text at most, the marks of its beginning and end included
    float    mean[3], std[3];
    float    logit_scale;   // times the cosine of two feature vectors: a logit
    bool     bilinear;      // filter that resizes pictures; else bicubic
    uint64_t weight_bytes;
    char     backend[32];
};

LLAMA_API enum illava_status illava_scorer_load(
        const char * path, const struct illava_scorer_params * params, struct illava_scorer ** out);
LLAMA_API void               illava_scorer_free(struct illava_scorer * scorer);
LLAMA_API enum illava_status illava_scorer_describe(const struct illava_scorer * scorer, struct illava_scorer_info * info);

// features: [n_projection] of the text, of any length; `pooled` is the token whose row stands for the text.
LLAMA_API enum illava_status illava_scorer_text(
        struct illava_scorer * scorer, const int32_t * tokens, size_t n_tokens, size_t pooled, float * features);

struct illava_scorer_images {
    size_t        size;
    const float * pixels;     // [n_images, 3, image_size, image_size], normalised
    uint32_t      n_images;
    const float * text;       // [n_projection], read for a map
    float       * features;   // [n_images, n_projection], of any length
    float       * patches;    // [n_images, patches, n_projection] or NULL: the last rows of the patches, projected
    float       * map;        // [n_images, map_size, map_size] or NULL: logits
    bool       (* stop)(void * data); // asked before and while it computes: true ends the call with ILLAVA_ABORTED. NULL: never
    void        * stop_data;
};
LLAMA_API struct illava_scorer_images illava_scorer_default_images(void);
LLAMA_API enum illava_status illava_scorer_score(struct illava_scorer * scorer, const struct illava_scorer_images * images);

//
// Decoder: a context whose KV cache is cut into segments at the merge layers. A batch may ask for the logits of
// n_seq_max rows at most, one of each sequence.
//

struct illava_context_params {
    size_t           size;
    uint32_t         n_ctx;    // cells of the first segment
    uint32_t         n_batch, n_ubatch, n_seq_max;
    int32_t          n_threads, n_threads_batch;
    int32_t          flash_attn; // -1, 0, 1 as above
    enum ggml_type   type_k, type_v;
    bool             offload_kqv;
    bool             kv_unified;
    const int32_t  * merge_layers; // strictly ascending, each in 1 .. n_layer - 1; empty: one ordinary cache
    size_t           n_merge_layers;
    const uint32_t * n_ctx_deep;   // cells of each deeper segment; NULL: n_ctx for all
};
LLAMA_API struct illava_context_params illava_context_default_params(void);

LLAMA_API enum illava_status illava_context_new(
        struct llama_model * model, const struct illava_context_params * params, struct llama_context ** out);

//
// Layers on other machines. Neither side knows who the other is, and nothing is encrypted: for trusted networks only.
//

// Version of ggml-rpc's protocol with this library's operations: major << 16 | minor << 8 | patch.
LLAMA_API uint32_t           illava_rpc_version(void);
// Makes the devices of the RPC server at `endpoint`, host:port, devices of this process (ggml_backend_dev_get()), for
// its whole life. It waits as long as it takes: ask first whether a server answers there. A server that leaves later
// ends the process with status 1 and one line on stderr, since ggml-rpc has no status for that.
LLAMA_API enum illava_status illava_rpc_connect(const char * endpoint);
// Computes on these devices for one client after another, and returns only if it cannot listen at `endpoint`, an IPv4
// address and a port. `cache_dir` may be NULL; otherwise tensors of 10 MiB and more are kept there for the next load.
LLAMA_API enum illava_status illava_rpc_serve(
        const char * endpoint, const char * cache_dir, int32_t n_threads, const ggml_backend_dev_t * devices,
        size_t n_devices);

//
// Text models
//

// Whether this architecture's graph can be cut at merge layers.
LLAMA_API bool illava_model_can_merge(const struct llama_model * model);
// M-RoPE models take 4 position rows per call, others 1.
LLAMA_API int32_t illava_model_n_pos(const struct llama_model * model);

// Whether the CPU makes a copy of matrices of this ggml_type on loading, in the layout of its fastest kernels. A file
// that is mapped as well is then in memory twice.
LLAMA_API bool     illava_cpu_repacks(int32_t type);
// Bytes of the weights that were, or for a model loaded without its data would be, laid out so.
LLAMA_API uint64_t illava_model_repacked_bytes(const struct llama_model * model);

// Lets this library's own kernels compute the products of many rows they have code for on this processor. Without them,
// which is the default, ggml computes all and its results are those of an unpatched library to the last bit. It counts
// for the whole process and for what is computed afterwards.
LLAMA_API void         illava_set_kernels(bool own);
// The instructions those kernels use, such as "avx512-bf16, avx512-vnni"; "stock" if ggml computes all. Never freed.
LLAMA_API const char * illava_kernels_used(void);

struct illava_segment {
    size_t   size;
    int32_t  il_begin, il_end; // half-open
    uint32_t n_cells;
    uint32_t n_used;           // largest number of cells in use in one stream
    uint64_t bytes;
};
LLAMA_API size_t             illava_context_n_segments(const struct llama_context * ctx);
LLAMA_API enum illava_status illava_context_segment(const struct llama_context * ctx, size_t i, struct illava_segment * out);
LLAMA_API uint64_t           illava_context_compute_bytes(const struct llama_context * ctx);

enum illava_score {
    ILLAVA_SCORE_IMAGE      = 0, // mean attention from the span's own rows
    ILLAVA_SCORE_LAST_TOKEN = 1, // attention from the last row of the call
    ILLAVA_SCORE_QUESTION   = 2, // mean attention from the text rows behind the last span
    ILLAVA_SCORE_RATERS     = 3, // from those of them that the pictures' embeddings point to more than to the mean one
    ILLAVA_SCORE_PROMPT     = 4, // mean attention from all rows of the call
};

// How a row that leaves the cache after the prompt goes into one that stays (LOOK-M, Wan et al., 2024). A key or value c
// that takes up n others p becomes the mean of itself and of a row for each: its midpoint with p, p, or p times the
// cosine of both keys.
enum illava_thinning {
    ILLAVA_THINNING_NONE     = 0,
    ILLAVA_THINNING_PIVOTAL  = 1,
    ILLAVA_THINNING_AVERAGED = 2,
    ILLAVA_THINNING_WEIGHTED = 3,
};

struct illava_span {
    int32_t         first, n; // rows of the call
    const int32_t * r;        // [number of merge layers] tokens removed at each; r = 0 removes none
    bool            two_ways; // its rows attend to each other both ways, which takes n_ubatch >= n
};

// Rows of one sequence, text and visual mixed, taken through the segments one after another: each merge layer
// sees the whole call before it decides. Plain text and generated tokens may also go through llama_decode(),
// which crosses all segments at once.
struct illava_prefill_params {
    size_t                     size;
    int32_t                    n_rows;
    const llama_token        * tokens; // [n_rows]; a row with token < 0 takes its embedding
    const float              * embd;   // [n_rows, llama_model_n_embd_inp()]; read only where token < 0; may be NULL without such rows
    const llama_pos          * pos;    // [n_pos, n_rows], true positions
    llama_seq_id               seq_id;
    const struct illava_span * spans;  // disjoint, ascending
    size_t                     n_spans;
    enum illava_score          score;
    bool                       logits_last; // compute logits of the last row; read with llama_get_logits_ith(ctx, -1)
    bool                       keep_residual; // keep each step's merged residual for illava_trace_residual (tests)
    bool                       composed_score;
    enum illava_strategy       strategy; // not ILLAVA_STRATEGY_PRUMERGE or _VISIONZIP, which act behind the encoder
    uint64_t                   seed;     // of ILLAVA_STRATEGY_RANDOM
    const float              * sizes;    // [n_rows] original tokens that each row stands for; NULL: one each
    bool                       count_sizes; // attention counts a row as often as its size: log(size) joins its logits,
                                            // in every layer and for every query, later ones too
    const uint8_t            * held;        // [n_rows] as in illava_encode_params, of the rows of spans; NULL: none
    // [number of merge layers] or NULL. Above 0, only the smallest set of tokens that holds this share of the scores'
    // sum stays there, if it is smaller than what the spans' r leave in all. Later r count from the planned numbers.
    const float              * mass;
    // With a way of thinning, cells of each segment are let go once the call is computed, and what they held merges into
    // cells that stay: `score` at the segment's last layer ranks a span's rows, of which the latest stay before others,
    // as many as half of its share that stays is of the call's rows. Rows from the first span on can take up others.
    enum illava_thinning       thinning;
    const int32_t            * thinned;     // [n_spans, number of segments] rows whose cells go; fewer than the span has
};
LLAMA_API struct illava_prefill_params illava_prefill_default_params(void);

struct illava_trace;
// On failure nothing of the call stays in the cache. `trace` may be NULL.
LLAMA_API enum illava_status illava_prefill(
        struct llama_context * ctx, const struct illava_prefill_params * params, struct illava_trace ** trace);

// The same, one ubatch at a time: what stands between two steps may decode other sequences of the context (but not
// this one), or take other prefills a step further. The result is that of the one call; with a cache that its
// sequences share (kv_unified) the order of cells, and with it the last bits of sums, depends on the others.
struct illava_prefill_run;
// Checks and copies the call; computes nothing. ILLAVA_KV_FULL if there is no room as things stand.
LLAMA_API enum illava_status illava_prefill_begin(
        struct llama_context * ctx, const struct illava_prefill_params * params, struct illava_prefill_run ** out);
// Computes one ubatch. With the last one `done` becomes true, `trace` (may be NULL) is set, and the logits can be
// read; logits of an earlier llama_decode() are gone after any step. After a failure nothing of the call is cached
// and the run can only be freed.
LLAMA_API enum illava_status illava_prefill_step(struct illava_prefill_run * run, bool * done, struct illava_trace ** trace);
// Before its context is freed. A run that is not done leaves nothing in the cache.
LLAMA_API void               illava_prefill_free(struct illava_prefill_run * run);

LLAMA_API void               illava_trace_free(struct illava_trace * trace);
LLAMA_API size_t             illava_trace_n_steps(const struct illava_trace * trace);
LLAMA_API enum illava_status illava_trace_step(const struct illava_trace * trace, size_t i, struct illava_step * out);
// [n_out, n_embd] of the span's survivors as they enter layer `layer`; needs keep_residual. A step that thinned the
// cache gives the content of their cells in the segment that begins at `layer`: keys [layers, n_out, n_embd_k_gqa] as
// they are cached, then values.
LLAMA_API enum illava_status illava_trace_residual(
        const struct illava_trace * trace, size_t i, const float ** rows, size_t * n_floats);

//
// Sampling: llama.cpp's samplers without their exceptions
//

// A GBNF grammar over the model's vocabulary, which must outlive it; freed with llama_sampler_free().
LLAMA_API enum illava_status illava_sampler_grammar(
        const struct llama_model * model, const char * grammar, const char * root, struct llama_sampler ** out);
LLAMA_API enum illava_status illava_sampler_apply(struct llama_sampler * sampler, llama_token_data_array * candidates);
LLAMA_API enum illava_status illava_sampler_accept(struct llama_sampler * sampler, llama_token token);

#ifdef __cplusplus
}
#endif

#endif
