#include "illava-fusion.h"

#include "illava-gelu.h"
#include "illava-norm.h"
#include "illava-product-chain.h"

#include "ggml-backend-impl.h"
#include "ggml-impl.h"

#include <algorithm>
#include <cstdint>

using namespace illava;

namespace {

constexpr int max_chains = 4;

// Bytes of memory that a node reads or writes.
struct range {
    uintptr_t begin, end;

    explicit range(const ggml_tensor * t) : begin((uintptr_t) t->data), end(begin + ggml_nbytes(t)) {}
    range(const void * data, const ggml_tensor * like) : begin((uintptr_t) data), end(begin + ggml_nbytes(like)) {}
    bool apart(const range & other) const { return end <= other.begin || other.end <= begin; }
    bool same(const range & other) const { return begin == other.begin && end == other.end; }
};

bool is_f32_matrix(const ggml_tensor * t) {
    return t->type == GGML_TYPE_F32 && ggml_is_contiguous(t);
}

// A product with its epilogue, and the number of the last node in it.
struct found {
    product::chain      chain;
    const ggml_tensor * result; // of the last node
    int                 last;
};

// Whether node `i` + 1 takes node `i`, elementwise, and nothing else does.
bool only_feeds_next(const ggml_cgraph * graph, int i) {
    if (i + 1 >= graph->n_nodes || !ggml_node_has_n_uses(graph, i, 1)) {
        return false;
    }
    const ggml_tensor * node = graph->nodes[i], * next = graph->nodes[i + 1];
    return (next->flags & GGML_TENSOR_FLAG_COMPUTE) && (next->src[0] == node || next->src[1] == node) && next->src[0] != next->src[1]
        && ggml_are_same_shape(next, node) && is_f32_matrix(next);
}

found chain_at(const ggml_cgraph * graph, int node) {
    const ggml_tensor * product = graph->nodes[node];
    found f = { { product, {} }, product, node };
    product::epilogue & after = f.chain.after;
    const range sums(product);
    const auto follow = [&](const ggml_tensor * next) {
        f.result  = next;
        after.out = (float *) next->data;
        f.last++;
    };
    while (only_feeds_next(graph, f.last)) {
        const ggml_tensor * last = graph->nodes[f.last], * next = graph->nodes[f.last + 1];
        const range out(next);
        // An element is written after it was summed, and the sums of others must not be met.
        if (!out.same(sums) && !out.apart(sums)) {
            break;
        }
        if (next->op == GGML_OP_ADD) {
            const ggml_tensor * other = next->src[0] == last ? next->src[1] : next->src[0];
            const bool open = !after.residual && after.function == activation::kind::none;
            if (open && !after.bias && other->op == GGML_OP_NONE && is_f32_matrix(other) && ggml_nrows(other) == 1 && other->ne[0] == product->ne[0]) {
                after.bias = (const float *) other->data;
                follow(next);
                continue;
            }
            const range residual(other);
            if (!after.residual && is_f32_matrix(other) && ggml_are_same_shape(other, next) && (residual.same(out) || residual.apart(out))
                && residual.apart(sums)) {
                after.residual = (const float *) other->data;
                follow(next);
            }
            break;
        }
        const auto function = gelu::form(next);
        if (function == activation::kind::none || after.function != activation::kind::none) {
            break;
        }
        after.function = function;
        follow(next);
    }
    return f;
}

// Whether `b` can be computed while `a` is: neither writes what the other reads or writes.
bool independent(const found & a, const found & b) {
    const range written[2][2] = { { range(a.chain.product), range(a.result) }, { range(b.chain.product), range(b.result) } };
    const found * both[2] = { &a, &b };
    for (int i = 0; i < 2; i++) {
        for (const range & mine : written[i]) {
            for (const range & other : written[1 - i]) {
                if (!mine.apart(other)) {
                    return false;
                }
            }
            const float * residual = both[1 - i]->chain.after.residual;
            if (residual && !mine.apart({ residual, both[1 - i]->result })) {
                return false;
            }
        }
    }
    return true;
}

// Whether the rows of products are still there when the chain's results are written.
bool spares_rows(const found & f) {
    const range rows(f.chain.product->src[1]);
    return rows.apart(range(f.result)) && rows.apart(range(f.chain.product));
}

bool same_kind(const ggml_tensor * a, const ggml_tensor * b) {
    const ggml_tensor * v = a->src[0], * w = b->src[0];
    const auto layout = [](const ggml_tensor * t) { return t->buffer ? t->buffer->buft : nullptr; };
    return a->src[1] == b->src[1] && v->type == w->type && v->ne[0] == w->ne[0] && layout(v) == layout(w);
}

int fuse_products(const ggml_cgraph * graph, int node, const ggml_compute_params * params) {
    if (!product::has_epilogue() || !product::computes(graph->nodes[node])) {
        return 0;
    }
    found chains[max_chains] = { chain_at(graph, node) };
    if (!spares_rows(chains[0])) {
        return 0;
    }
    int n = 1, next = chains[0].last + 1;
    while (n < max_chains) {
        while (next < graph->n_nodes && ggml_op_is_empty(graph->nodes[next]->op)) {
            next++;
        }
        if (next >= graph->n_nodes || !(graph->nodes[next]->flags & GGML_TENSOR_FLAG_COMPUTE) || !product::computes(graph->nodes[next])
            || !same_kind(chains[0].chain.product, graph->nodes[next])) {
            break;
        }
        const found f = chain_at(graph, next);
        if (!spares_rows(f) || !std::all_of(chains, chains + n, [&](const found & before) { return independent(before, f); })) {
            break;
        }
        chains[n++] = f;
        next = f.last + 1;
    }
    const int last = chains[n - 1].last;
    if (last == node) {
        return 0;
    }
    product::chain all[max_chains];
    std::transform(chains, chains + n, all, [](const found & f) { return f.chain; });
    return product::run(params, all, n) ? last - node : 0;
}

int fuse_norm(const ggml_cgraph * graph, int node, const ggml_compute_params * params) {
    const ggml_op ops[] = { GGML_OP_NORM, GGML_OP_MUL, GGML_OP_ADD };
    if (!ggml_can_fuse(graph, node, ops, 3)) {
        return 0;
    }
    ggml_tensor * const * nodes = graph->nodes + node;
    const range in(nodes[0]->src[0]), out(nodes[2]);
    if (!norm::takes(nodes[0], nodes[1], nodes[2]) || (!in.same(out) && !in.apart(out))) {
        return 0;
    }
    norm::compute(params, nodes[0], nodes[1], nodes[2]);
    return 2;
}

} // namespace

int illava_fuse(const ggml_cgraph * graph, int node, const ggml_compute_params * params) {
    if (!product::is_on()) {
        return 0;
    }
    switch (graph->nodes[node]->op) {
        case GGML_OP_MUL_MAT: return fuse_products(graph, node, params);
        case GGML_OP_NORM:    return fuse_norm(graph, node, params);
        default:              return 0;
    }
}
