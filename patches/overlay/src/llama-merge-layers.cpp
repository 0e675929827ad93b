#include "llama-merge-layers.h"

#include "illava-status.h"
#include "llama-cparams.h"
#include "llama-model.h"

#include <algorithm>

void llama_set_merge_layers(llama_cparams & cparams, const llama_context_params & params, const llama_model & model) {
    if (params.n_merge_layers == 0 && !params.kv_segments) {
        return;
    }
    if (!illava_model_can_merge(&model)) {
        illava_fail(ILLAVA_UNSUPPORTED, "merging inside the language model is not available for architecture '%s': "
                "leave it off, or merge in the image encoder only", model.arch_name().c_str());
    }

    const int32_t n_layer = model.hparams.n_layer();
    // these layers add image features to all rows of a picture, so that a merge before them would lose some
    const int32_t first   = std::max<int32_t>(1, model.hparams.n_deepstack_layers);

    int32_t prev = 0;
    for (size_t i = 0; i < params.n_merge_layers; ++i) {
        const int32_t layer = params.merge_layers[i];
        if (layer <= prev || layer < first || layer >= n_layer) {
            illava_fail(ILLAVA_BAD_ARG, "merge layer %d: layers ascend strictly within %d to %d of this model",
                    layer, first, n_layer - 1);
        }
        cparams.merge_layers.push_back(layer);
        prev = layer;
    }

    // some GPU attention kernels want whole blocks of 256 cells; the CPU's do not, and memory is scarcer there
    const uint32_t pad = model.devices.empty() ? 32 : 256;

    cparams.merge_n_ctx.push_back(cparams.n_ctx_seq);
    for (size_t i = 0; i < params.n_merge_layers; ++i) {
        uint32_t n = params.merge_n_ctx ? params.merge_n_ctx[i] : cparams.n_ctx;
        if (!cparams.kv_unified) {
            n = (n + cparams.n_seq_max - 1)/cparams.n_seq_max;
        }
        cparams.merge_n_ctx.push_back(GGML_PAD(std::max(n, 1u), pad));
    }
}
