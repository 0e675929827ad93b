#pragma once

// The device that is measured, graphs on it, and how long they take.

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml.h"

#include <nlohmann/json.hpp>

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace gpu {

using json = nlohmann::ordered_json;

template <auto release> struct releaser {
    template <typename T> void operator()(T * handle) const { release(handle); }
};
template <typename T, auto release> using handle = std::unique_ptr<T, releaser<release>>;

inline void require(bool held, const std::string & what) {
    if (!held) {
        throw std::runtime_error(what);
    }
}

// Milliseconds of rounds after a warm-up.
struct times {
    std::vector<double> ms;

    double median() const;
    json   to_json() const; // median, smallest, largest, rounds
};

class machine {
public:
    // The first GPU, or with cpu the processor in its place: the same program, to try it where there is no GPU.
    machine(bool cpu, int n_threads);
    ~machine();

    ggml_backend_t     backend()   const { return backend_.get(); }
    ggml_backend_dev_t device()    const { return ggml_backend_get_device(backend_.get()); }
    bool               is_gpu()    const { return gpu_; }
    int                n_threads() const { return n_threads_; }
    size_t             free_bytes() const;
    json               to_json()   const;

    // One graph, by events on the backend's own stream where it has such, else by the host's clock.
    times time(ggml_cgraph * graph, int rounds);
    // Two things the host waits for, one after the other in every round.
    static std::pair<times, times> time_in_turn(const std::function<void()> & a, const std::function<void()> & b, int rounds);

private:
    double once(ggml_cgraph * graph);

    handle<ggml_backend, ggml_backend_free> backend_;
    bool   gpu_;
    int    n_threads_;
    struct events;
    std::unique_ptr<events> events_;
};

// Made, allocated and run on one backend.
class device_graph {
public:
    explicit device_graph(ggml_backend_t backend, size_t max_nodes = 8192);

    ggml_context * ctx()   { return nodes_.get(); }
    ggml_cgraph *  graph() { return graph_; }

    ggml_tensor * input(ggml_type type, int64_t ne0, int64_t ne1 = 1, int64_t ne2 = 1);
    void output(ggml_tensor * tensor);
    void allocate();
    void run();

    size_t compute_bytes() const { return ggml_gallocr_get_buffer_size(allocator_.get(), 0); }
    // Operations that this backend would hand to another.
    std::vector<std::string> unsupported() const;

private:
    ggml_backend_t backend_;
    handle<ggml_context, ggml_free>                 inputs_;
    handle<ggml_context, ggml_free>                 nodes_;
    ggml_cgraph *                                   graph_;
    handle<ggml_backend_buffer, ggml_backend_buffer_free> buffer_;
    handle<ggml_gallocr, ggml_gallocr_free>         allocator_;
};

} // namespace gpu
