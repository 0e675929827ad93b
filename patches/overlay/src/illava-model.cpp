// Abilities of a loaded text model.

#include "illava.h"

#include "llama-model.h"

bool illava_model_can_merge(const llama_model * model) {
    if (!model) {
        return false;
    }
    const auto & hparams = model->hparams;
    switch (model->arch) { // those whose graph takes a layer range (patches/llama-models-layer-range.patch)
        case LLM_ARCH_ERNIE4_5:
        case LLM_ARCH_GEMMA3:
        case LLM_ARCH_INTERNLM2:
        case LLM_ARCH_LLAMA:
        case LLM_ARCH_MISTRAL3:
        case LLM_ARCH_PADDLEOCR:
        case LLM_ARCH_PHI3:
        case LLM_ARCH_QWEN2:
        case LLM_ARCH_QWEN2VL:
        case LLM_ARCH_QWEN3:
        case LLM_ARCH_QWEN3MOE:
        case LLM_ARCH_QWEN3VL:
        case LLM_ARCH_QWEN3VLMOE:
        case LLM_ARCH_SMOLLM3:
            return true;
        case LLM_ARCH_GEMMA4: // E2B and E4B: embeddings of each layer are in no residual, and layers share keys and values
            return hparams.n_embd_per_layer == 0 && hparams.n_layer_kv_from_start == int32_t(hparams.n_layer());
        case LLM_ARCH_GLM4:
        case LLM_ARCH_GLM4_MOE: // without M-RoPE its graph takes no embeddings, and a residual is one
            return hparams.use_mrope();
        case LLM_ARCH_GRANITE: // image features that enter at chosen layers are in no residual
            return hparams.n_deepstack_layers == 0;
        default:
            return false;
    }
}

int32_t illava_model_n_pos(const llama_model * model) {
    return model ? model->hparams.n_pos_per_embd() : 0;
}
