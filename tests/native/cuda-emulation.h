#pragma once

// CUDA's execution model on the CPU, as far as the kernels of ggml-cuda/illava-score*.cuh use it: their
// source is compiled by the host's compiler and run thread by thread.
//
// Every CUDA thread of a block is a fibre with a stack of its own. A fibre runs until it has to wait for
// others (a barrier, a shuffle, a warp's matrix product), then another one goes on. A race on a card is
// therefore in a fixed order here. Kernels run in two orders. One goes lane by lane, with asynchronous copies
// as late as allowed. The other takes a warp as far as it gets, from the last to the first, with copies done
// at once. A barrier left out shows as a different result.

#include "ggml.h"

#include <algorithm>
#include <csetjmp>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <ucontext.h>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static // one block runs at a time
#define TURING_MMA_AVAILABLE
#define CP_ASYNC_AVAILABLE

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct alignas(16) int4 { int x, y, z, w; };

struct half  { uint16_t bits; };
struct half2 { half x, y; };

namespace cuda {

inline dim3 thread_index, block_index, block_size;

[[noreturn]] inline void fail(const char * what) {
    printf("FAIL emulation: %s (block %u,%u,%u thread %u,%u)\n", what,
        block_index.x, block_index.y, block_index.z, thread_index.x, thread_index.y);
    exit(1);
}

// How fibres take turns, and when asynchronous copies arrive.
struct schedule {
    bool warp_by_warp = false; // and from the last thread to the first
    bool late_copies  = false;
};

class block {
public:
    // Runs body once for each of the block's threads.
    void run(dim3 index, dim3 size, schedule order, const std::function<void()> & body) {
        const size_t n = size_t(size.x) * size.y * size.z;
        while (fibres_.size() < n) {
            start_fibre();
        }
        block_index = index;
        block_size  = size;
        body_       = &body;
        order_      = order;
        n_          = n;
        running_    = n;
        barrier_    = {};
        any_[0] = any_[1] = false;
        warps_.assign((n + 31) / 32, {});
        for (size_t i = 0; i < n; i++) {
            fibres_[i]->done  = false;
            fibres_[i]->waits = nullptr;
            fibres_[i]->index = dim3(unsigned(i % size.x), unsigned(i / size.x % size.y), unsigned(i / size.x / size.y));
        }
        current_ = order.warp_by_warp ? 0 : n - 1; // so that the first to run is the first in order
        if (_setjmp(main_) == 0) {
            go_on();
        }
    }

    // Whether any thread came with true.
    bool sync_threads(bool value) {
        bool & any = any_[barrier_.generation % 2];
        any = any || value;
        meet(barrier_, n_, [&]{ any_[(barrier_.generation + 1) % 2] = false; }); // all have read that one
        return any;
    }

    // All lanes of a warp show a value; `together` runs once when all are there, then every lane gets
    // all values.
    template <typename action>
    const void * const * meet_warp(const void * value, action together) {
        if (n_ % 32 != 0) {
            fail("a warp operation in a block of incomplete warps");
        }
        warp & w = warps_[current_ / 32];
        auto & shown = w.shown[w.gathering.generation % 2]; // the other half may still be read
        shown[current_ % 32] = value;
        meet(w.gathering, 32, [&]{ together(shown); });
        return shown;
    }

    size_t   lane()     const { return current_ % 32; }
    schedule the_order() const { return order_; }

    struct copy { void * to; const void * from; };
    std::vector<copy> & pending() { return fibres_[current_]->copies; }

private:
    struct meeting {
        size_t   arrived    = 0;
        uint64_t generation = 0;
    };

    struct warp {
        meeting      gathering;
        const void * shown[2][32];
    };

    struct fibre {
        jmp_buf                 context;
        ucontext_t              start;
        std::unique_ptr<char[]> stack;
        std::vector<copy>       copies;
        dim3                    index;
        bool                    done  = true;
        const meeting *         waits = nullptr; // for this to come to its next generation
        uint64_t                generation;
    };

    static constexpr size_t stack_bytes = 128 * 1024;

    template <typename action>
    void meet(meeting & m, size_t n, action together) {
        if (++m.arrived == n) {
            together();
            m.arrived = 0;
            m.generation++;
            return;
        }
        fibre & self = *fibres_[current_];
        self.waits      = &m;
        self.generation = m.generation;
        wait(self);
        self.waits = nullptr;
    }

    // To the next fibre that can run; when all are done, run() returns.
    [[noreturn]] void go_on() {
        if (running_ == 0) {
            _longjmp(main_, 1);
        }
        current_ = order_.warp_by_warp ? last_in_warp() : first_after();
        thread_index = fibres_[current_]->index;
        _longjmp(fibres_[current_]->context, 1);
    }

    bool can_run(size_t i) const {
        const fibre & f = *fibres_[i];
        return !f.done && (!f.waits || f.waits->generation != f.generation);
    }

