// Every function of illava.h takes a NULL for each of its pointers: a status says so, or 0, false or "" does where there
// is none. Structs of another size than the library's are read as far as they go.

#include "decoder-fixture.h"
#include "projector-fixture.h"
#include "vision-fixture.h"

#include <cstddef>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <regex>
#include <set>
#include <sstream>

namespace {

using namespace fixture;

// A projector file that is there as long as this.
struct clip_file {
    const std::string path = (std::filesystem::temp_directory_path() / ("illava-nulls-" + std::to_string(std::random_device{}()) + ".gguf")).string();

    clip_file() { projector_file(family::clip).write(path); }
    ~clip_file() { std::filesystem::remove(path); }
};

struct suite {
    checks &              t;
    std::set<std::string> called; // functions

    void refused(const char * function, illava_status status, const std::string & what) {
        called.insert(function);
        const bool is_named = std::string(illava_last_error()).find("NULL") != std::string::npos;
        t.expect(status == ILLAVA_BAD_ARG && is_named,
            std::string(function) + " without " + what + ": status " + std::to_string(status) + ", " + illava_last_error());
    }

    void is_nothing(const char * function, bool nothing) {
        called.insert(function);
        t.expect(nothing, std::string(function) + " of NULL");
    }

    void vision() {
        const clip_file of;
        const auto & file = of.path;
        auto params = vision_params();
        illava_vision * out = nullptr;
        refused("illava_vision_load", illava_vision_load(nullptr, &params, &out), "path");
        refused("illava_vision_load", illava_vision_load(file.c_str(), nullptr, &out), "params");
        refused("illava_vision_load", illava_vision_load(file.c_str(), &params, nullptr), "out");

        const auto loaded = load_vision(file);
        if (!t.expect(loaded != nullptr, "the projector loads")) {
            return;
        }
        auto * v = loaded.get();
        illava_vision_info info = {};
        info.size = sizeof(info);
        refused("illava_vision_describe", illava_vision_describe(nullptr, &info), "vision");
        refused("illava_vision_describe", illava_vision_describe(v, nullptr), "info");
        refused("illava_vision_set_text", illava_vision_set_text(nullptr, nullptr), "vision");
        refused("illava_vision_set_text", illava_vision_set_text(v, nullptr), "text");
        is_nothing("illava_vision_compute_bytes", illava_vision_compute_bytes(nullptr) == 0);
        refused("illava_vision_free_buffers", illava_vision_free_buffers(nullptr), "vision");

        const uint32_t side = describe(loaded).image_size;
        const std::vector<uint8_t> bytes(size_t(side)*side*3, 100);
        const std::vector<float>   floats(size_t(side)*side*3, 0.5f);
        illava_image * image = nullptr;
        refused("illava_image_from_rgb", illava_image_from_rgb(nullptr, bytes.data(), side, side, &image), "vision");
        refused("illava_image_from_rgb", illava_image_from_rgb(v, nullptr, side, side, &image), "rgb");
        refused("illava_image_from_size", illava_image_from_size(nullptr, side, side, &image), "vision");
        refused("illava_image_from_rgb", illava_image_from_rgb(v, bytes.data(), side, side, nullptr), "out");
        refused("illava_image_from_f32", illava_image_from_f32(nullptr, floats.data(), side, side, &image), "vision");
        refused("illava_image_from_f32", illava_image_from_f32(v, nullptr, side, side, &image), "rgb");
        refused("illava_image_from_f32", illava_image_from_f32(v, floats.data(), side, side, nullptr), "out");
        const float * f = floats.data();
        refused("illava_image_from_frames", illava_image_from_frames(nullptr, f, f, side, side, &image), "vision");
        refused("illava_image_from_frames", illava_image_from_frames(v, nullptr, f, side, side, &image), "first");
        refused("illava_image_from_frames", illava_image_from_frames(v, f, nullptr, side, side, &image), "second");
        refused("illava_image_from_frames", illava_image_from_frames(v, f, f, side, side, nullptr), "out");
        const illava_view view = { bytes.data(), side, side };
        refused("illava_image_from_views", illava_image_from_views(nullptr, &view, 1, 0, 0, &image), "vision");
        refused("illava_image_from_views", illava_image_from_views(v, nullptr, 1, 0, 0, &image), "views");
        refused("illava_image_from_views", illava_image_from_views(v, &view, 1, 0, 0, nullptr), "out");
        is_nothing("illava_image_n_tiles", illava_image_n_tiles(nullptr) == 0);

        const auto made = make_image(loaded, bytes, side, side);
        illava_tile tile = {};
        tile.size = sizeof(tile);
        is_nothing("illava_image_n_parts", illava_image_n_parts(nullptr) == 0);
        illava_part part = {};
        part.size = sizeof(part);
        refused("illava_image_part", illava_image_part(nullptr, made.get(), 0, &part), "vision");
        refused("illava_image_part", illava_image_part(v, nullptr, 0, &part), "image");
        refused("illava_image_part", illava_image_part(v, made.get(), 0, nullptr), "out");
        int32_t positions[4];
        refused("illava_image_part_positions", illava_image_part_positions(nullptr, 0, positions), "image");
        refused("illava_image_part_positions", illava_image_part_positions(made.get(), 0, nullptr), "out");
        refused("illava_image_tile", illava_image_tile(nullptr, made.get(), 0, &tile), "vision");
        refused("illava_image_tile", illava_image_tile(v, nullptr, 0, &tile), "image");
        refused("illava_image_tile", illava_image_tile(v, made.get(), 0, nullptr), "out");

        auto encode = encode_params({});
        const uint32_t grid = side/describe(loaded).patch_size;
        uint32_t n = 0;
        refused("illava_encoded_n_tokens", illava_encoded_n_tokens(nullptr, grid, grid, &encode, &n), "vision");
        refused("illava_encoded_n_tokens", illava_encoded_n_tokens(v, grid, grid, nullptr, &n), "params");
        refused("illava_encoded_n_tokens", illava_encoded_n_tokens(v, grid, grid, &encode, nullptr), "n_tokens");
        illava_encoded * encoded = nullptr;
        refused("illava_encode", illava_encode(nullptr, made.get(), 0, &encode, &encoded), "vision");
        refused("illava_encode", illava_encode(v, nullptr, 0, &encode, &encoded), "image");
        refused("illava_encode", illava_encode(v, made.get(), 0, nullptr, &encoded), "params");
        refused("illava_encode", illava_encode(v, made.get(), 0, &encode, nullptr), "out");
        encode.n_steps = 1;
        refused("illava_encode", illava_encode(v, made.get(), 0, &encode, &encoded), "steps");

        const auto done = encode_tile(loaded, made, encode_params({ { 1, 2 } }));
        illava_encoded_view seen = {};
        seen.size = sizeof(seen);
        illava_step step = {};
        step.size = sizeof(step);
        refused("illava_encoded_get", illava_encoded_get(nullptr, &seen), "encoded");
        refused("illava_encoded_get", illava_encoded_get(done.get(), nullptr), "out");
        refused("illava_encoded_step", illava_encoded_step(nullptr, 0, &step), "encoded");
        refused("illava_encoded_step", illava_encoded_step(done.get(), 0, nullptr), "out");

        illava_vision_free(nullptr);
        illava_image_free(nullptr);
        illava_encoded_free(nullptr);
        called.insert({ "illava_vision_free", "illava_image_free", "illava_encoded_free" });
    }

