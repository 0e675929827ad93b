// Parts of a loaded encoder and of one run of its graph that the illava entry points need, beyond upstream's
// clip.h.

#pragma once

#include "ggml-backend.h"
#include "ggml-illava.h"
#include "illava-merge.h"
#include "../../src/illava-step.h"

#include <vector>

struct clip_ctx;
struct clip_model;

// Borrowed from the clip_ctx; defined at the foot of clip.cpp, where that struct is known.
struct illava_clip_parts {
    const clip_model     * model;
    ggml_backend_sched_t   sched;
    ggml_backend_t         backend;      // where the weights are
    size_t                 weight_bytes; // the buffers that hold them
    size_t                 repacked_bytes; // of these, in the layout of the CPU's fastest kernels
    std::vector<ggml_backend_t> backends;
};
illava_clip_parts illava_clip_get_parts(const clip_ctx * ctx);

// Frees the compute buffers. The parts have another scheduler then.
void illava_clip_free_buffers(clip_ctx * ctx);

// Watches one clip_encode(): times the encoder and the projector apart, lets others compute in between, and reads the
// merge steps back.
class illava_probe {
  public:
    using pause_fn = void (*)(void * data);

    // n_rows: patches that enter the first layer. n_head: of the encoder. pause: see illava_encode_params.
    illava_probe(illava_merge_schedule_ptr schedule, int64_t n_rows, int32_t n_head, pause_fn pause, void * pause_data);
    ~illava_probe();

    illava_probe(const illava_probe &) = delete;
    illava_probe & operator=(const illava_probe &) = delete;

    void before(ggml_backend_sched_t sched, ggml_cgraph * gf); // the graph is allocated, its inputs are set
    void after(ggml_cgraph * gf);                              // the graph is computed

    std::vector<illava_step_trace> steps;
    std::vector<float>             sizes; // [units left] original ones that each stands for; empty: nobody asked
    double encoder_ms   = 0; // without pauses
    double projector_ms = 0;

  private:
    static bool on_node(ggml_tensor * node, bool ask, void * self);

    int64_t worked_us() const; // a clock that stands still in pauses
    void draw(ggml_cgraph * gf) const;
    std::vector<float> read_scores(ggml_cgraph * gf, const illava_merge_step & step, int64_t rows) const;

    illava_merge_schedule_ptr schedule;
    int64_t                   n_rows;
    int32_t                   n_head;
    ggml_backend_sched_t      sched        = nullptr;
    const ggml_tensor       * encoder_out  = nullptr; // the projector's input
    int64_t                   t_begin_us   = 0;
    int64_t                   t_encoder_us = 0;
    pause_fn                  pause;
    void                    * pause_data;
    int64_t                   n_asked      = 0; // nodes so far
    int64_t                   n_piece      = 1; // nodes between two pauses
    int64_t                   t_paused_us  = 0; // in all pauses
};
