#include "illava-positions.h"

#include <cmath>

ggml_tensor * illava_position_table(
        ggml_context * ctx, ggml_tensor * table, int64_t n_x, int64_t n_y, bool class_token, bool class_first) {
    const int64_t n_embd  = table->ne[0];
    const int64_t n_class = class_token ? 1 : 0;
    const int64_t n_grid  = table->ne[1] - n_class;
    const int64_t side    = std::llround(std::sqrt((double) n_grid));
    if (n_x * n_y == n_grid || side * side != n_grid) {
        return table;
    }
    table = ggml_cast(ctx, table, GGML_TYPE_F32);
    const int64_t first = class_first ? n_class : 0;

    ggml_tensor * grid = ggml_view_3d(ctx, table, n_embd, side, side, table->nb[1], table->nb[1] * side, table->nb[1] * first);
    grid = ggml_cont(ctx, ggml_permute(ctx, grid, 2, 0, 1, 3)); // [side, side, n_embd]
    grid = ggml_interpolate(ctx, grid, n_x, n_y, n_embd, 1, GGML_SCALE_MODE_BICUBIC);
    grid = ggml_cont_2d(ctx, ggml_permute(ctx, grid, 1, 2, 0, 3), n_embd, n_x * n_y);
    if (!class_token) {
        return grid;
    }
    ggml_tensor * token = ggml_view_2d(ctx, table, n_embd, 1, table->nb[1], class_first ? 0 : table->nb[1] * n_grid);
    return class_first ? ggml_concat(ctx, token, grid, 1) : ggml_concat(ctx, grid, token, 1);
}
