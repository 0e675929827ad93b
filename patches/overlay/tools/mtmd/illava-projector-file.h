// Looks at a projector GGUF before upstream's loader does. That loader trusts the file's shapes and value types and
// asserts, divides or reads past the end where they are wrong; here every such case becomes an illava_error.

#pragma once

#include "illava.h"

#include <string>

struct illava_projector_file {
    std::string projector; // as the file says: "mlp", "qwen2vl_merger", ...
    bool        by_library = false; // of no family of ours: upstream's mtmd runs it
};

// Throws illava_error. ILLAVA_BAD_FILE is a damaged file or one that is no projector; ILLAVA_UNSUPPORTED is a
// sound file of a kind the engine does not run. ILLAVA_BAD_ARG stands for token limits that this file's
// patches cannot give.
illava_projector_file illava_check_projector_file(const char * path, int32_t image_min_tokens, int32_t image_max_tokens);
