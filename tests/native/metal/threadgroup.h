#pragma once

// The threads of one Metal threadgroup on one CPU thread: each runs until it has to wait for others.

#include <cstdint>
#include <functional>

namespace emulation {

constexpr int simd_width = 32;

// Indices that tell one thread from another.
struct position {
    uint32_t threadgroup[3];
    uint32_t thread;  // in the threadgroup
    uint32_t in_grid; // of a one-dimensional grid

    uint32_t simdgroup() const { return thread / simd_width; }
    uint32_t lane()      const { return thread % simd_width; }
};

// The turn in which threads run between two barriers. A kernel that lacks a barrier gives another
// result in at least one of them.
enum class turn { ascending, descending, shuffled };

// Runs `body` as every thread of a threadgroup; returns an empty text, or what went wrong.
const char * run_threadgroup(uint32_t n_threads, const position & first, turn order, const std::function<void(const position &)> & body);

// For the running thread.
void     complain(const char * what); // the first complaint is what run_threadgroup returns
void     wait_for_threadgroup();
uint32_t exchange(uint32_t value, uint32_t lane_xor); // the value of lane (own ^ lane_xor)
bool     leads_simdgroup(); // one thread of a simdgroup does what Metal's simdgroup matrices share out

} // namespace emulation
