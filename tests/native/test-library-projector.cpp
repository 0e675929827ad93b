// Projectors that upstream's mtmd cuts and marks: rows, positions and logits of illava's entry points are those of
// mtmd's own helper, to the last bit. Reads the pairs projector-* of tools/test-models.sh.

#include "illava.h"
#include "llama.h"
#include "mtmd-helper.h"
#include "mtmd.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace fs = std::filesystem;

static int failures = 0;
static int compared = 0;

#define CHECK(condition, ...)                                     \
    do {                                                          \
        if (!(condition)) {                                       \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
            fprintf(stderr, __VA_ARGS__);                         \
            fprintf(stderr, "\n");                                \
            failures++;                                           \
            return {};                                            \
        }                                                         \
    } while (0)

static const char QUESTION[] = "\nwhat is here?";

static std::vector<uint8_t> pixels(uint32_t nx, uint32_t ny) {
    std::vector<uint8_t> rgb((size_t) nx * ny * 3);
    uint32_t state = 12345;
    for (size_t i = 0; i < rgb.size(); i++) {
        state = state * 1664525u + 1013904223u;
        const bool on = (i / 3 % nx / 7 + i / 3 / nx / 11) % 2 == 0;
        rgb[i] = (uint8_t) ((on ? 160 : 40) + state / (1u << 24) / 4);
    }
    return rgb;
}

static std::vector<float> last_logits(llama_context * ctx, const llama_model * model) {
    const float * logits = llama_get_logits_ith(ctx, -1);
    return { logits, logits + llama_vocab_n_tokens(llama_model_get_vocab(model)) };
}

static llama_context * make_context(llama_model * model) {
    illava_context_params params = illava_context_default_params();
    params.n_ctx     = 2048;
    params.n_threads = params.n_threads_batch = 1;
    llama_context * ctx = nullptr;
    return illava_context_new(model, &params, &ctx) == ILLAVA_OK ? ctx : nullptr;
}

static std::vector<float> by_mtmd(const std::string & mmproj, llama_model * model, const std::vector<uint8_t> & rgb, uint32_t nx, uint32_t ny) {
    mtmd_context_params params = mtmd_context_params_default();
    params.use_gpu       = false;
    params.print_timings = false;
    params.n_threads     = 1;
    const std::unique_ptr<mtmd_context, decltype(&mtmd_free)> vision(mtmd_init_from_file(mmproj.c_str(), model, params), mtmd_free);
    CHECK(vision, "%s", mmproj.c_str());
    const std::unique_ptr<mtmd_bitmap, decltype(&mtmd_bitmap_free)> bitmap(mtmd_bitmap_init(nx, ny, rgb.data()), mtmd_bitmap_free);
    const std::unique_ptr<mtmd_input_chunks, decltype(&mtmd_input_chunks_free)> chunks(mtmd_input_chunks_init(), mtmd_input_chunks_free);
    const std::string text = std::string(mtmd_default_marker()) + QUESTION;
    const mtmd_input_text input = { text.c_str(), text.size(), false, true };
    const mtmd_bitmap * pictures[] = { bitmap.get() };
    CHECK(mtmd_tokenize(vision.get(), chunks.get(), &input, pictures, 1) == 0, "%s", mmproj.c_str());

    const std::unique_ptr<llama_context, decltype(&llama_free)> ctx(make_context(model), llama_free);
    llama_pos past = 0;
    CHECK(mtmd_helper_eval_chunks(vision.get(), ctx.get(), chunks.get(), 0, 0, 2048, true, &past) == 0, "%s", mmproj.c_str());
    return last_logits(ctx.get(), model);
}