    size_t first_after() const {
        for (size_t i = 1; i <= n_; i++) {
            if (can_run((current_ + i) % n_)) {
                return (current_ + i) % n_;
            }
        }
        fail("threads wait for others that never come");
    }

    // The last thread of the warp at hand that can run, else one of the warp before it.
    size_t last_in_warp() const {
        const size_t end = std::min(n_, current_ / 32 * 32 + 32);
        for (size_t i = 1; i <= n_; i++) {
            if (can_run((end + n_ - i) % n_)) {
                return (end + n_ - i) % n_;
            }
        }
        fail("threads wait for others that never come");
    }

    // Returns when the fibre that calls it has its turn again.
    __attribute__((noinline)) void wait(fibre & self) {
        if (_setjmp(self.context) == 0) {
            go_on();
        }
    }

    void fibre_main(fibre & self, ucontext_t & creator) {
        if (_setjmp(self.context) == 0) {
            setcontext(&creator);
        }
        for (;;) {
            (*body_)();
            if (!self.copies.empty()) {
                fail("a thread ends with copies under way");
            }
            self.done = true;
            running_--;
            wait(self);
        }
    }

    void start_fibre() {
        fibres_.push_back(std::make_unique<fibre>());
        fibre & f = *fibres_.back();
        f.stack.reset(new char[stack_bytes]);
        getcontext(&f.start);
        f.start.uc_stack.ss_sp   = f.stack.get();
        f.start.uc_stack.ss_size = stack_bytes;
        f.start.uc_link          = nullptr;

        static block *      owner;
        static fibre *      starting;
        static ucontext_t   creator;
        owner    = this;
        starting = &f;
        makecontext(&f.start, +[]{ owner->fibre_main(*starting, creator); }, 0);
        swapcontext(&creator, &f.start);
    }

    std::vector<std::unique_ptr<fibre>> fibres_;
    std::vector<warp>                   warps_;
    const std::function<void()> *       body_ = nullptr;
    jmp_buf  main_;
    schedule order_;
    meeting  barrier_;
    bool     any_[2];
    size_t   n_        = 0;
    size_t   current_  = 0;
    size_t   running_  = 0;
};

inline block & the_block() {
    static block b;
    return b;
}

// Stand-in for <<<>>>, which the kernels' host code calls.
struct launcher {
    schedule order;

    template <typename... parameters, typename... arguments>
    void operator()(void (*kernel)(parameters...), dim3 grid, dim3 size, arguments... values) {
        const std::function<void()> body = [&]{ kernel(values...); };
        for (unsigned z = 0; z < grid.z; z++) {
            for (unsigned y = 0; y < grid.y; y++) {
                for (unsigned x = 0; x < grid.x; x++) {
                    the_block().run(dim3(x, y, z), size, order, body);
                }
            }
        }
    }
};

} // namespace cuda

#define threadIdx (cuda::thread_index)
#define blockIdx  (cuda::block_index)
#define blockDim  (cuda::block_size)

inline void __syncthreads() {
    cuda::the_block().sync_threads(false);
}

inline int __syncthreads_or(int value) {
    return cuda::the_block().sync_threads(value != 0);
}

inline float __shfl_xor_sync(unsigned mask, float value, int lane_mask, int width) {
    if (mask != 0xffffffff || width != 32) {
        cuda::fail("a shuffle of less than a warp");
    }
    const size_t lane = cuda::the_block().lane();
    const auto * all  = cuda::the_block().meet_warp(&value, [](auto &){});
    const float result = *(const float *) all[lane ^ size_t(lane_mask)];
    cuda::the_block().meet_warp(nullptr, [](auto &){}); // `value` lives until everyone has read it
    return result;
}

inline int   min(int a, int b)          { return a < b ? a : b; }
inline float __int_as_float(int bits)   { float x; memcpy(&x, &bits, sizeof(x)); return x; }
inline half  __float2half_rn(float x)   { return { ggml_fp32_to_fp16(x) }; }

inline float __half2float(half x) {
    static const std::vector<float> table = [] {
        std::vector<float> values(1 << 16);
        for (size_t i = 0; i < values.size(); i++) {
            values[i] = ggml_fp16_to_fp32(ggml_fp16_t(i));
        }
        return values;
    }();
    return table[x.bits];
}

template <int preload> void cp_async_cg_16(void * shared, const void * global) {
    if (uintptr_t(shared) % 16 != 0 || uintptr_t(global) % 16 != 0) {
        cuda::fail("an asynchronous copy that is not aligned to 16 bytes");
    }
    if (cuda::the_block().the_order().late_copies) {
        cuda::the_block().pending().push_back({ shared, global });
    } else {
        memcpy(shared, global, 16);
    }
}

inline void cp_async_wait_all() {
    for (const auto & c : cuda::the_block().pending()) {
        memcpy(c.to, c.from, 16);
    }
    cuda::the_block().pending().clear();
}

inline void * ggml_cuda_cvta_generic_to_shared(void * pointer) {
    return pointer;
}
