// The tiny pairs on the device and on the processor: the same tokens kept, the same logits but for rounding.

#include "checks.h"
#include "pair.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

namespace gpu {
namespace {

constexpr double logits_tolerance = 1e-2; // of the largest logit, F16 weights

double largest_difference(const std::vector<float> & a, const std::vector<float> & b) {
    if (a.size() != b.size()) {
        return INFINITY;
    }
    double difference = 0.0, largest = 1e-30;
    for (size_t i = 0; i < a.size(); i++) {
        difference = std::max(difference, double(std::abs(a[i] - b[i])));
        largest    = std::max(largest, double(std::abs(b[i])));
    }
    return std::isfinite(difference) ? difference / largest : INFINITY;
}

// How far apart, next to the mean score, the last token that went and the first that stayed are on the
// processor: what rounding has to overcome to make another choice.
double margin(const step & s) {
    std::vector<float> sorted = s.scores;
    std::sort(sorted.begin(), sorted.end());
    double mean = 0.0;
    for (float score : sorted) {
        mean += double(score) / double(sorted.size());
    }
    const size_t last = s.scores.size() - s.kept.size(); // the last of the r + 1 that merge
    return last + 1 < sorted.size() ? (double(sorted[last + 1]) - double(sorted[last])) / mean : 0.0;
}

void compare_steps(const std::string & name, const std::vector<step> & found, const std::vector<step> & expected, report & out) {
    out.expect(found.size() == expected.size(), name, "another number of steps");
    for (size_t i = 0; i < std::min(found.size(), expected.size()); i++) {
        size_t others = 0;
        for (int32_t token : found[i].kept) {
            others += !std::binary_search(expected[i].kept.begin(), expected[i].kept.end(), token);
        }
        out.largest("score_difference", largest_difference(found[i].scores, expected[i].scores));
        out.expect(found[i].kept == expected[i].kept, name + ", layer " + std::to_string(expected[i].layer),
            std::to_string(others) + " of " + std::to_string(expected[i].kept.size()) +
            " kept tokens are others than on the processor, where the margin was " + std::to_string(margin(expected[i])) + " of the mean score");
    }
}

// Two layers about the middle of three or more, an eighth of n rows at each, in whole units.
schedule steps_for(int32_t n_layer, int32_t n, int32_t unit) {
    const int32_t r = std::max(1, n / unit / 8) * unit;
    return { { n_layer / 3, r }, { std::max(n_layer / 3 + 1, n_layer / 2), r } };
}

void check_pair(machine & m, const std::string & folder, report & out) {
    const std::string name = std::filesystem::path(folder).filename().string();
    tower         on_device (folder + "/mmproj.gguf", m.is_gpu(), m.n_threads());
    tower         on_cpu    (folder + "/mmproj.gguf", false, m.n_threads());
    const auto    info = on_cpu.info();
    const auto    side = uint32_t(info.dynamic_size ? 20 * info.patch_size : info.image_size);
    on_device.picture(side, side);
    on_cpu.picture(side, side);

    const int32_t  n_patches = int32_t(side / info.patch_size * (side / info.patch_size));
    const schedule tower_steps = steps_for(info.n_layer_run, n_patches, info.group);
    const encoded  expected = on_cpu.encode(tower_steps);
    on_device.encode({});
    const int      splits   = on_device.n_splits();
    const encoded  found    = on_device.encode(tower_steps);
    out.largest("encoder_splits", on_device.n_splits());
    out.expect(on_device.n_splits() <= splits, name + ", encoder", "merging cuts the graph: " +
        std::to_string(on_device.n_splits()) + " parts, " + std::to_string(splits) + " without");
    compare_steps(name + ", encoder", found.steps, expected.steps, out);
    out.largest("embedding_difference", largest_difference(found.embd, expected.embd));

    decoder text_on_device(folder + "/text.gguf", m.is_gpu(), m.n_threads());
    decoder text_on_cpu   (folder + "/text.gguf", false, m.n_threads());
    // The same rows go into both, so that this half is held to its own rounding alone.
    const schedule text_steps = { { std::max(1, text_on_cpu.n_layer() / 4), expected.n_tokens / 4 },
                                  { std::max(2, text_on_cpu.n_layer() / 2), expected.n_tokens / 8 } };
    for (const schedule & steps : { schedule(), text_steps }) {
        text_on_device.context(steps, expected.n_tokens);
        text_on_cpu.context(steps, expected.n_tokens);
        const prefilled a = text_on_device.prefill(expected.embd, expected.n_tokens, steps);
        const prefilled b = text_on_cpu.prefill(expected.embd, expected.n_tokens, steps);
        const std::string half = name + (steps.empty() ? ", decoder, off" : ", decoder");
        compare_steps(half, a.steps, b.steps, out);
        const double difference = largest_difference(a.logits, b.logits);
        out.largest(steps.empty() ? "logits_difference_off" : "logits_difference", difference);
        out.expect(difference <= logits_tolerance, half, "logits differ by " + std::to_string(difference) + " of the largest");
    }
    // And through both halves of the device.
    text_on_device.context(text_steps, found.n_tokens);
    text_on_cpu.context(text_steps, expected.n_tokens);
    const prefilled a = text_on_device.prefill(found.embd, found.n_tokens, text_steps);
    const prefilled b = text_on_cpu.prefill(expected.embd, expected.n_tokens, text_steps);
    const double difference = largest_difference(a.logits, b.logits);
    out.largest("logits_difference_both_halves", difference);
    out.expect(difference <= logits_tolerance, name + ", both halves", "logits differ by " + std::to_string(difference) + " of the largest");
}

} // namespace

static bool is_pair(const std::filesystem::path & folder) {
    return std::filesystem::exists(folder / "mmproj.gguf") && std::filesystem::exists(folder / "text.gguf");
}

void check_pairs(machine & m, const std::string & models, report & out) {
    std::vector<std::string> folders;
    if (is_pair(models)) {
        folders.push_back(models);
    } else if (std::filesystem::is_directory(models)) {
        for (const auto & entry : std::filesystem::directory_iterator(models)) {
            if (is_pair(entry.path())) {
                folders.push_back(entry.path().string());
            }
        }
    }
    std::sort(folders.begin(), folders.end());
    for (const std::string & folder : folders) {
        check_pair(m, folder, out);
    }
    out.expect(!folders.empty(), models, "no pair of mmproj.gguf and text.gguf there");
}

} // namespace gpu
