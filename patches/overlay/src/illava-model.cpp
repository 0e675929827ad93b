// What a loaded text model can do.

#include "illava.h"

#include "llama-model.h"

bool illava_model_can_merge(const llama_model * model) {
    if (!model) {
        return false;
    }
    if (model->hparams.is_swa_any()) {
        return false; // its layers have caches of two kinds
    }
    switch (model->arch) {
        case LLM_ARCH_LLAMA:
        case LLM_ARCH_QWEN2:
        case LLM_ARCH_QWEN2VL:
            return true;
        default:
            return false;
    }
}

int32_t illava_model_n_pos(const llama_model * model) {
    return model ? model->hparams.n_pos_per_embd() : 0;
}
