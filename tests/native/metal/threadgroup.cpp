#if defined(__APPLE__) // shows ucontext.h to those who ask for it
#define _XOPEN_SOURCE 600
#define _DARWIN_C_SOURCE
#endif

#include "threadgroup.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <random>
#include <ucontext.h>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulation {
namespace {

constexpr size_t stack_bytes = 256 * 1024;

enum class state { ready, at_threadgroup, at_simdgroup, done };

// A switch between stacks, told to the address sanitizer where it watches.
struct stack {
    ucontext_t context;
    void *     sanitizer = nullptr;
    void *     bottom    = nullptr;
    size_t     bytes     = 0;
};

void switch_to(stack & from, stack & to) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&from.sanitizer, to.bottom, to.bytes);
#endif
    swapcontext(&from.context, &to.context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(from.sanitizer, nullptr, nullptr);
#endif
}

struct thread {
    stack    own;
    position where;
    state    now;
    uint32_t slot[2]; // what it shows to its simdgroup, turn about: the others may still read the last one
    uint32_t n_exchanges;

    std::unique_ptr<char[]> memory;
};

struct group {
    stack               scheduler;
    std::vector<thread> threads;
    thread *            running   = nullptr;
    const char *        complaint = "";
    const std::function<void(const position &)> * body = nullptr;
};

group & current() {
    static group g;
    return g;
}

void enter() {
    group & g = current();
#if defined(__SANITIZE_ADDRESS__)
    const void * bottom;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &g.scheduler.bytes);
    g.scheduler.bottom = const_cast<void *>(bottom);
#endif
    (*g.body)(g.running->where);
    g.running->now = state::done;
    switch_to(g.running->own, g.scheduler);
    abort(); // nobody resumes a thread that is done
}

void wait(state what) {
    group & g = current();
    g.running->now = what;
    switch_to(g.running->own, g.scheduler);
}

void start(thread & t, const position & where) {
    if (!t.memory) {
        t.memory.reset(new char[stack_bytes]);
    }
    t.where       = where;
    t.now         = state::ready;
    t.n_exchanges = 0;
    t.own.bottom  = t.memory.get();
    t.own.bytes   = stack_bytes;
    getcontext(&t.own.context);
    t.own.context.uc_stack.ss_sp   = t.memory.get();
    t.own.context.uc_stack.ss_size = stack_bytes;
    t.own.context.uc_link          = nullptr;
    makecontext(&t.own.context, enter, 0);
}

bool all_at(thread * begin, thread * end, state what) {
    return std::all_of(begin, end, [what](const thread & t) { return t.now == what; });
}

void release(thread * begin, thread * end) {
    std::for_each(begin, end, [](thread & t) { t.now = state::ready; });
}

} // namespace

const char * run_threadgroup(uint32_t n_threads, const position & first, turn order, const std::function<void(const position &)> & body) {
    group & g = current();
    if (g.threads.size() < n_threads) {
        g.threads.resize(n_threads);
    }
    g.complaint = "";
    g.body      = &body;
    for (uint32_t i = 0; i < n_threads; i++) {
        position where = first;
        where.thread   = i;
        where.in_grid  = first.threadgroup[0] * n_threads + i;
        start(g.threads[i], where);
    }

    std::vector<uint32_t> turns(n_threads);
    std::iota(turns.begin(), turns.end(), 0);
    std::mt19937 random(n_threads);
    if (order == turn::descending) {
        std::reverse(turns.begin(), turns.end());
    }

    thread * const begin = g.threads.data();
    thread * const end   = begin + n_threads;
    for (;;) {
        if (order == turn::shuffled) {
            std::shuffle(turns.begin(), turns.end(), random);
        }
        for (uint32_t i : turns) {
            if (g.threads[i].now == state::ready) {
                g.running = &g.threads[i];
                switch_to(g.scheduler, g.running->own);
            }
        }

        bool released = false;
        for (thread * lane = begin; lane < end; lane += simd_width) {
            thread * last = std::min(lane + simd_width, end);
            if (all_at(lane, last, state::at_simdgroup)) {
                release(lane, last);
                released = true;
            }
        }
        if (released) {
            continue;
        }
        if (all_at(begin, end, state::done)) {
            return g.complaint;
        }
        if (!all_at(begin, end, state::at_threadgroup)) {
            return "threads wait for each other at different places";
        }
        release(begin, end);
    }
}

void complain(const char * what) {
    if (!*current().complaint) {
        current().complaint = what;
    }
}

void wait_for_threadgroup() {
    wait(state::at_threadgroup);
}

uint32_t exchange(uint32_t value, uint32_t lane_xor) {
    group &  g    = current();
    thread & self = *g.running;

    const uint32_t turn_about = self.n_exchanges++ % 2;
    self.slot[turn_about] = value;
    wait(state::at_simdgroup);
    return g.threads[self.where.thread ^ lane_xor].slot[turn_about];
}

bool leads_simdgroup() {
    return current().running->where.lane() == 0;
}

} // namespace emulation
