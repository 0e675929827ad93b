#include "machine.h"

#include "ggml-backend-impl.h"
#include "ggml-cpu.h"

#ifdef ILLAVA_CUDA
#include <cuda_runtime.h>
#endif

#include <algorithm>

namespace gpu {

double times::median() const {
    std::vector<double> sorted = ms;
    std::sort(sorted.begin(), sorted.end());
    const size_t n = sorted.size();
    return n % 2 ? sorted[n / 2] : 0.5 * (sorted[n / 2 - 1] + sorted[n / 2]);
}

json times::to_json() const {
    return { { "median_ms", median() },
             { "min_ms", *std::min_element(ms.begin(), ms.end()) },
             { "max_ms", *std::max_element(ms.begin(), ms.end()) },
             { "rounds", ms.size() } };
}

// CUDA's own clock. ggml's events carry no time, but its backend records any event on its stream.
struct machine::events {
#ifdef ILLAVA_CUDA
    cudaEvent_t        begin, end;
    ggml_backend_event begin_event, end_event;

    explicit events(ggml_backend_dev_t device) {
        require(cudaEventCreate(&begin) == cudaSuccess && cudaEventCreate(&end) == cudaSuccess, "CUDA makes no event");
        begin_event = { device, begin };
        end_event   = { device, end };
    }
    ~events() {
        cudaEventDestroy(begin);
        cudaEventDestroy(end);
    }
#endif
};

machine::machine(bool cpu, int n_threads) : gpu_(!cpu), n_threads_(n_threads) {
    if (cpu) {
        backend_.reset(ggml_backend_cpu_init());
        ggml_backend_cpu_set_n_threads(backend_.get(), n_threads);
        return;
    }
    ggml_backend_dev_t device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_GPU);
    require(device, "no GPU here; --cpu runs the same on the processor");
    backend_.reset(ggml_backend_dev_init(device, nullptr));
    require(backend_ != nullptr, "the GPU cannot be opened");
#ifdef ILLAVA_CUDA
    if (strcmp(ggml_backend_reg_name(ggml_backend_dev_backend_reg(device)), "CUDA") == 0) {
        events_ = std::make_unique<events>(device);
    }
#endif
}

machine::~machine() = default;

size_t machine::free_bytes() const {
    size_t free = 0, total = 0;
    ggml_backend_dev_memory(device(), &free, &total);
    return free;
}

json machine::to_json() const {
    size_t free = 0, total = 0;
    ggml_backend_dev_memory(device(), &free, &total);
    json out = { { "device", ggml_backend_dev_description(device()) },
                 { "backend", ggml_backend_name(backend()) },
                 { "memory_bytes", total },
                 { "op_clock", events_ ? "events" : "host" },
                 { "host_threads", n_threads_ } };
#ifdef ILLAVA_CUDA
    cudaDeviceProp prop = {};
    if (events_ && cudaGetDeviceProperties(&prop, 0) == cudaSuccess) {
        int driver = 0;
        cudaDriverGetVersion(&driver);
        out["compute_capability"] = std::to_string(prop.major) + "." + std::to_string(prop.minor);
        out["multiprocessors"]    = prop.multiProcessorCount;
        out["cuda"]               = CUDART_VERSION;
        out["driver"]             = driver;
    }
#endif
    return out;
}

double machine::once(ggml_cgraph * graph) {
#ifdef ILLAVA_CUDA
    if (events_) {
        ggml_backend_event_record(&events_->begin_event, backend());
        require(ggml_backend_graph_compute_async(backend(), graph) == GGML_STATUS_SUCCESS, "a graph failed");
        ggml_backend_event_record(&events_->end_event, backend());
        ggml_backend_synchronize(backend());
        float ms = 0.0f;
        require(cudaEventElapsedTime(&ms, events_->begin, events_->end) == cudaSuccess, "no time between events");
        return ms;
    }
#endif
    const int64_t begin = ggml_time_us();
    require(ggml_backend_graph_compute(backend(), graph) == GGML_STATUS_SUCCESS, "a graph failed");
    return 1e-3 * double(ggml_time_us() - begin);
}

times machine::time(ggml_cgraph * graph, int rounds) {
    for (int i = 0; i < std::min(rounds, 5); i++) {
        once(graph);
    }
    times out;
    for (int i = 0; i < rounds; i++) {
        out.ms.push_back(once(graph));
    }
    return out;
}

std::pair<times, times> machine::time_in_turn(const std::function<void()> & a, const std::function<void()> & b, int rounds) {
    const auto took = [](const std::function<void()> & run) {
        const int64_t begin = ggml_time_us();
        run();
        return 1e-3 * double(ggml_time_us() - begin);
    };
    for (int i = 0; i < std::min(rounds, 3); i++) {
        a();
        b();
    }
    times ta, tb;
    for (int i = 0; i < rounds; i++) {
        // whoever comes second finds other caches: they take turns
        if (i % 2 == 0) {
            ta.ms.push_back(took(a));
            tb.ms.push_back(took(b));
        } else {
            tb.ms.push_back(took(b));
            ta.ms.push_back(took(a));
        }
    }
    return { ta, tb };
}

static ggml_context * make_context(size_t n_tensors) {
    return ggml_init({ 2 * n_tensors * ggml_tensor_overhead() + ggml_graph_overhead_custom(n_tensors, false), nullptr, true });
}

device_graph::device_graph(ggml_backend_t backend, size_t max_nodes) :
    backend_(backend), inputs_(make_context(64)), nodes_(make_context(max_nodes)),
    graph_(ggml_new_graph_custom(nodes_.get(), max_nodes, false)) {}

ggml_tensor * device_graph::input(ggml_type type, int64_t ne0, int64_t ne1, int64_t ne2) {
    return ggml_new_tensor_3d(inputs_.get(), type, ne0, ne1, ne2);
}

void device_graph::output(ggml_tensor * tensor) {
    ggml_set_output(tensor);
    ggml_build_forward_expand(graph_, tensor);
}

void device_graph::allocate() {
    buffer_.reset(ggml_backend_alloc_ctx_tensors(inputs_.get(), backend_));
    require(buffer_ != nullptr, "no memory on the device for a test's operands");
    allocator_.reset(ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend_)));
    require(ggml_gallocr_alloc_graph(allocator_.get(), graph_), "no memory on the device for a test's graph");
}

void device_graph::run() {
    require(ggml_backend_graph_compute(backend_, graph_) == GGML_STATUS_SUCCESS, "a graph failed");
}

std::vector<std::string> device_graph::unsupported() const {
    std::vector<std::string> out;
    for (int i = 0; i < ggml_graph_n_nodes(graph_); i++) {
        if (!ggml_backend_supports_op(backend_, ggml_graph_node(graph_, i))) {
            out.push_back(ggml_op_desc(ggml_graph_node(graph_, i)));
        }
    }
    return out;
}

} // namespace gpu
