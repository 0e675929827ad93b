// A way out of a graph that is being computed.

#pragma once

#include "ggml-backend.h"

#include <atomic>
#include <vector>

// While one lives, backends that can stop ask `stop` before each node; computing then ends with GGML_STATUS_ABORTED.
class illava_stop_scope {
  public:
    using stop_fn = bool (*)(void * data);

    // stop: may be null, then nothing changes.
    illava_stop_scope(std::vector<ggml_backend_t> backends, stop_fn stop, void * data);
    ~illava_stop_scope();

    illava_stop_scope(const illava_stop_scope &) = delete;
    illava_stop_scope & operator=(const illava_stop_scope &) = delete;

    // Whether `stop` has said so, now or before; it is not asked again then.
    bool asked();

  private:
    void set(bool on);

    std::vector<ggml_backend_t> backends;
    stop_fn                     stop;
    void                      * data;
    std::atomic<bool>           was_asked{ false };
};
