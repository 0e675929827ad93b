#include "illava-repack.h"

#include "clip-impl.h"

#include <stdexcept>
#include <unordered_map>
#include <unordered_set>

namespace {

using uses = std::unordered_map<const ggml_tensor *, std::vector<const ggml_tensor *>>;

// Matrix products by the weight they take; a weight with any other use is left out.
uses find_products(ggml_context * ctx, ggml_cgraph * graph) {
    std::unordered_set<const ggml_tensor *> weights;
    for (ggml_tensor * t = ggml_get_first_tensor(ctx); t; t = ggml_get_next_tensor(ctx, t)) {
        weights.insert(t);
    }

    uses products;
    std::unordered_set<const ggml_tensor *> others;
    for (int i = 0; i < ggml_graph_n_nodes(graph); i++) {
        const ggml_tensor * node = ggml_graph_node(graph, i);
        for (int s = 0; s < GGML_MAX_SRC; s++) {
            const ggml_tensor * source = node->src[s];
            if (!source || weights.count(source) == 0) {
                continue;
            }
            if (node->op == GGML_OP_MUL_MAT && s == 0) {
                products[source].push_back(node);
            } else {
                others.insert(source);
            }
        }
    }
    for (const ggml_tensor * weight : others) {
        products.erase(weight);
    }
    return products;
}

std::vector<ggml_backend_buffer_type_t> extra_buffer_types(ggml_backend_dev_t device) {
    const auto get_types = (ggml_backend_dev_get_extra_bufts_t) ggml_backend_reg_get_proc_address(
        ggml_backend_dev_backend_reg(device), "ggml_backend_dev_get_extra_bufts");
    std::vector<ggml_backend_buffer_type_t> types;
    for (auto * type = get_types ? get_types(device) : nullptr; type && *type; type++) {
        types.push_back(*type);
    }
    return types;
}

// A device is asked about an operation whose operands have buffers. `empty`, of the type in question, stands in for the
// one the weight would get.
bool supports(ggml_backend_dev_t device, ggml_tensor * weight, ggml_backend_buffer_t empty, const uses & products) {
    const auto found = products.find(weight);
    if (found == products.end()) {
        return false;
    }
    weight->buffer = empty;
    bool all = true;
    for (const ggml_tensor * product : found->second) {
        all = all && ggml_backend_dev_supports_op(device, product);
    }
    weight->buffer = nullptr;
    return all;
}

} // namespace

std::vector<ggml_backend_buffer_ptr> illava_repack_weights(ggml_context * ctx, ggml_cgraph * graph, ggml_backend_t backend) {
    ggml_backend_dev_t device = ggml_backend_get_device(backend);
    if (ggml_backend_dev_type(device) != GGML_BACKEND_DEVICE_TYPE_CPU) {
        LOG_DBG("%s: the weights are on %s, nothing to repack\n", __func__, ggml_backend_dev_name(device));
        return {};
    }

    const uses products = find_products(ctx, graph);
    std::vector<ggml_backend_buffer_ptr> buffers;

    for (ggml_backend_buffer_type_t type : extra_buffer_types(device)) {
        const ggml_backend_buffer_ptr empty(ggml_backend_buft_alloc_buffer(type, 0));
        std::vector<ggml_tensor *> taken;
        for (ggml_tensor * t = ggml_get_first_tensor(ctx); empty && t; t = ggml_get_next_tensor(ctx, t)) {
            if (!t->data && supports(device, t, empty.get(), products)) {
                taken.push_back(t);
            }
        }
        if (taken.empty()) {
            continue;
        }
        buffers.emplace_back(ggml_backend_buft_alloc_buffer_n(type, taken.data(), (int) taken.size()));
        if (!buffers.back()) {
            throw std::runtime_error("no memory for repacked weights");
        }
        ggml_backend_buffer_set_usage(buffers.back().get(), GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
        LOG_DBG("%s: %zu weights, %zu bytes in %s\n", __func__, taken.size(),
            ggml_backend_buffer_get_size(buffers.back().get()), ggml_backend_buft_name(type));
    }
    if (buffers.empty()) {
        LOG_DBG("%s: this CPU has no faster layout for these weights\n", __func__);
    }
    return buffers;
}