static std::vector<float> by_illava(const std::string & mmproj, llama_model * model, const std::vector<uint8_t> & rgb, uint32_t nx, uint32_t ny) {
    illava_vision_params params = illava_vision_default_params();
    params.use_gpu   = false;
    params.n_threads = 1;
    illava_vision * loaded = nullptr;
    CHECK(illava_vision_load(mmproj.c_str(), &params, &loaded) == ILLAVA_OK, "%s", illava_last_error());
    const std::unique_ptr<illava_vision, decltype(&illava_vision_free)> vision(loaded, illava_vision_free);

    illava_image * cut = nullptr;
    CHECK(illava_image_from_rgb(vision.get(), rgb.data(), nx, ny, &cut) == ILLAVA_BAD_ARG, "without its text model nothing is cut");
    CHECK(illava_vision_set_text(vision.get(), model) == ILLAVA_OK, "%s", illava_last_error());
    CHECK(illava_image_from_rgb(vision.get(), rgb.data(), nx, ny, &cut) == ILLAVA_OK, "%s", illava_last_error());
    const std::unique_ptr<illava_image, decltype(&illava_image_free)> image(cut, illava_image_free);

    illava_vision_info info = {};
    info.size = sizeof(info);
    CHECK(illava_vision_describe(vision.get(), &info) == ILLAVA_OK && info.by_library, "%s", illava_last_error());
    const size_t n_embd = llama_model_n_embd_inp(model);
    std::vector<llama_token> tokens;
    std::vector<float>       embd;
    std::vector<int32_t>     axes; // [rows, 4]
    std::vector<illava_span> spans;
    llama_pos past = 0;
    size_t    tile = 0;
    for (size_t i = 0; i < illava_image_n_parts(image.get()); i++) {
        illava_part part = {};
        part.size = sizeof(part);
        CHECK(illava_image_part(vision.get(), image.get(), i, &part) == ILLAVA_OK, "%s", illava_last_error());
        std::vector<int32_t> at(4 * part.n_rows);
        CHECK(illava_image_part_positions(image.get(), i, at.data()) == ILLAVA_OK, "%s", illava_last_error());
        for (int32_t position : at) {
            axes.push_back(position < 0 ? 0 : past + position);
        }
        past += part.n_pos;
        embd.resize((tokens.size() + part.n_rows) * n_embd);
        if (part.tokens) {
            tokens.insert(tokens.end(), part.tokens, part.tokens + part.n_rows);
            continue;
        }
        illava_encode_params encode = illava_encode_default_params();
        encode.n_threads = 1;
        const illava_merge_step step = { 0, 1 };
        encode.steps = &step;
        encode.n_steps = 1;
        illava_encoded * encoded = nullptr;
        // one patch, which may be one of a group that merges as a whole
        const illava_status expected = !info.can_merge ? ILLAVA_UNSUPPORTED : info.group > 1 ? ILLAVA_BAD_ARG : ILLAVA_OK;
        CHECK(illava_encode(vision.get(), image.get(), tile, &encode, &encoded) == expected, "%s", illava_last_error());
        CHECK(info.can_merge || std::strstr(illava_last_error(), "cannot merge tokens"), "%s", illava_last_error());
        illava_encoded_free(encoded);
        encode.n_steps = 0;
        CHECK(illava_encode(vision.get(), image.get(), tile++, &encode, &encoded) == ILLAVA_OK, "%s", illava_last_error());
        illava_encoded_view view = {};
        view.size = sizeof(view);
        illava_encoded_get(encoded, &view);
        // a break is a row between two lines of cells
        const uint32_t breaks = view.line_break ? view.cells_y - 1 : 0;
        CHECK(view.n_tokens + breaks == part.n_rows && view.n_embd == n_embd, "%u rows of %u", view.n_tokens + breaks, view.n_embd);
        float * row = embd.data() + tokens.size() * n_embd;
        for (uint32_t i = 0; i < view.n_tokens; i++, row += n_embd) {
            if (breaks > 0 && i > 0 && i % view.cells_x == 0) {
                std::memcpy(row, view.line_break, sizeof(float) * n_embd);
                row += n_embd;
            }
            std::memcpy(row, view.embd + i * n_embd, sizeof(float) * n_embd);
        }
        spans.push_back({ (int32_t) tokens.size(), (int32_t) part.n_rows, nullptr, part.two_ways });
        tokens.resize(tokens.size() + part.n_rows, -1);
        illava_encoded_free(encoded);
    }
    std::vector<llama_token> question(64);
    const int n = llama_tokenize(llama_model_get_vocab(model), QUESTION, sizeof(QUESTION) - 1, question.data(), 64, false, true);
    for (int i = 0; i < n; i++) {
        tokens.push_back(question[i]);
        axes.insert(axes.end(), { past, past, past, 0 });
        past++;
    }
    embd.resize(tokens.size() * n_embd);

    const int n_pos = illava_model_n_pos(model);
    std::vector<llama_pos> pos(n_pos * tokens.size());
    for (size_t i = 0; i < tokens.size(); i++) {
        for (int axis = 0; axis < n_pos; axis++) {
            pos[axis * tokens.size() + i] = axes[4 * i + axis];
        }
    }
    const std::unique_ptr<llama_context, decltype(&llama_free)> ctx(make_context(model), llama_free);
    illava_prefill_params prefill = illava_prefill_default_params();
    prefill.n_rows  = (int32_t) tokens.size();
    prefill.tokens  = tokens.data();
    prefill.embd    = embd.data();
    prefill.pos     = pos.data();
    prefill.spans   = spans.data();
    prefill.n_spans = spans.size();
    CHECK(illava_prefill(ctx.get(), &prefill, nullptr) == ILLAVA_OK, "%s", illava_last_error());
    return last_logits(ctx.get(), model);
}

static int compare(const fs::path & folder) {
    const std::string text = (folder / "text.gguf").string(), mmproj = (folder / "mmproj.gguf").string();
    llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = 0;
    const std::unique_ptr<llama_model, decltype(&llama_model_free)> model(llama_model_load_from_file(text.c_str(), params), llama_model_free);
    CHECK(model, "%s", text.c_str());
    for (const auto [nx, ny] : { std::pair<uint32_t, uint32_t> { 96, 72 }, { 200, 60 }, { 33, 130 } }) {
        const auto rgb    = pixels(nx, ny);
        const auto theirs = by_mtmd(mmproj, model.get(), rgb, nx, ny);
        const auto ours   = by_illava(mmproj, model.get(), rgb, nx, ny);
        CHECK(!theirs.empty() && theirs.size() == ours.size(), "%s", folder.c_str());
        for (float value : ours) {
            CHECK(std::isfinite(value), "%s at %u x %u", folder.c_str(), nx, ny);
        }
        CHECK(std::memcmp(theirs.data(), ours.data(), theirs.size() * sizeof(float)) == 0, "%s at %u x %u: logits differ", folder.c_str(), nx, ny);
        compared++;
    }
    return 0;
}

int main() {
    llama_backend_init();
    illava_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    mtmd_helper_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    const char * models = std::getenv("ILLAVA_TEST_MODELS");
    if (!models) {
        fprintf(stderr, "ILLAVA_TEST_MODELS names no folder: run tools/native-tests.sh\n");
        return 1;
    }
    for (const auto & entry : fs::directory_iterator(models)) {
        const std::string name = entry.path().filename().string();
        if (name.rfind("projector-", 0) == 0) {
            compare(entry.path());
        }
    }
    printf("%d pictures, %d failures\n", compared, failures);
    return compared > 0 && failures == 0 ? 0 : 1;
}
