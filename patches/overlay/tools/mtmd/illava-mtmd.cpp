#include "illava-mtmd.h"

#include "../../src/illava-status.h"
#include "illava-log.h"
#include "illava-vision.h"
#include "llama.h"

#include <algorithm>

const char * illava_mtmd_why_not(projector_type type) {
    switch (type) {
        case PROJECTOR_TYPE_HUNYUANVL:  return "its positions count the pictures of the whole prompt";
        case PROJECTOR_TYPE_DEEPSEEK4V: return "its padding follows from the tokens before the picture";
        case PROJECTOR_TYPE_UNKNOWN:    return "this version of llama.cpp does not know it";
        default:                        return nullptr;
    }
}

static llama_flash_attn_type text_flash_attn(clip_flash_attn_type type) {
    switch (type) {
        case CLIP_FLASH_ATTN_TYPE_DISABLED: return LLAMA_FLASH_ATTN_TYPE_DISABLED;
        case CLIP_FLASH_ATTN_TYPE_ENABLED:  return LLAMA_FLASH_ATTN_TYPE_ENABLED;
        default:                            return LLAMA_FLASH_ATTN_TYPE_AUTO;
    }
}

void illava_mtmd_load(illava_vision & vision, const char * path, const illava_vision_params & params, clip_flash_attn_type flash_attn) {
    mtmd_context_params upstream = mtmd_context_params_default();
    upstream.use_gpu          = params.use_gpu;
    upstream.print_timings    = false;
    upstream.n_threads        = params.n_threads;
    upstream.flash_attn_type  = text_flash_attn(flash_attn);
    upstream.image_min_tokens = params.image_min_tokens;
    upstream.image_max_tokens = params.image_max_tokens;
    upstream.progress_callback           = params.progress;
    upstream.progress_callback_user_data = params.progress_data;

    // the text model comes later: illava_vision_set_text()
    vision.mtmd.reset(mtmd_init_from_file(path, nullptr, upstream));
    if (!vision.mtmd || !illava_mtmd_clip(vision.mtmd.get())) {
        const std::string & line = illava_log_first_error();
        illava_fail(ILLAVA_BAD_FILE, "%s: %s", path, line.empty() ? "cannot be loaded" : line.c_str());
    }
    vision.clip = { illava_mtmd_clip(vision.mtmd.get()), clip_ctx_deleter { true } };
}

illava_status illava_vision_set_text(illava_vision * vision, const llama_model * text) {
    return illava_guard([&] {
        illava_require(vision, "vision");
        illava_require(text, "text");
        if (!vision->mtmd) {
            return;
        }
        const int n_embd = clip_n_mmproj_embd(vision->clip.get());
        if (n_embd != llama_model_n_embd_inp(text)) {
            illava_fail(ILLAVA_BAD_ARG, "the projector (%s) gives rows of %d values, the text model takes %d",
                vision->projector.c_str(), n_embd, llama_model_n_embd_inp(text));
        }
        illava_mtmd_set_text(vision->mtmd.get(), text);
        vision->has_text = true;
    });
}

// A picture's chunks, by what cuts pictures at present.
static std::unique_ptr<illava_image> tokenize(const illava_vision & vision, const uint8_t * rgb, uint32_t nx, uint32_t ny) {
    if (!vision.has_text) {
        illava_fail(ILLAVA_BAD_ARG, "the projector (%s) needs its text model first: illava_vision_set_text()", vision.projector.c_str());
    }
    const illava_abort_trap trap;

    const std::string marker = mtmd_get_marker(vision.mtmd.get());
    const mtmd_input_text text = { marker.c_str(), marker.size(), /*add_special =*/ false, /*parse_special =*/ true };
    const std::unique_ptr<mtmd_bitmap, decltype(&mtmd_bitmap_free)> bitmap(mtmd_bitmap_init(nx, ny, rgb), mtmd_bitmap_free);
    const mtmd_bitmap * pictures[] = { bitmap.get() };

    auto image = std::make_unique<illava_image>();
    image->chunks.reset(mtmd_input_chunks_init());
    image->cut_by = vision.number;
    if (mtmd_tokenize(vision.mtmd.get(), image->chunks.get(), &text, pictures, 1) != 0) {
        const std::string & line = illava_log_first_error();
        illava_fail(ILLAVA_BAD_ARG, "an image of %u x %u pixels cannot be cut: %s", nx, ny, line.empty() ? "no reason given" : line.c_str());
    }
    for (size_t i = 0; i < mtmd_input_chunks_size(image->chunks.get()); i++) {
        const mtmd_input_chunk * chunk = mtmd_input_chunks_get(image->chunks.get(), i);
        if (mtmd_input_chunk_get_type(chunk) != MTMD_INPUT_CHUNK_TYPE_IMAGE) {
            size_t n_marks = 0;
            const llama_token * marks = mtmd_input_chunk_get_tokens_text(chunk, &n_marks);
            if (std::any_of(marks, marks + n_marks, [](llama_token mark) { return mark < 0; })) {
                illava_fail(ILLAVA_UNSUPPORTED, "the text model's vocabulary lacks a token that this projector (%s) marks pictures with: "
                    "they are not a pair", vision.projector.c_str());
            }
            continue;
        }
        const clip_image_f32 & first = illava_mtmd_batch(chunk).entries.at(0);
        clip_image_f32 shape;
        shape.set_size({ first.nx(), first.ny() }, /*is_placeholder =*/ true, false);
        image->tiles.push_back(std::move(shape));
        image->tile_chunks.push_back(chunk);
    }
    return image;
}

