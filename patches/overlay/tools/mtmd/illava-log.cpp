#include "illava-log.h"

#include "../../src/illava-status.h"
#include "clip-impl.h"

#include <cstdio>
#include <mutex>

static std::mutex        log_mutex; // guards the two below; a line is written whole
static ggml_log_callback log_callback = nullptr;
static void            * log_user     = nullptr;

static thread_local std::string first_error_line, last_error_line;

static void on_line(ggml_log_level level, const char * text, void * /*user*/) {
    if (level == GGML_LOG_LEVEL_ERROR) {
        last_error_line = text;
        while (!last_error_line.empty() && last_error_line.back() == '\n') {
            last_error_line.pop_back();
        }
        if (first_error_line.empty()) {
            first_error_line = last_error_line;
        }
    }
    const std::lock_guard<std::mutex> lock(log_mutex);
    if (log_callback) {
        log_callback(level, text, log_user);
    } else {
        fputs(text, stderr);
    }
}

void illava_log_install() {
    static std::once_flag once;
    std::call_once(once, [] {
        llama_log_set(on_line, nullptr);
        g_logger_state.log_callback           = on_line;
        g_logger_state.log_callback_user_data = nullptr;
    });
}

void illava_log_set(ggml_log_callback callback, void * user) {
    illava_guard([&] {
        illava_log_install();
        const std::lock_guard<std::mutex> lock(log_mutex);
        log_callback = callback;
        log_user     = user;
    });
}

const std::string & illava_log_first_error() { return first_error_line; }
const std::string & illava_log_last_error()  { return last_error_line; }
void illava_log_forget() {
    first_error_line.clear();
    last_error_line.clear();
}

static thread_local int      traps    = 0;
static ggml_abort_callback_t previous = nullptr;

static void on_abort(const char * message) {
    if (traps > 0) {
        // the library often logs the numbers first, and the assertion has none
        const std::string reason = last_error_line.empty() ? "" : last_error_line + "; ";
        throw illava_error(ILLAVA_BAD_FILE, reason + message);
    }
    if (previous) {
        previous(message);
    } else {
        fprintf(stderr, "%s\n", message);
    }
}

illava_abort_trap::illava_abort_trap() {
    static std::once_flag once;
    std::call_once(once, [] { previous = ggml_set_abort_callback(on_abort); });
    illava_log_forget();
    traps++;
}

illava_abort_trap::~illava_abort_trap() {
    traps--;
}
