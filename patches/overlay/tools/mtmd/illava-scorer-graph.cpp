// CLIP and CLIPSeg as graphs. Activations are composed of operations that compute in f32 on every backend: ggml's own
// quick GELU looks its values up in a table of f16.

#include "illava-scorer.h"

#include <cmath>

namespace {

struct builder {
    const illava_scorer & scorer;
    ggml_context        * ctx;
    ggml_cgraph         * graph;

    builder(const illava_scorer & scorer, ggml_context * ctx) :
        scorer(scorer), ctx(ctx), graph(ggml_new_graph_custom(ctx, 8192, false)) {}

    ggml_tensor * input(const char * name, ggml_type type, int64_t ne0, int64_t ne1 = 1, int64_t ne2 = 1) {
        ggml_tensor * tensor = ggml_new_tensor_3d(ctx, type, ne0, ne1, ne2);
        ggml_set_name(tensor, name);
        ggml_set_input(tensor);
        return tensor;
    }

    void output(const char * name, ggml_tensor * tensor) {
        ggml_set_name(tensor, name);
        ggml_set_output(tensor);
        ggml_build_forward_expand(graph, tensor);
    }

    ggml_tensor * product(ggml_tensor * weight, ggml_tensor * x) {
        ggml_tensor * y = ggml_mul_mat(ctx, weight, x);
        ggml_mul_mat_set_prec(y, GGML_PREC_F32);
        return y;
    }

    ggml_tensor * linear(const illava_linear & of, ggml_tensor * x) {
        ggml_tensor * y = product(of.weight, x);
        return of.bias ? ggml_add(ctx, y, of.bias) : y;
    }

    ggml_tensor * norm(const illava_linear & of, ggml_tensor * x, float eps) {
        return ggml_add(ctx, ggml_mul(ctx, ggml_norm(ctx, x, eps), of.weight), of.bias);
    }

    ggml_tensor * activation(illava_activation act, ggml_tensor * x) {
        switch (act) {
            case ILLAVA_QUICK_GELU: return ggml_mul(ctx, x, ggml_sigmoid(ctx, ggml_scale(ctx, x, 1.702f)));
            case ILLAVA_GELU:       return ggml_gelu_erf(ctx, x);
            case ILLAVA_RELU:       return ggml_relu(ctx, x);
        }
        return x;
    }

    // x [n_embd, n, n_images]
    ggml_tensor * attention(const illava_tower & tower, const illava_block & block, ggml_tensor * x, bool causal) {
        const int64_t n_embd = tower.n_embd, n = x->ne[1], n_images = x->ne[2];
        const int64_t n_head = tower.n_head, size = n_embd / n_head;
        const auto heads = [&](const illava_linear & of) {
            return ggml_permute(ctx, ggml_reshape_4d(ctx, linear(of, x), size, n_head, n, n_images), 0, 2, 1, 3);
        };
        ggml_tensor * q  = heads(block.q);
        ggml_tensor * k  = ggml_cont(ctx, heads(block.k));
        ggml_tensor * v  = ggml_cont(ctx, ggml_permute(ctx, heads(block.v), 1, 0, 2, 3)); // [n, size, n_head, n_images]
        ggml_tensor * kq = product(k, q);                                                  // [n, n, n_head, n_images]
        if (causal) {
            kq = ggml_diag_mask_inf(ctx, kq, 0);
        }
        kq = ggml_soft_max_ext(ctx, kq, nullptr, 1.0f / std::sqrt((float) size), 0.0f);
        ggml_tensor * rows = ggml_permute(ctx, product(v, kq), 0, 2, 1, 3); // [size, n_head, n, n_images]
        return linear(block.out, ggml_reshape_3d(ctx, ggml_cont(ctx, rows), n_embd, n, n_images));
    }

    ggml_tensor * mlp(const illava_tower & tower, const illava_block & block, ggml_tensor * x) {
        return linear(block.down, activation(tower.act, linear(block.up, x)));
    }

    // A block of CLIP: norms before attention and MLP.
    ggml_tensor * block(const illava_tower & tower, const illava_block & of, ggml_tensor * x, bool causal) {
        x = ggml_add(ctx, x, attention(tower, of, norm(of.ln1, x, tower.eps), causal));
        return ggml_add(ctx, x, mlp(tower, of, norm(of.ln2, x, tower.eps)));
    }

    // A block of CLIPSeg's decoder: norms behind them.
    ggml_tensor * decoder_block(const illava_tower & tower, const illava_block & of, ggml_tensor * x) {
        x = norm(of.ln1, ggml_add(ctx, x, attention(tower, of, x, false)), tower.eps);
        return norm(of.ln2, ggml_add(ctx, x, mlp(tower, of, x)), tower.eps);
    }