    void decoder() {
        const auto all = subjects(t);
        if (all.empty()) {
            return;
        }
        const auto & subject = all[0];
        auto * model = subject.model.get();
        is_nothing("illava_model_can_merge", !illava_model_can_merge(nullptr));
        is_nothing("illava_model_n_pos", illava_model_n_pos(nullptr) == 0);
        is_nothing("illava_model_repacked_bytes", illava_model_repacked_bytes(nullptr) == 0);
        is_nothing("illava_cpu_repacks", !illava_cpu_repacks(-1) && !illava_cpu_repacks(1 << 30));

        refused("illava_rpc_connect", illava_rpc_connect(nullptr), "endpoint");
        refused("illava_rpc_serve", illava_rpc_serve(nullptr, nullptr, 1, nullptr, 0), "endpoint");
        refused("illava_rpc_serve", illava_rpc_serve("127.0.0.1:0", nullptr, 1, nullptr, 0), "devices");

        illava_set_kernels(false);
        is_nothing("illava_kernels_used", illava_kernels_used() != nullptr);
        called.insert("illava_set_kernels");

        auto context = illava_context_default_params();
        context.n_threads = context.n_threads_batch = 1;
        context.n_ctx = 512;
        llama_context * ctx = nullptr;
        refused("illava_context_new", illava_context_new(nullptr, &context, &ctx), "model");
        refused("illava_context_new", illava_context_new(model, nullptr, &ctx), "params");
        refused("illava_context_new", illava_context_new(model, &context, nullptr), "out");
        context.n_merge_layers = 1;
        refused("illava_context_new", illava_context_new(model, &context, &ctx), "merge layers");

        is_nothing("illava_context_n_segments", illava_context_n_segments(nullptr) == 0);
        is_nothing("illava_context_compute_bytes", illava_context_compute_bytes(nullptr) == 0);
        llama_ctx_ptr made;
        make_context(model, subject.options(), made);
        illava_segment segment = {};
        segment.size = sizeof(segment);
        refused("illava_context_segment", illava_context_segment(nullptr, 0, &segment), "ctx");
        refused("illava_context_segment", illava_context_segment(made.get(), 0, nullptr), "out");

        prefill(subject, made.get());
        grammar(model);
    }

