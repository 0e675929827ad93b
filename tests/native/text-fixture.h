#pragma once

// The tiny text models of the tests, and handles on them that free themselves.

#include "graph-fixture.h"
#include "llama.h"

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

namespace fixture {

using model_ptr     = std::unique_ptr<llama_model,   releaser<llama_model_free>>;
using llama_ctx_ptr = std::unique_ptr<llama_context, releaser<llama_free>>;

// The folder of the pairs that tools/make_model.py wrote; ends the program where it is not named.
inline std::string test_models() {
    const char * dir = std::getenv("ILLAVA_TEST_MODELS");
    if (!dir) {
        fprintf(stderr, "set ILLAVA_TEST_MODELS to the folder that tools/make_model.py wrote\n");
        std::exit(1);
    }
    return dir;
}

// Null where it does not load.
inline model_ptr load_text(const std::string & pair) {
    auto params = llama_model_default_params();
    params.n_gpu_layers = 0;
    return model_ptr(llama_model_load_from_file((test_models() + "/" + pair + "/text.gguf").c_str(), params));
}

} // namespace fixture