    void text(int32_t n_tokens) {
        ggml_tensor * tokens = input("tokens", GGML_TYPE_I32, n_tokens);
        ggml_tensor * pooled = input("pooled", GGML_TYPE_I32, 1);
        ggml_tensor * positions = ggml_view_2d(ctx, scorer.text_positions, scorer.text.n_embd, n_tokens,
            scorer.text_positions->nb[1], 0);
        ggml_tensor * x = ggml_add(ctx, ggml_get_rows(ctx, scorer.token_embd, tokens), positions);
        for (const auto & of : scorer.text.blocks) {
            x = block(scorer.text, of, x, true);
        }
        x = norm(scorer.text_norm, ggml_get_rows(ctx, x, pooled), scorer.text.eps);
        output("features", product(scorer.text_projection, x));
    }

    void images(int32_t n_images, illava_scorer_outputs outputs) {
        const illava_tower & tower = scorer.vision;
        const int64_t n_embd = tower.n_embd, n_patches = scorer.n_patches();
        ggml_tensor * pixels = input("pixels", GGML_TYPE_F32, scorer.patch_embd->ne[0], n_patches, n_images);
        ggml_tensor * head   = ggml_repeat_4d(ctx, scorer.class_embd, n_embd, 1, n_images, 1);
        ggml_tensor * x      = ggml_concat(ctx, head, product(scorer.patch_embd, pixels), 1);
        x = norm(scorer.pre_norm, ggml_add(ctx, x, scorer.positions), tower.eps);

        std::vector<ggml_tensor *> rows; // behind each block
        for (const auto & of : tower.blocks) {
            x = block(tower, of, x, false);
            rows.push_back(x);
        }
        ggml_tensor * of_class = ggml_cont(ctx, ggml_view_2d(ctx, x, n_embd, n_images, x->nb[2], 0));
        output("features", product(scorer.vision_projection, norm(scorer.post_norm, of_class, tower.eps)));
        if (outputs.patches) {
            // as Free Video-LLM takes them: without the last norm
            output("patches", product(scorer.vision_projection, without_class(x)));
        }
        if (outputs.map) {
            map(rows);
        }
    }

    ggml_tensor * without_class(ggml_tensor * x) {
        return ggml_cont(ctx, ggml_view_3d(ctx, x, x->ne[0], x->ne[1] - 1, x->ne[2], x->nb[1], x->nb[2], x->nb[1]));
    }

    void map(const std::vector<ggml_tensor *> & rows) {
        const illava_tower & tower = scorer.decoder;
        ggml_tensor * text = input("text", GGML_TYPE_F32, scorer.n_projection);
        ggml_tensor * x = nullptr;
        for (int32_t i = 0; i < tower.n_layer; i++) {
            ggml_tensor * reduced = linear(scorer.reduce[i], rows[scorer.taken[i]]);
            x = x ? ggml_add(ctx, reduced, x) : reduced;
            if (i == scorer.conditional) {
                x = ggml_add(ctx, ggml_mul(ctx, x, linear(scorer.film_mul, text)), linear(scorer.film_add, text));
            }
            x = decoder_block(tower, tower.blocks[i], x);
        }
        x = without_class(x); // [n_embd, n_patches, n_images]
        const int64_t n_images = x->ne[2], n_patches = x->ne[1], side = scorer.side();
        if (scorer.conv.weight) {
            ggml_tensor * grid = ggml_cont(ctx, ggml_permute(ctx, x, 1, 0, 2, 3)); // [n_patches, n_embd, n_images]
            grid = ggml_reshape_4d(ctx, grid, side, side, tower.n_embd, n_images);
            // ggml_conv_2d() would round its input to f16
            grid = ggml_im2col(ctx, scorer.conv.weight, grid, 1, 1, 1, 1, 1, 1, true, GGML_TYPE_F32);
            grid = ggml_reshape_3d(ctx, grid, grid->ne[0], n_patches, n_images);
            x = product(ggml_reshape_2d(ctx, scorer.conv.weight, grid->ne[0], tower.n_embd), grid);
            x = ggml_relu(ctx, ggml_add(ctx, x, scorer.conv.bias));
        }
        // A transposed convolution whose stride is its kernel gives every cell a square of its own: a product.
        int64_t squares = 1;
        if (scorer.up0.weight) {
            squares = (int64_t) scorer.up0_side * scorer.up0_side;
            x = product(scorer.up0.weight, x); // [n_out * squares, n_patches, n_images], n_out innermost
            x = ggml_reshape_4d(ctx, x, x->ne[0] / squares, squares, n_patches, n_images);
            x = ggml_relu(ctx, ggml_add(ctx, x, scorer.up0.bias));
        } else {
            x = ggml_reshape_4d(ctx, x, tower.n_embd, 1, n_patches, n_images);
        }
        output("map", ggml_add(ctx, product(scorer.up1.weight, x), scorer.up1.bias));
    }
};

} // namespace

ggml_cgraph * illava_scorer_text_graph(const illava_scorer & scorer, ggml_context * ctx, int32_t n_tokens) {
    builder of(scorer, ctx);
    of.text(n_tokens);
    return of.graph;
}

ggml_cgraph * illava_scorer_image_graph(
        const illava_scorer & scorer, ggml_context * ctx, int32_t n_images, illava_scorer_outputs outputs) {
    builder of(scorer, ctx);
    of.images(n_images, outputs);
    return of.graph;
}
