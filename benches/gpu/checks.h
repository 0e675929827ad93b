#pragma once

// What is checked on the device, and how it ends.

#include "machine.h"

#include <map>

namespace gpu {

// Counts checks, keeps what failed and the largest of named figures.
class report {
public:
    void expect(bool held, const std::string & name, const std::string & otherwise) {
        (held ? passed_ : failed_)++;
        if (!held) {
            failures_.push_back(name + ": " + otherwise);
            fprintf(stderr, "FAIL %s\n", failures_.back().c_str());
        }
    }
    void largest(const std::string & figure, double value) {
        figures_[figure] = figures_.count(figure) ? std::max(figures_[figure], value) : value;
    }
    bool all_passed() const { return failed_ == 0 && passed_ > 0; }
    json to_json() const {
        return { { "passed", passed_ }, { "failed", failed_ }, { "failures", failures_ }, { "largest", figures_ } };
    }

private:
    int passed_ = 0, failed_ = 0;
    std::vector<std::string>      failures_;
    std::map<std::string, double> figures_;
};

// Score, plan and merge; quick leaves out the large cases.
void check_ops(machine & m, bool quick, report & out);

// A pair, a folder with mmproj.gguf and text.gguf, or all that lie in a folder, on the device and on the processor:
// the same tokens kept, and logits within 1e-2 of the largest.
void check_pairs(machine & m, const std::string & models, report & out);

// Operations a second of a large F16 matrix product, as ggml runs it: what shares of a peak refer to.
double matrix_peak(machine & m, bool small, int rounds);

// Shapes of real models, or small ones to try the program. `work` is a folder for model files.
json measure_ops(machine & m, bool small, double peak, int rounds);
json measure_pairs(machine & m, bool small, double peak, int rounds, const std::string & work);

} // namespace gpu