    void prefill(const subject & subject, llama_context * ctx) {
        auto p = subject.one_image();
        const auto whole = p.params();
        illava_trace       * trace = nullptr;
        illava_prefill_run * run   = nullptr;
        const auto call = [&](llama_context * of, const illava_prefill_params * params, const char * what) {
            refused("illava_prefill", illava_prefill(of, params, &trace), what);
            t.expect(!trace, "no trace of a refused call");
            refused("illava_prefill_begin", illava_prefill_begin(of, params, &run), what);
        };
        call(nullptr, &whole, "ctx");
        call(ctx, nullptr, "params");
        auto params = whole;
        params.tokens = nullptr;
        call(ctx, &params, "tokens");
        params = whole;
        params.pos = nullptr;
        call(ctx, &params, "pos");
        params = whole;
        params.spans = nullptr;
        call(ctx, &params, "spans");
        params = whole;
        auto span = whole.spans[0];
        span.r = nullptr;
        params.spans = &span;
        call(ctx, &params, "a span's r");
        refused("illava_prefill_begin", illava_prefill_begin(ctx, &whole, nullptr), "out");
        params = whole;
        params.embd = nullptr; // is no NULL that is always needed: the rows of the image miss theirs
        t.expect(illava_prefill(ctx, &params, nullptr) == ILLAVA_BAD_ARG, "an image without embeddings");

        bool done = false;
        refused("illava_prefill_step", illava_prefill_step(nullptr, &done, &trace), "run");
        t.expect(illava_prefill_begin(ctx, &whole, &run) == ILLAVA_OK, "a prefill begins");
        refused("illava_prefill_step", illava_prefill_step(run, nullptr, &trace), "done");
        illava_prefill_free(run);
        illava_prefill_free(nullptr);
        called.insert("illava_prefill_free");

        t.expect(illava_prefill(ctx, &whole, &trace) == ILLAVA_OK, "a prefill");
        const trace_ptr owner(trace);
        illava_step step = {};
        step.size = sizeof(step);
        const float * rows = nullptr;
        size_t        n    = 0;
        is_nothing("illava_trace_n_steps", illava_trace_n_steps(nullptr) == 0);
        refused("illava_trace_step", illava_trace_step(nullptr, 0, &step), "trace");
        refused("illava_trace_step", illava_trace_step(trace, 0, nullptr), "out");
        refused("illava_trace_residual", illava_trace_residual(nullptr, 0, &rows, &n), "trace");
        refused("illava_trace_residual", illava_trace_residual(trace, 0, nullptr, &n), "rows");
        refused("illava_trace_residual", illava_trace_residual(trace, 0, &rows, nullptr), "n_floats");
        illava_trace_free(nullptr);
        called.insert("illava_trace_free");
    }

