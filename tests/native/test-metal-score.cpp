// The Metal kernels of the attention-received score, on an emulated device: upstream's encoding of the node,
// our dispatch and the kernels' own source, against the float64 reference. docs/metal.md says what this shows
// and what it cannot.

#include "ggml-illava.h"
#include "ggml-impl.h"
#include "illava-score-metal.h"
#include "metal/device.h"
#include "score-cases.h"

#include "ggml-metal-fusion.h"
#include "ggml-metal-ops.h"

#include <cstring>

using emulation::turn;
using score::mask_kind;
using score::score_case;

namespace {

constexpr size_t guard_bytes = 4096;

// The node, its operands, and memory for its result and scratch with nothing but a guard behind.
struct metal_node {
    fixture::backend_ptr backend{ ggml_backend_cpu_init() };
    fixture::context_ptr inputs{ ggml_init({ 8 * ggml_tensor_overhead(), nullptr, true }) };
    fixture::context_ptr nodes { ggml_init({ 16 * ggml_tensor_overhead() + ggml_graph_overhead(), nullptr, true }) };
    fixture::buffer_ptr  input_buffer;
    fixture::buffer_ptr  result_buffer;
    ggml_cgraph *        graph = ggml_new_graph(nodes.get());
    ggml_tensor *        result;
    score::operands      stored;
    size_t               bytes;

    metal_node(const score_case & c, float scale) {
        const auto place = [&](ggml_type type, int64_t n, int64_t heads) {
            return c.permuted ? ggml_new_tensor_3d(inputs.get(), type, c.d, heads, n)
                              : ggml_new_tensor_3d(inputs.get(), type, c.d, n, heads);
        };
        const auto view = [&](ggml_tensor * x) {
            return c.permuted ? ggml_permute(nodes.get(), x, 0, 2, 1, 3) : x;
        };
        ggml_tensor * q    = place(GGML_TYPE_F32, c.n_q, c.n_head);
        ggml_tensor * k    = place(c.k_type, c.n_kv, c.n_head_kv);
        ggml_tensor * mask = c.mask == mask_kind::none ? nullptr
            : ggml_new_tensor_2d(inputs.get(), c.mask_type, c.n_kv, c.n_q + 3);
        input_buffer.reset(ggml_backend_alloc_ctx_tensors(inputs.get(), backend.get()));
        stored = score::fill(c, q, k, mask);

        q = view(q);
        k = view(k);
        result = ggml_attn_score(nodes.get(), q, k, mask, scale);
        ggml_build_forward_expand(graph, result);
        for (ggml_tensor * x : { q, k }) {
            if (x->view_src) {
                GGML_ASSERT(ggml_backend_view_init(x) == GGML_STATUS_SUCCESS);
            }
        }

        bytes = ggml_nbytes(result) + illava_metal_score_scratch(result);
        result_buffer.reset(ggml_backend_alloc_buffer(backend.get(), bytes + guard_bytes));
        ggml_backend_tensor_alloc(result_buffer.get(), result, ggml_backend_buffer_get_base(result_buffer.get()));
    }

    // Everything that a kernel may read before one has written it is not a number.
    void run(turn order) {
        memset(result->data, 0xff, bytes + guard_bytes);
        emulation::device()       = {};
        emulation::device().order = order;

        static ggml_metal_fusion_info * fusion = ggml_metal_fusion_info_init(true, 0);
        ggml_metal_op_t op = ggml_metal_op_init(nullptr, nullptr, graph, fusion, 0, ggml_graph_n_nodes(graph),
                /*use_concurrency =*/ true, false, 0);
        for (int i = 0; i < ggml_metal_op_n_nodes(op); ) {
            i += ggml_metal_op_encode(op, i);
        }
        ggml_metal_op_free(op);
    }

    bool guard_intact() const {
        const auto * byte = static_cast<const uint8_t *>(result->data) + bytes;
        return std::all_of(byte, byte + guard_bytes, [](uint8_t b) { return b == 0xff; });
    }
};

void test_score(fixture::checks & t, const score_case & c, bool all_orders) {
    const float scale = 1.0f / std::sqrt(float(c.d));
    metal_node node(c, scale);
    if (!t.expect(illava_metal_score_supported(node.result, true, true), c.name() + ": not taken")) {
        return;
    }

    node.run(turn::ascending);
    const auto & device = emulation::device();
    const auto   scores = fixture::read<float>(node.result);
    const double error  = score::error(scores, score::reference(c, node.stored, scale));
    t.expect(device.error.empty(), c.name() + ": " + device.error);
    t.expect(device.n_dispatches == 3, c.name() + ": dispatches");
    t.expect(node.guard_intact(), c.name() + ": writes behind its memory");
    t.expect(error <= 1e-5, c.name() + ": error " + std::to_string(error));
    if (c.equal_keys) {
        t.expect(score::equal_keys_have_equal_scores(c, scores), c.name() + ": equal keys, different scores");
    }

    if (all_orders) {
        for (turn order : { turn::descending, turn::shuffled }) {
            node.run(order);
            const auto again = fixture::read<float>(node.result);
            t.expect(memcmp(again.data(), scores.data(), scores.size() * sizeof(float)) == 0,
                    c.name() + ": depends on the order of its threads");
        }
    }
}

void test_support(fixture::checks & t) {
    metal_node node({ 4, 5, 64, 2, 2, GGML_TYPE_F16 }, 1.0f);
    t.expect( illava_metal_score_supported(node.result, true, true),  "f16 keys are taken");
    t.expect(!illava_metal_score_supported(node.result, false, true), "no simdgroup matrices, no kernel");
    t.expect(!illava_metal_score_supported(node.result, true, false), "no simdgroup reductions, no kernel");

    metal_node quantised({ 4, 5, 64, 2, 2, GGML_TYPE_Q5_1 }, 1.0f);
    t.expect(!illava_metal_score_supported(quantised.result, true, true), "q5_1 keys are composed");
}

} // namespace

int main() {
    fixture::checks t;

    auto cases = score::all_cases();
    cases.push_back({ 33, 30, 40, 35, 5, GGML_TYPE_F16, mask_kind::causal }); // chunks of three items, the last of one
    for (const score_case & c : cases) {
#if defined(__SANITIZE_ADDRESS__)
        if (c.n_q * c.n_kv * c.n_head > 512 * 1024) {
            continue; // many blocks show a sanitizer nothing that a few do not, in ten times the time
        }
#endif
        // A case of a few blocks each way shows an order as well as a long one.
        test_score(t, c, c.n_q * c.n_kv * c.n_head <= 64 * 1024);
    }
    test_support(t);

    return t.finish();
}
