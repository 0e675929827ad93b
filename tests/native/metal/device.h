#pragma once

// A Metal device that is the CPU: it stands in for upstream's ggml-metal-device.m, so that upstream's
// own encoding of a graph runs on it.

#include "ggml-metal-device.h"
#include "threadgroup.h"

#include <string>

namespace emulation {

struct device_state {
    turn        order   = turn::ascending;
    bool        bfloat  = true;
    size_t      threadgroup_memory = 0; // the most that a dispatch asked for
    int         n_dispatches = 0;
    std::string error;                  // of the last run
};

device_state & device();

} // namespace emulation