    void grammar(const llama_model * model) {
        const char * text = "root ::= [a-z]+";
        llama_sampler * out = nullptr;
        refused("illava_sampler_grammar", illava_sampler_grammar(nullptr, text, "root", &out), "model");
        refused("illava_sampler_grammar", illava_sampler_grammar(model, nullptr, "root", &out), "grammar");
        refused("illava_sampler_grammar", illava_sampler_grammar(model, text, nullptr, &out), "root");
        refused("illava_sampler_grammar", illava_sampler_grammar(model, text, "root", nullptr), "out");

        t.expect(illava_sampler_grammar(model, text, "root", &out) == ILLAVA_OK, "a grammar");
        llama_token_data       one  = { 3, 0.0f, 0.0f };
        llama_token_data_array list = { &one, 1, -1, false };
        refused("illava_sampler_apply", illava_sampler_apply(nullptr, &list), "sampler");
        refused("illava_sampler_apply", illava_sampler_apply(out, nullptr), "candidates");
        list.data = nullptr;
        refused("illava_sampler_apply", illava_sampler_apply(out, &list), "data");
        refused("illava_sampler_accept", illava_sampler_accept(nullptr, 0), "sampler");

        // llama.cpp throws for both, which would cross whatever called it
        one.id    = 1 << 30;
        list.data = &one;
        t.expect(illava_sampler_apply(out, &list) == ILLAVA_INTERNAL, "a token beyond the vocabulary is offered");
        t.expect(illava_sampler_accept(out, 1 << 30) == ILLAVA_INTERNAL, "a token beyond the vocabulary is taken");
        llama_sampler_free(out);

        for (const std::string & wrong : { std::string(), std::string("root ::= ("), std::string("other ::= \"a\""),
                std::string("root ::= root \"a\""), std::string("root ::= missing"),
                "root ::= " + std::string(20000, '(') + "\"a\"" + std::string(20000, ')') }) {
            t.expect(illava_sampler_grammar(model, wrong.c_str(), "root", &out) == ILLAVA_BAD_ARG && !out,
                "a grammar is refused: " + wrong.substr(0, 40));
            t.expect(strlen(illava_last_error()) > 0 && strlen(illava_last_error()) < 200, "with a short reason");
        }
    }

    void machines() {
        ggml_backend_dev_t device = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
        refused("illava_rpc_connect", illava_rpc_connect(nullptr), "endpoint");
        t.expect(illava_rpc_connect("no address") == ILLAVA_INTERNAL, "an address without a port is an error");
        t.expect(illava_rpc_connect("127.0.0.1:1") == ILLAVA_INTERNAL, "nobody there is an error");
        refused("illava_rpc_serve", illava_rpc_serve(nullptr, nullptr, 1, &device, 1), "endpoint");
        refused("illava_rpc_serve", illava_rpc_serve("127.0.0.1:0", nullptr, 1, nullptr, 1), "devices");
        t.expect(illava_rpc_serve("127.0.0.1:0", nullptr, 0, &device, 1) == ILLAVA_BAD_ARG, "no threads");
        t.expect(illava_rpc_serve("nowhere:1", nullptr, 1, &device, 1) == ILLAVA_BAD_ARG, "an address of no machine");
    }

