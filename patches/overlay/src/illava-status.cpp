#include "illava-status.h"

#include <cstdarg>
#include <cstdio>
#include <vector>

static thread_local std::string last_error;

// Shown instead of last_error when the sentence itself could not be stored.
static thread_local const char * last_error_fixed = nullptr;

void illava_fail(illava_status status, const char * fmt, ...) {
    va_list args;
    va_list again;
    va_start(args, fmt);
    va_copy(again, args);
    const int n = vsnprintf(nullptr, 0, fmt, args);
    va_end(args);

    std::vector<char> text(n < 0 ? 1 : (size_t) n + 1, '\0');
    vsnprintf(text.data(), text.size(), fmt, again);
    va_end(again);

    throw illava_error(status, text.data());
}

void illava_require(const void * pointer, const char * name) {
    if (!pointer) {
        illava_fail(ILLAVA_BAD_ARG, "%s is NULL", name);
    }
}

size_t illava_common_size(const char * name, const void * given, size_t known) {
    illava_require(given, name);
    size_t size;
    std::memcpy(&size, given, sizeof(size));
    if (size < sizeof(size)) {
        illava_fail(ILLAVA_BAD_ARG, "%s has size %zu: set `size` to sizeof(struct %s)", name, size, name);
    }
    if (size > known) {
        illava_fail(ILLAVA_BAD_ARG, "%s has size %zu, this library knows %zu bytes of it: the caller was built against "
            "a newer illava.h", name, size, known);
    }
    return size;
}

int32_t illava_version(void) {
    return ILLAVA_VERSION;
}

illava_status illava_record(illava_status status, const char * what) noexcept {
    try {
        last_error       = what;
        last_error_fixed = nullptr;
    } catch (...) {
        last_error_fixed = "out of memory";
    }
    return status;
}

const char * illava_last_error(void) {
    return last_error_fixed ? last_error_fixed : last_error.c_str();
}
