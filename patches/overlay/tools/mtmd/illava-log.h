// One log for ggml, llama and the encoder, and what ggml_abort() does while a file is being loaded.

#pragma once

#include <string>

// Puts this log in place of the loggers' defaults, unless it is there already.
void illava_log_install();

// The last error line logged on this thread since illava_log_forget(), without its line end; "" if none.
// Upstream's loader explains a failure only this way.
const std::string & illava_log_last_error();
// The first one: mtmd follows clip's reason with a line that has none.
const std::string & illava_log_first_error();
void                illava_log_forget();

// While one lives, a failed assertion of ggml on this thread throws illava_error (ILLAVA_BAD_FILE) instead of ending
// the process. Its sentence begins with the last error line that was logged since the trap was set. Traps are for loading,
// and for projectors that upstream runs: there an assertion means a file that the checks before did not see through, and
// the half-made objects are deleted by upstream's own exception handling. At any other time an assertion is a bug.
class illava_abort_trap {
  public:
    illava_abort_trap();
    ~illava_abort_trap();

    illava_abort_trap(const illava_abort_trap &) = delete;
    illava_abort_trap & operator=(const illava_abort_trap &) = delete;
};