    void sizes(const vision_ptr & loaded) {
        auto params = illava_encode_default_params();
        params.strategy = ILLAVA_STRATEGY_PRUNE;
        params.size = offsetof(illava_encode_params, strategy); // as before the field was there
        params.n_threads = 1;
        const uint32_t grid = describe(loaded).image_size/describe(loaded).patch_size;
        uint32_t n = 0;
        const auto count = [&] { return illava_encoded_n_tokens(loaded.get(), grid, grid, &params, &n); };
        t.expect(count() == ILLAVA_OK && n == grid*grid, "a shorter struct is read as far as it goes");
        const int32_t nonsense = 1000;
        memcpy(&params.strategy, &nonsense, sizeof(nonsense));
        t.expect(count() == ILLAVA_OK, "and no further");
        params.size = sizeof(params);
        t.expect(count() == ILLAVA_BAD_ARG, "the whole one is read whole");
        params.strategy = ILLAVA_STRATEGY_MERGE;
        for (size_t size : { size_t(0), sizeof(size_t) - 1, sizeof(params) + 1 }) {
            params.size = size;
            t.expect(count() == ILLAVA_BAD_ARG, "a size of " + std::to_string(size) + " is refused");
        }

        illava_vision_info info;
        memset(&info, 0x55, sizeof(info));
        info.size = offsetof(illava_vision_info, n_embd);
        int32_t untouched;
        t.expect(illava_vision_describe(loaded.get(), &info) == ILLAVA_OK, "a shorter result");
        memcpy(&untouched, &info.n_embd, sizeof(untouched));
        t.expect(info.n_layer > 0 && info.n_layer < 100 && untouched == 0x55555555, "is written as far as it goes");
        t.expect(info.size == offsetof(illava_vision_info, n_embd), "and keeps its size");
    }

    // No model is needed: what is NULL is told first.
    void scorers() {
        const auto params = illava_scorer_default_params();
        illava_scorer * out = nullptr;
        refused("illava_scorer_load", illava_scorer_load(nullptr, &params, &out), "path");
        refused("illava_scorer_load", illava_scorer_load("x", nullptr, &out), "params");
        refused("illava_scorer_load", illava_scorer_load("x", &params, nullptr), "out");
        t.expect(illava_scorer_load("/no/such/file", &params, &out) == ILLAVA_BAD_FILE && !out, "a file that is not there");
        const clip_file projector;
        t.expect(illava_scorer_load(projector.path.c_str(), &params, &out) == ILLAVA_BAD_FILE
            && std::string(illava_last_error()).find("not a text-image model") != std::string::npos, "a projector is no text-image model");
        illava_scorer_info info = {};
        info.size = sizeof(info);
        refused("illava_scorer_describe", illava_scorer_describe(nullptr, &info), "scorer");
        const int32_t token = 0;
        float feature = 0;
        refused("illava_scorer_text", illava_scorer_text(nullptr, &token, 1, 0, &feature), "scorer");
        const auto images = illava_scorer_default_images();
        refused("illava_scorer_score", illava_scorer_score(nullptr, &images), "scorer");
        illava_scorer_free(nullptr);
        called.insert("illava_scorer_free");
    }

    // Nothing of the header is left out above.
    void every_function_was_called() {
        called.insert({ "illava_last_error", "illava_version", "illava_rpc_version", "illava_log_set", "illava_vision_default_params",
            "illava_encode_default_params", "illava_context_default_params", "illava_prefill_default_params",
            "illava_scorer_default_params", "illava_scorer_default_images" });
        std::ifstream file(ILLAVA_HEADER);
        std::stringstream header;
        header << file.rdbuf();
        const std::string text = std::regex_replace(header.str(), std::regex("//[^\n]*"), "");
        const std::regex declared("LLAMA_API[^;(]*\\b(illava_\\w+)\\(");
        size_t n = 0;
        for (std::sregex_iterator it(text.begin(), text.end(), declared), end; it != end; ++it, ++n) {
            t.expect(called.count((*it)[1]) == 1, "a call of " + (*it)[1].str() + " with NULLs");
        }
        t.expect(n == called.size(), std::to_string(n) + " functions in the header, " + std::to_string(called.size()) + " called");
    }
};

} // namespace

int main() {
    checks t;
    illava_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    llama_backend_init();
    t.expect(illava_version() == ILLAVA_VERSION, "the library's version is the header's");
    t.expect(illava_rpc_version() > 7 << 16, "the RPC protocol is not stock llama.cpp's");

    suite s{ t, {} };
    s.vision();
    s.decoder();
    s.machines();
    s.scorers();
    s.sizes(load_vision(clip_file().path));
    s.every_function_was_called();
    llama_backend_free();
    return t.finish();
}
