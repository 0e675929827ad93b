// The encoder from its file: loading, what it is, what it can do.

#include "illava-vision.h"

#include "../../src/illava-status.h"
#include "illava-log.h"
#include "illava-projector-file.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>

static uint64_t next_number() {
    static std::atomic<uint64_t> last = 0;
    return ++last;
}

illava_vision::illava_vision() : number(next_number()) {
}

bool illava_vision::is_qwen() const {
    return !mtmd && (model().proj_type == PROJECTOR_TYPE_QWEN2VL || model().proj_type == PROJECTOR_TYPE_QWEN25VL);
}

int32_t illava_vision::n_layer_run() const {
    if (!hparams().has_llava_projector) {
        return hparams().n_layer;
    }
    const auto & features = hparams().feature_layers;
    return features.empty() ? hparams().n_layer - 1 : *std::max_element(features.begin(), features.end());
}

int32_t illava_vision::first_layer() const {
    // before the first layer with attention over the whole picture no patch knows more than its window
    return hparams().n_wa_pattern > 0 ? hparams().n_wa_pattern - 1 : 0;
}

bool illava_vision::merges_in_library() const {
    switch (mtmd ? model().proj_type : PROJECTOR_TYPE_UNKNOWN) {
        case PROJECTOR_TYPE_GEMMA3:
        case PROJECTOR_TYPE_INTERNVL:
        case PROJECTOR_TYPE_IDEFICS3:
        case PROJECTOR_TYPE_PIXTRAL:
        case PROJECTOR_TYPE_QWEN3VL:
            return true;
        default:
            return false;
    }
}

bool illava_vision::has_rotary_keys() const {
    switch (model().proj_type) {
        case PROJECTOR_TYPE_PIXTRAL:
        case PROJECTOR_TYPE_QWEN3VL:
            return true;
        default:
            return is_qwen();
    }
}

bool illava_vision::has_line_breaks() const {
    return merges_in_library() && model().token_embd_img_break != nullptr;
}

int32_t illava_vision::pool_side() const {
    return merges_in_library() && model().proj_type == PROJECTOR_TYPE_GEMMA3 ? hparams().n_merge : 0;
}

int32_t illava_vision::raster_side() const {
    return merges_in_library() && pool_side() == 0 && model().proj_type != PROJECTOR_TYPE_QWEN3VL ? hparams().n_merge : 0;
}

int32_t illava_vision::group() const {
    return is_qwen() || (merges_in_library() && pool_side() == 0) ? hparams().n_merge * hparams().n_merge : 1;
}

bool illava_vision::takes_smaller() const {
    return !mtmd && (model().proj_type == PROJECTOR_TYPE_MLP || model().proj_type == PROJECTOR_TYPE_MLP_NORM);
}

const char * illava_vision::why_no_merge() const {
    if (mtmd) {
        return merges_in_library() ? nullptr : "llama.cpp runs it as it is";
    }
    if (hparams().feature_layers.size() > 1) {
        return "its projector stacks the features of several layers, which must have the same tokens";
    }
    return nullptr;
}

static clip_flash_attn_type flash_attn_type(int32_t value) {
    switch (value) {
        case -1: return CLIP_FLASH_ATTN_TYPE_AUTO;
        case  0: return CLIP_FLASH_ATTN_TYPE_DISABLED;
        case  1: return CLIP_FLASH_ATTN_TYPE_ENABLED;
        default: illava_fail(ILLAVA_BAD_ARG, "flash_attn = %d: -1, 0 or 1", value);
    }
}

static std::unique_ptr<mtmd_image_preprocessor> make_preprocessor(const illava_vision & vision) {
    // as mtmd_context chooses it
    if (vision.is_qwen()) {
        return std::make_unique<mtmd_image_preprocessor_dyn_size>(vision.clip.get());
    }
    if (!vision.hparams().image_res_candidates.empty()) {
        return std::make_unique<mtmd_image_preprocessor_llava_uhd>(vision.clip.get());
    }
    return std::make_unique<mtmd_image_preprocessor_fixed_size>(vision.clip.get());
}

illava_vision_params illava_vision_default_params(void) {
    illava_vision_params params = {};
    params.size       = sizeof(params);
    params.use_gpu    = true;
    params.flash_attn = -1;
    params.n_threads  = GGML_DEFAULT_N_THREADS;
    return params;
}

// Callback of clip's loader, and whether it has asked the loader to stop: the loader does not heed every
// answer.
struct load_progress {
    const illava_vision_params & params;
    bool stopped = false;

    static bool report(float share, void * self) {
        auto * load = static_cast<load_progress *>(self);
        load->stopped = load->stopped || !load->params.progress(share, load->params.progress_data);
        return !load->stopped;
    }
};

