// Weights laid out anew for the CPU's fastest kernels: which are taken, and that the encoder computes what it does with
// the weights as stored, but for the rounding of its activations.
//
// Runs on tiny files it writes itself. The processor decides what is repacked. If it has no such kernels, the
// switch must change nothing.

#include "projector-fixture.h"
#include "vision-fixture.h"

#include "ggml-cpu.h"

#include <algorithm>
#include <filesystem>
#include <map>

namespace {

using namespace fixture;

constexpr uint32_t side = 64;

// Products of either layout take activations rounded to 8 bits. If sums in another order carry a value over a
// rounding limit, layers of 64 differ by a per cent; a wrong layout differs by all.
constexpr double rounding = 0.03;

std::string logged;

// Whether ggml has a layout for a type on the processor at hand, for rows of 64.
bool has_layout(ggml_type type) {
    const bool x86 = ggml_cpu_has_avx2() != 0, amx = ggml_cpu_has_amx_int8() != 0;
    const bool arm = ggml_cpu_has_neon() != 0 && ggml_cpu_has_dotprod() != 0;
    switch (type) {
        case GGML_TYPE_Q4_0:
        case GGML_TYPE_IQ4_NL: return x86 || arm;
        case GGML_TYPE_Q8_0:   return amx || arm;
        case GGML_TYPE_F16:    return amx;
        default:               return false;
    }
}

std::vector<uint8_t> noise(uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<uint8_t> bytes(size_t(side) * side * 3);
    for (auto & byte : bytes) {
        byte = uint8_t(random());
    }
    return bytes;
}

struct result {
    std::vector<float>                embd;
    std::vector<std::vector<float>>   scores; // of each step, in the order of the tokens that entered
    std::vector<std::vector<int32_t>> kept;
};

result run(const vision_ptr & vision, const merge_steps & steps, bool composed = false, int n_threads = 1) {
    const auto image   = make_image(vision, noise(7), side, side);
    const auto encoded = encode_tile(vision, image, encode_params(steps, ILLAVA_GRID_FAITHFUL, composed, n_threads));
    const auto view    = view_of(encoded);
    result out;
    out.embd = values(view);
    for (size_t i = 0; i < view.n_steps; i++) {
        const auto step = step_of(encoded, i);
        out.scores.emplace_back(step.scores, step.scores + step.n_in);
        out.kept.emplace_back(step.kept, step.kept + step.n_out);
    }
    return out;
}

// The first step must leave the same tokens wherever the scores on both sides of its limit are further apart than
// rounding moves them.
void check_kept(checks & t, const std::string & name, const result & stored, const result & repacked, int32_t r_units) {
    const auto & a = stored.scores.at(0);
    const auto & b = repacked.scores.at(0);
    float moved = 0;
    for (size_t i = 0; i < a.size(); i++) {
        moved = std::max(moved, std::fabs(a[i] - b[i]));
    }
    t.expect(moved < 0.05f * *std::max_element(a.begin(), a.end()), name + ": scores move by rounding only");

    auto sorted = a;
    std::sort(sorted.begin(), sorted.end());
    const float limit = 0.5f * (sorted.at(size_t(r_units)) + sorted.at(size_t(r_units) - 1));
    std::vector<bool> left(a.size(), false);
    for (int32_t i : repacked.kept.at(0)) {
        left.at(size_t(i)) = true;
    }
    int n_clear = 0;
    for (size_t i = 0; i < a.size(); i++) {
        // the merged vector stands in the place of the last of those merged
        if (std::fabs(a[i] - limit) > 2 * moved && a[i] != sorted[size_t(r_units)]) {
            n_clear++;
            t.expect(left[i] == (a[i] > limit), name + ": token " + std::to_string(i) + " of a clear score");
        }
    }
    t.expect(n_clear * 2 > int(a.size()), name + ": most scores are clear of the limit (" + std::to_string(n_clear) + ")");
}

void check_type(checks & t, const std::string & folder, family kind, ggml_type type, const std::string & name) {
    projector_shape shape;
    shape.n_embd  = 64;
    shape.n_ff    = 96;
    shape.n_out   = 64;
    shape.weights = type;
    const auto path = folder + "/" + name + ".gguf";
    projector_file(kind, 3, shape).write(path);

    const auto stored   = load_vision(path);
    logged.clear();
    const auto repacked = load_vision(path, vision_params(-1, true));
    if (!t.expect(stored && repacked, name + " loads: " + illava_last_error())) {
        return;
    }
    t.expect(describe(stored).repacked_bytes == 0, name + ": as stored unless asked for");

    const int32_t     g     = describe(stored).group;
    const merge_steps off   = {};
    const merge_steps first = { { 1, 12 } };
    const merge_steps all   = { { 0, g }, { 1, 12 }, { 3, 8 } };

    // Without a layout for the type nothing may change.
    if (!has_layout(type)) {
        t.expect(describe(repacked).repacked_bytes == 0, name + ": no layout for this type");
        t.expect(logged.find("no faster layout") != std::string::npos, name + ": the log says so");
        for (const auto & steps : { off, all }) {
            t.expect(same_bits(run(repacked, steps).embd, run(stored, steps).embd), name + ": and no bit changes");
        }
        return;
    }

    // The linear layers of the blocks that run and of the projector, and nothing else.
    const auto info = describe(repacked);
    const size_t hidden = size_t(g == 1 ? shape.n_out : g * shape.n_embd);
    const size_t linear = size_t(info.n_layer_run) * (4 * shape.n_embd * shape.n_embd + 2 * shape.n_embd * shape.n_ff) +
        size_t(g * shape.n_embd) * hidden + hidden * shape.n_out;
    const size_t as_stored = ggml_row_size(type, int64_t(linear));
    t.expect(ggml_cpu_has_amx_int8() ? info.repacked_bytes >= as_stored : info.repacked_bytes == as_stored,
        name + ": " + std::to_string(info.repacked_bytes) + " bytes repacked of " + std::to_string(info.weight_bytes));

    const double error_off = relative_error(run(repacked, off).embd, run(stored, off).embd);
    t.expect(error_off < rounding, name + ": off, relative error " + std::to_string(error_off));

    const auto merged_stored = run(stored, first), merged = run(repacked, first);
    check_kept(t, name, merged_stored, merged, 12 / g);
    if (merged.kept == merged_stored.kept) {
        const double error = relative_error(merged.embd, merged_stored.embd);
        t.expect(error < rounding, name + ": merged, relative error " + std::to_string(error));
    }

    // All that holds of an encoder holds of this one: off is off, the number of threads and the score's kernel count for nothing.
    t.expect(same_bits(run(repacked, { { 0, 0 } }).embd, run(repacked, off).embd), name + ": r = 0 is off");
    const auto once = run(repacked, all), composed = run(repacked, all, true), threads = run(repacked, all, false, 2);
    t.expect(composed.kept == once.kept && relative_error(composed.embd, once.embd) < 1e-4, name + ": composed score");
    t.expect(same_bits(threads.embd, once.embd), name + ": two threads");
}

} // namespace

int main() {
    checks t;
    illava_log_set([](ggml_log_level, const char * text, void *) { logged += text; }, nullptr);

    const auto folder = std::filesystem::temp_directory_path() / ("illava-repack-" + std::to_string(std::random_device{}()));
    std::filesystem::create_directories(folder);

    const std::map<std::string, family> families = {
        { "siglip", family::siglip }, { "clip", family::clip }, { "janus", family::janus }, { "qwen2vl", family::qwen2vl } };
    for (const auto & [name, kind] : families) {
        for (ggml_type type : { GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_Q8_0, GGML_TYPE_Q4_0, GGML_TYPE_IQ4_NL }) {
            check_type(t, folder.string(), kind, type, name + "-" + ggml_type_name(type));
        }
    }

    std::filesystem::remove_all(folder);
    return t.finish();
}
