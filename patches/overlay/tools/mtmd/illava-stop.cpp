#include "illava-stop.h"

#include <utility>

illava_stop_scope::illava_stop_scope(std::vector<ggml_backend_t> backends, stop_fn stop, void * data) :
    backends(std::move(backends)), stop(stop), data(data) {
    set(true);
}

illava_stop_scope::~illava_stop_scope() {
    set(false);
}

bool illava_stop_scope::asked() {
    if (stop && !was_asked && stop(data)) {
        was_asked = true;
    }
    return was_asked;
}

void illava_stop_scope::set(bool on) {
    if (!stop) {
        return;
    }
    const auto ask = [](void * self) { return static_cast<illava_stop_scope *>(self)->asked(); };
    for (ggml_backend_t backend : backends) {
        const auto set_callback = (ggml_backend_set_abort_callback_t) ggml_backend_reg_get_proc_address(
            ggml_backend_dev_backend_reg(ggml_backend_get_device(backend)), "ggml_backend_set_abort_callback");
        if (set_callback) {
            set_callback(backend, on ? +ask : nullptr, on ? this : nullptr);
        }
    }
}