std::unique_ptr<illava_image> illava_mtmd_cut(const illava_vision & vision, const uint8_t * rgb, uint32_t nx, uint32_t ny) {
    const std::lock_guard<std::mutex> lock(vision.cutting);
    return tokenize(vision, rgb, nx, ny);
}

// Views that were cut already, whatever picture comes.
struct cut_views : mtmd_image_preprocessor {
    std::vector<clip_image_u8> views;
    int grid_x, grid_y;

    cut_views(const illava_vision & vision, const std::vector<illava_view> & given, uint32_t grid_x, uint32_t grid_y) :
            mtmd_image_preprocessor(vision.clip.get()), grid_x((int) grid_x), grid_y((int) grid_y) {
        for (const auto & view : given) {
            clip_image_u8 & pixels = views.emplace_back();
            pixels.set_size({ (int) view.nx, (int) view.ny }, false);
            pixels.cpy_buf(std::vector<uint8_t>(view.rgb, view.rgb + (size_t) view.nx * view.ny * 3));
        }
    }

    mtmd_image_preproc_out preprocess(const clip_image_u8 &) const override {
        mtmd_image_preproc_out out;
        const bool tiled = grid_x > 0;
        for (size_t i = 0; i + (tiled ? 1 : 0) < views.size(); i++) {
            out.append(hparams, views[i]);
        }
        if (tiled) {
            out.append_overview(hparams, views.back());
            out.grid_x = grid_x;
            out.grid_y = grid_y;
        }
        return out;
    }
};

// Sizes that the graphs of these projectors take.
static void check_view(const illava_vision & vision, uint32_t nx, uint32_t ny) {
    constexpr uint32_t max_side    = 1 << 15;
    constexpr uint64_t max_patches = 1 << 16;
    const clip_hparams & hparams = vision.hparams();
    const uint32_t side = hparams.image_size, patch = hparams.patch_size, align = patch * (uint32_t) std::max(hparams.n_merge, 1);
    switch (vision.model().proj_type) {
        case PROJECTOR_TYPE_GEMMA3:
        case PROJECTOR_TYPE_INTERNVL:
            if (nx != side || ny != side) {
                illava_fail(ILLAVA_BAD_ARG, "a view of %u x %u pixels: this encoder takes %u x %u", nx, ny, side, side);
            }
            return;
        case PROJECTOR_TYPE_PIXTRAL:
        case PROJECTOR_TYPE_QWEN3VL:
            if (nx < align || ny < align || nx > max_side || ny > max_side || nx % align != 0 || ny % align != 0) {
                illava_fail(ILLAVA_BAD_ARG, "a view of %u x %u pixels: both sides must be multiples of %u up to %u", nx, ny, align, max_side);
            }
            if ((uint64_t) (nx / patch) * (ny / patch) > max_patches) {
                illava_fail(ILLAVA_BAD_ARG, "a view of %u x %u pixels has more than %llu patches: make it smaller", nx, ny,
                    (unsigned long long) max_patches);
            }
            return;
        default:
            illava_fail(ILLAVA_UNSUPPORTED, "llama.cpp cuts the pictures of this projector (%s): give the whole picture", vision.projector.c_str());
    }
}