illava_status illava_vision_load(const char * path, const illava_vision_params * given, illava_vision ** out) {
    return illava_guard([&] {
        illava_require(out, "out");
        *out = nullptr;
        illava_require(path, "path");
        const auto params = illava_given("illava_vision_params", given, illava_vision_default_params());
        const clip_flash_attn_type flash_attn = flash_attn_type(params.flash_attn);

        illava_log_install();
        const illava_abort_trap trap;

        auto vision = std::make_unique<illava_vision>();
        const auto file = illava_check_projector_file(path, params.image_min_tokens, params.image_max_tokens);
        vision->path      = path;
        vision->projector = file.projector;

        if (file.by_library) {
            load_progress load = { params };
            auto watched = params;
            if (params.progress) {
                watched.progress      = load_progress::report;
                watched.progress_data = &load;
            }
            try {
                illava_mtmd_load(*vision, path, watched, flash_attn);
            } catch (const illava_error &) {
                if (load.stopped) {
                    illava_fail(ILLAVA_ABORTED, "interrupted");
                }
                throw;
            }
            if (load.stopped) {
                illava_fail(ILLAVA_ABORTED, "interrupted");
            }
            vision->parts = illava_clip_get_parts(vision->clip.get());
            *out = vision.release();
            return;
        }

        clip_context_params clip_params = {};
        clip_params.use_gpu          = params.use_gpu;
        clip_params.flash_attn_type  = flash_attn;
        clip_params.image_min_tokens = params.image_min_tokens;
        clip_params.image_max_tokens = params.image_max_tokens;
        clip_params.repack           = params.repack;
        clip_params.warmup           = true; // reserves the buffers, and walks the whole graph once under the trap

        load_progress load = { params };
        if (params.progress) {
            clip_params.progress_callback           = load_progress::report;
            clip_params.progress_callback_user_data = &load;
        }
        vision->clip.reset(clip_init(path, clip_params).ctx_v);
        if (load.stopped) {
            illava_fail(ILLAVA_ABORTED, "interrupted");
        }
        if (!vision->clip) {
            const std::string & line = illava_log_last_error();
            illava_fail(ILLAVA_BAD_FILE, "%s: %s", path, line.empty() ? "cannot be loaded" : line.c_str());
        }
        vision->parts        = illava_clip_get_parts(vision->clip.get());
        vision->preprocessor = make_preprocessor(*vision);

        *out = vision.release();
    });
}

void illava_vision_free(illava_vision * vision) {
    delete vision;
}

illava_status illava_vision_describe(const illava_vision * vision, illava_vision_info * out) {
    return illava_guard([&] {
        illava_require(vision, "vision");

        illava_vision_info info = {};
        const clip_hparams & hparams = vision->hparams();
        const bool dynamic = hparams.image_max_pixels > 0;
        const int  align   = std::max(1, hparams.patch_size * hparams.n_merge);

        snprintf(info.projector, sizeof(info.projector), "%s", vision->projector.c_str());
        snprintf(info.backend,   sizeof(info.backend),   "%s", ggml_backend_name(vision->parts.backend));

        info.n_layer      = hparams.n_layer;
        info.n_layer_run  = vision->n_layer_run();
        info.n_embd       = hparams.n_embd;
        info.n_head       = hparams.n_head;
        info.image_size   = dynamic ? (int32_t) std::sqrt((double) hparams.image_max_pixels) / align * align : hparams.image_size;
        info.patch_size   = hparams.patch_size;
        info.n_embd_out   = clip_n_mmproj_embd(vision->clip.get());
        info.group        = vision->group();
        info.class_token  = vision->model().class_embedding != nullptr;
        info.dynamic_size = dynamic || !hparams.image_res_candidates.empty();
        info.can_merge    = vision->why_no_merge() == nullptr;
        info.mrope        = vision->is_qwen();
        info.weight_bytes = vision->parts.weight_bytes;
        info.repacked_bytes = vision->parts.repacked_bytes;
        info.takes_smaller  = vision->takes_smaller();
        info.by_library     = vision->mtmd != nullptr;
        info.pooled         = std::max(1, vision->pool_side() * vision->pool_side());
        info.first_layer    = vision->first_layer();
        illava_give("illava_vision_info", out, info);
    });
}

illava_status illava_vision_free_buffers(illava_vision * vision) {
    return illava_guard([&] {
        illava_require(vision, "vision");
        const std::lock_guard<std::mutex> lock(vision->encoding);
        illava_clip_free_buffers(vision->clip.get());
        vision->parts = illava_clip_get_parts(vision->clip.get());
    });
}

uint64_t illava_vision_compute_bytes(const illava_vision * vision) {
    if (!vision) {
        return 0;
    }
    uint64_t bytes = 0;
    for (ggml_backend_t backend : vision->parts.backends) {
        bytes += ggml_backend_sched_get_buffer_size(vision->parts.sched, backend);
    }
    return bytes;
}
