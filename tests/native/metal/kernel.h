#pragma once

// A compiled kernel, as the emulated device sees it.

#include "threadgroup.h"

#include <cstddef>

namespace emulation {

struct bindings {
    static constexpr int n_max = 8;
    const void * bytes = nullptr;    // at index 0, the arguments
    void *       buffer[n_max] = {}; // at its index
    void *       threadgroup_memory = nullptr;
};

struct compiled_kernel {
    const char * name;
    void (* run)(const bindings &, const position &);
};

// By its host_name; null where the library has none.
const compiled_kernel * find_kernel(const char * name);

} // namespace emulation
