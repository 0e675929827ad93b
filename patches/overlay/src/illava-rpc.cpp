// Layers on other machines, over ggml's RPC backend.

#include "illava-status.h"

#include "ggml-backend.h"
#include "ggml-rpc.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#ifdef _WIN32
#    include <process.h>
#else
#    include <unistd.h>
#endif

// The backend is found by its name in the registry: the library links without it, too.
template <typename F>
static F rpc_call(const char * name) {
    ggml_backend_reg_t reg = ggml_backend_reg_by_name("RPC");
    void * found = reg ? ggml_backend_reg_get_proc_address(reg, name) : nullptr;
    if (!found) {
        illava_fail(ILLAVA_UNSUPPORTED, "this build has no RPC backend");
    }
    return reinterpret_cast<F>(found);
}

// ggml-rpc has no status for a peer that leaves during the work: it aborts, from a thread of its own. The layers there
// are lost with it, so the process ends, but with one line and its code for failures.
[[noreturn]] static void end_without_peer() {
    fprintf(stderr, "error: an RPC server has gone or answered wrongly, and its layers with it; start `illava rpc` there "
        "again and repeat the request\n");
    fflush(stderr);
    _exit(1);
}

static ggml_abort_callback_t abort_before = nullptr;

static void on_abort(const char * message) {
    if (std::string(message).find("Remote RPC server") != std::string::npos) {
        end_without_peer();
    }
    if (abort_before) {
        abort_before(message);
    } else {
        fprintf(stderr, "%s\n", message);
    }
}

uint32_t illava_rpc_version(void) {
    return uint32_t(RPC_PROTO_MAJOR_VERSION) << 16 | uint32_t(RPC_PROTO_MINOR_VERSION) << 8 | uint32_t(RPC_PROTO_PATCH_VERSION);
}

illava_status illava_rpc_connect(const char * endpoint) {
    return illava_guard([&] {
        illava_require(endpoint, "endpoint");
        static const bool installed = [] {
            abort_before = ggml_set_abort_callback(on_abort);
            return true;
        }();
        (void) installed;
        using add_server = ggml_backend_reg_t (*)(const char *);
        ggml_backend_reg_t reg = rpc_call<add_server>("ggml_backend_rpc_add_server")(endpoint);
        if (!reg) {
            illava_fail(ILLAVA_UNSUPPORTED, "%s: the server there has no device", endpoint);
        }
        // Registering twice lists the devices once.
        ggml_backend_register(reg);
    });
}

illava_status illava_rpc_serve(
        const char * endpoint, const char * cache_dir, int32_t n_threads, const ggml_backend_dev_t * devices,
        size_t n_devices) {
    return illava_guard([&] {
        illava_require(endpoint, "endpoint");
        illava_require(devices, "devices");
        if (n_threads < 1 || n_devices < 1) {
            illava_fail(ILLAVA_BAD_ARG, "n_threads %d and n_devices %zu: give at least 1", n_threads, n_devices);
        }
        unsigned octets[4] = {}, port = 0;
        int end = 0;
        if (sscanf(endpoint, "%3u.%3u.%3u.%3u:%5u%n", &octets[0], &octets[1], &octets[2], &octets[3], &port, &end) != 5 ||
            endpoint[end] || port > 65535 || std::any_of(octets, octets + 4, [](unsigned n) { return n > 255; })) {
            illava_fail(ILLAVA_BAD_ARG, "%s: give an IPv4 address and a port, as 127.0.0.1:50052", endpoint);
        }
        using start_server = void (*)(const char *, const char *, size_t, size_t, ggml_backend_dev_t *);
        rpc_call<start_server>("ggml_backend_rpc_start_server")(
            endpoint, cache_dir, (size_t) n_threads, n_devices, const_cast<ggml_backend_dev_t *>(devices));
        // It returns only if it cannot serve, and says no more than that on stderr.
        illava_fail(ILLAVA_BAD_ARG, "%s: cannot listen there", endpoint);
    });
}
