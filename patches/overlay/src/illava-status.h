// The one gate between C++ and the C boundary of illava.h. An entry point runs its body inside
// illava_guard(), which turns every exception into a status. It keeps the sentence for illava_last_error().

#pragma once

#include "illava.h"

#include <cstring>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

// An expected failure: what the caller did wrong, or what this model or machine cannot do.
struct illava_error : std::runtime_error {
    illava_error(illava_status status, const std::string & what) : std::runtime_error(what), status(status) {}

    illava_status status;
};

#if defined(__GNUC__)
#    define ILLAVA_PRINTF(fmt_index, first) __attribute__((format(printf, fmt_index, first)))
#else
#    define ILLAVA_PRINTF(fmt_index, first)
#endif

// Throws illava_error; the sentence says which value is wrong and what its limit is.
[[noreturn]] ILLAVA_PRINTF(2, 3) void illava_fail(illava_status status, const char * fmt, ...);

// Throws ILLAVA_BAD_ARG for NULL.
void illava_require(const void * pointer, const char * name);

// The bytes that both sides know of a struct that begins with the caller's size of it; `known` is the library's.
size_t illava_common_size(const char * name, const void * given, size_t known);

// Parameters as this library knows them: the fields of the caller's struct, and defaults for those it does not have.
template <typename T>
T illava_given(const char * name, const T * given, T defaults) {
    std::memcpy(&defaults, given, illava_common_size(name, given, sizeof(T)));
    return defaults;
}

// Writes of a result what the caller's struct has room for.
template <typename T>
void illava_give(const char * name, T * out, T result) {
    const size_t size = illava_common_size(name, out, sizeof(T));
    result.size = out->size;
    std::memcpy(out, &result, size);
}

// Keeps the sentence for this thread and returns the status. Never throws: if there is no memory for the sentence,
// a fixed one takes its place.
illava_status illava_record(illava_status status, const char * what) noexcept;

template <typename F>
illava_status illava_guard(F && body) noexcept {
    try {
        std::forward<F>(body)();
        return ILLAVA_OK;
    } catch (const illava_error & e) {
        return illava_record(e.status, e.what());
    } catch (const std::bad_alloc &) {
        return illava_record(ILLAVA_NO_MEMORY, "out of memory");
    } catch (const std::exception & e) {
        return illava_record(ILLAVA_INTERNAL, e.what());
    } catch (...) {
        return illava_record(ILLAVA_INTERNAL, "an exception of unknown type");
    }
}