std::unique_ptr<illava_image> illava_mtmd_mark(
        const illava_vision & vision, const std::vector<illava_view> & views, uint32_t grid_x, uint32_t grid_y) {
    for (const auto & view : views) {
        illava_require(view.rgb, "view");
        check_view(vision, view.nx, view.ny);
    }
    const bool tiled = grid_x > 0 || grid_y > 0;
    if (tiled && (vision.model().proj_type != PROJECTOR_TYPE_INTERNVL || (uint64_t) grid_x * grid_y + 1 != views.size())) {
        illava_fail(ILLAVA_BAD_ARG, "%zu views are no grid of %u x %u tiles and the whole of this projector (%s)", views.size(),
            grid_x, grid_y, vision.projector.c_str());
    }
    const bool pair = views.size() == 2 && clip_model_n_temporal_merge(vision.clip.get()) == 2 &&
        views[0].nx == views[1].nx && views[0].ny == views[1].ny;
    if (!tiled && views.size() != 1 && !pair) {
        illava_fail(ILLAVA_BAD_ARG, "%zu views without a grid: one, or two frames of one size for an encoder that takes them in pairs",
            views.size());
    }
    const std::lock_guard<std::mutex> lock(vision.cutting);
    std::unique_ptr<mtmd_image_preprocessor> cut = std::make_unique<cut_views>(vision, views, grid_x, grid_y);
    struct exchanged {
        mtmd_context * ctx;
        std::unique_ptr<mtmd_image_preprocessor> & other;
        exchanged(mtmd_context * ctx, std::unique_ptr<mtmd_image_preprocessor> & other) : ctx(ctx), other(other) {
            illava_mtmd_swap_preprocessor(ctx, other);
        }
        ~exchanged() { illava_mtmd_swap_preprocessor(ctx, other); }
    } scope(vision.mtmd.get(), cut);
    return tokenize(vision, views[0].rgb, views[0].nx, views[0].ny);
}

const clip_image_f32_batch & illava_mtmd_inputs(const illava_image & image, size_t tile) {
    return illava_mtmd_batch(image.tile_chunks.at(tile));
}

size_t illava_image_n_parts(const illava_image * image) {
    return image && image->chunks ? mtmd_input_chunks_size(image->chunks.get()) : 0;
}

static const mtmd_input_chunk * part_at(const illava_image * image, size_t i) {
    illava_require(image, "image");
    if (i >= illava_image_n_parts(image)) {
        illava_fail(ILLAVA_BAD_ARG, "part %zu: the image has %zu", i, illava_image_n_parts(image));
    }
    return mtmd_input_chunks_get(image->chunks.get(), i);
}

illava_status illava_image_part(const illava_vision * vision, const illava_image * image, size_t i, illava_part * out) {
    return illava_guard([&] {
        illava_require(vision, "vision");
        illava_require(out, "out");
        const mtmd_input_chunk * chunk = part_at(image, i);
        illava_require_own(*vision, *image);
        illava_part part = {};
        size_t n_tokens = 0;
        part.tokens   = mtmd_input_chunk_get_tokens_text(chunk, &n_tokens);
        part.n_rows   = (uint32_t) mtmd_input_chunk_get_n_tokens(chunk);
        part.n_pos    = mtmd_input_chunk_get_n_pos(chunk);
        part.two_ways = !part.tokens && mtmd_decode_use_non_causal(vision->mtmd.get(), chunk);
        illava_give("illava_part", out, part);
    });
}

illava_status illava_image_part_positions(const illava_image * image, size_t i, int32_t * out) {
    return illava_guard([&] {
        illava_require(out, "out");
        const mtmd_input_chunk  * chunk  = part_at(image, i);
        const mtmd_image_tokens * tokens = mtmd_input_chunk_get_tokens_image(chunk);
        const size_t n = mtmd_input_chunk_get_n_tokens(chunk);
        for (size_t j = 0; j < n; j++) {
            mtmd_decoder_pos here = { (uint32_t) j, (uint32_t) j, (uint32_t) j, (uint32_t) j };
            mtmd_decoder_pos next = { (uint32_t) j + 1, (uint32_t) j + 1, (uint32_t) j + 1, (uint32_t) j + 1 };
            if (tokens) {
                here = mtmd_image_tokens_get_decoder_pos(tokens, 0, j);
                next = mtmd_image_tokens_get_decoder_pos(tokens, 1, j);
            }
            // rope reads them as time, height, width and the fourth
            const uint32_t from[] = { here.t, here.y, here.x, here.z };
            const uint32_t to[]   = { next.t, next.y, next.x, next.z };
            for (int axis = 0; axis < 4; axis++) {
                out[4 * j + axis] = to[axis] == from[axis] ? -1 : (int32_t) from[axis];
            }
        }
    });
}
