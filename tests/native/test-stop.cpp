// A load and an encode can be stopped, at any of the moments in which they ask, and leave everything usable.

#include "projector-fixture.h"
#include "vision-fixture.h"

#include <filesystem>
#include <limits>
#include <random>

#ifndef _WIN32
#include <sys/stat.h>
#endif

namespace {

using namespace fixture;

// Says no, or stop, from call number `last` on.
struct counter {
    int last;
    int calls = 0;

    bool reached() { return ++calls >= last; }
};

illava_vision_params load_params(counter & count) {
    auto params = vision_params();
    params.progress      = [](float, void * count) { return !static_cast<counter *>(count)->reached(); };
    params.progress_data = &count;
    return params;
}

illava_encode_params stop_params(const merge_steps & steps, counter & count) {
    auto params = encode_params(steps);
    params.stop      = [](void * count) { return static_cast<counter *>(count)->reached(); };
    params.stop_data = &count;
    return params;
}

void check_load(checks & t, const std::string & path) {
    counter whole = { std::numeric_limits<int>::max() };
    t.expect(load_vision(path, load_params(whole)) != nullptr, "a load that is let go on");
    t.expect(whole.calls > 3, "it asks for every tensor: " + std::to_string(whole.calls));
    // the loader itself pays no heed to its first question
    for (int last : { 1, 2, whole.calls/2 }) {
        counter count = { last };
        illava_vision * vision = nullptr;
        const auto params = load_params(count);
        const auto status = illava_vision_load(path.c_str(), &params, &vision);
        t.expect(status == ILLAVA_ABORTED && !vision, "a load that is stopped at question " + std::to_string(last));
        t.expect(count.calls <= last + 1, "stops there");
    }
    t.expect(load_vision(path) != nullptr, "the next load is none the worse");
}

void check_encode(checks & t, const std::string & path) {
    const auto vision = load_vision(path);
    const uint32_t side = 64; // the size of the fixed-size fixture; the dynamic one takes it too
    const auto image = make_image(vision, std::vector<uint8_t>(size_t(side)*side*3, 77), side, side);
    for (const merge_steps & steps : { merge_steps{}, merge_steps{ { 1, 8 }, { 2, 4 } } }) {
        const auto expected = values(view_of(encode_tile(vision, image, encode_params(steps))));

        counter whole = { std::numeric_limits<int>::max() };
        const auto same = encode_tile(vision, image, stop_params(steps, whole));
        t.expect(same && same_bits(values(view_of(same)), expected), "asking changes no bit");
        t.expect(whole.calls > 50, "it asks at every node: " + std::to_string(whole.calls));
        for (int last : { 1, 2, whole.calls/2, whole.calls }) {
            counter count = { last };
            const auto params = stop_params(steps, count);
            illava_encoded * encoded = nullptr;
            const auto status = illava_encode(vision.get(), image.get(), 0, &params, &encoded);
            // behind the last node there is nothing left to stop
            t.expect(status == ILLAVA_ABORTED || last == whole.calls, "stopped at question " + std::to_string(last));
            t.expect((status == ILLAVA_OK) == (encoded != nullptr), "an encoded tile or a status");
            t.expect(count.calls == last, "and is not asked again");
            illava_encoded_free(encoded);
        }
        const auto again = encode_tile(vision, image, encode_params(steps));
        t.expect(again && same_bits(values(view_of(again)), expected), "the next tile is none the worse");
    }
}

// Opening a pipe waits until somebody writes to it.
void check_no_file(checks & t, const std::filesystem::path & folder) {
    const auto refused = [&](const std::filesystem::path & path) {
        illava_vision * vision = nullptr;
        const auto params = vision_params();
        t.expect(illava_vision_load(path.string().c_str(), &params, &vision) == ILLAVA_BAD_FILE, path.string() + " is refused");
    };
    refused(folder);
    refused(folder / "missing.gguf");
#ifndef _WIN32
    const auto pipe = folder / "pipe.gguf";
    std::filesystem::remove(pipe);
    GGML_ASSERT(mkfifo(pipe.c_str(), 0600) == 0);
    refused(pipe);
    refused("/dev/null");
#endif
}

} // namespace

int main() {
    checks t;
    illava_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    const auto folder = std::filesystem::temp_directory_path() / ("illava-stop-" + std::to_string(std::random_device{}()));
    std::filesystem::create_directories(folder);
    for (const auto kind : { family::siglip, family::qwen2vl }) {
        const auto path = (folder / "stop.gguf").string();
        projector_file(kind).write(path);
        check_load(t, path);
        check_encode(t, path);
    }
    check_no_file(t, folder);
    std::filesystem::remove_all(folder);
    return t.finish();
}
