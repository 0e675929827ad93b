#include "illava-patches.h"

static bool in_f32(projector_type type) {
    switch (type) {
        case PROJECTOR_TYPE_GEMMA3:
        case PROJECTOR_TYPE_IDEFICS3:
        case PROJECTOR_TYPE_INTERNVL:
        case PROJECTOR_TYPE_PIXTRAL:
        case PROJECTOR_TYPE_QWEN3VL:
            return true;
        default:
            return false; // llama.cpp's results to the last bit are promised
    }
}

ggml_tensor * illava_build_patches(ggml_context * ctx, projector_type type, ggml_tensor * kernel, ggml_tensor * pixels, int patch_size) {
    if (kernel->type != GGML_TYPE_F32 || !in_f32(type)) {
        return ggml_conv_2d(ctx, kernel, pixels, patch_size, patch_size, 0, 0, 1, 1);
    }
    // [values of a patch, across, down, batch] by [values of a patch, width]
    ggml_tensor * columns = ggml_im2col(ctx, kernel, pixels, patch_size, patch_size, 0, 0, 1, 1, true, GGML_TYPE_F32);
    const int64_t across = columns->ne[1], down = columns->ne[2], batch = columns->ne[3];
    ggml_tensor * out = ggml_mul_mat(ctx,
        ggml_reshape_2d(ctx, columns, columns->ne[0], across * down * batch),
        ggml_reshape_2d(ctx, kernel, kernel->ne[0] * kernel->ne[1] * kernel->ne[2], kernel->ne[3]));
    out = ggml_reshape_4d(ctx, out, across, down, batch, kernel->ne[3]);
    return ggml_cont(ctx, ggml_permute(ctx, out, 0, 1, 3, 2));
}
