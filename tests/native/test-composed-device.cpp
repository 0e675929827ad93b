// A GPU without the score operation: merged graphs stay on it, from patches to embeddings and through the
// segments of the decoder, and give what the fused operation gives.
//
// Models: tiny projector files written here; text models of tools/make_model.py in $ILLAVA_TEST_MODELS.

#include "graph-fixture.h"
#include "illava-vision.h"
#include "illava.h"
#include "limited-device.h"
#include "llama-context.h"
#include "projector-fixture.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <set>

namespace {

template <auto release> struct releaser {
    template <typename T> void operator()(T * handle) const { release(handle); }
};
using vision_ptr  = std::unique_ptr<illava_vision,  releaser<illava_vision_free>>;
using image_ptr   = std::unique_ptr<illava_image,   releaser<illava_image_free>>;
using encoded_ptr = std::unique_ptr<illava_encoded, releaser<illava_encoded_free>>;
using model_ptr   = std::unique_ptr<llama_model,    releaser<llama_model_free>>;
using context_ptr = std::unique_ptr<llama_context,  releaser<llama_free>>;
using trace_ptr   = std::unique_ptr<illava_trace,   releaser<illava_trace_free>>;

double distance(const std::vector<float> & a, const std::vector<float> & b) {
    double diff = 0, norm = 0;
    for (size_t i = 0; i < std::min(a.size(), b.size()); i++) {
        diff += double(a[i] - b[i]) * (a[i] - b[i]);
        norm += double(b[i]) * b[i];
    }
    return a.size() == b.size() && !a.empty() ? std::sqrt(diff / norm) : INFINITY;
}

// Everything that another backend than the device computed, apart from looking up token embeddings,
// which llama.cpp keeps with the host.
void expect_on_device(fixture::checks & t, const std::string & what, const fixture::split_recorder & recorder) {
    std::set<std::string> elsewhere;
    size_t n_nodes   = 0;
    bool   has_score = false;
    for (const auto & node : recorder.nodes()) {
        if (node.by_device) {
            n_nodes++;
            has_score |= node.op == GGML_OP_ATTN_SCORE;
        } else if (!node.looks_up_token) {
            elsewhere.insert(node.text);
        }
    }
    t.expect(!has_score, what + ": the score is composed");
    t.expect(n_nodes > 0, what + ": nothing ran on the device");
    for (const auto & node : elsewhere) {
        t.expect(false, what + ": left the device: " + node);
    }
    t.expect(elsewhere.empty(), what + ": stays on the device");
}

vision_ptr load_vision(const std::string & path, bool use_gpu, int flash_attn) {
    illava_vision_params params = {};
    params.size       = sizeof(params);
    params.use_gpu    = use_gpu;
    params.flash_attn = flash_attn;
    params.n_threads  = 1;
    illava_vision * vision = nullptr;
    illava_vision_load(path.c_str(), &params, &vision);
    return vision_ptr(vision);
}

struct encoder_result {
    std::vector<float>   embd;
    std::vector<int32_t> kept;
};

encoder_result encode(
        illava_vision * vision, const std::vector<illava_merge_step> & steps, illava_grid grid,
        enum illava_strategy strategy = ILLAVA_STRATEGY_MERGE) {
    std::vector<uint8_t> rgb(128 * 96 * 3);
    std::mt19937 random(5);
    std::generate(rgb.begin(), rgb.end(), [&] { return uint8_t(random()); });
    illava_image * image = nullptr;
    illava_image_from_rgb(vision, rgb.data(), 128, 96, &image);
    const image_ptr owner(image);

    illava_encode_params params = {};
    params.size      = sizeof(params);
    params.steps     = steps.data();
    params.n_steps   = steps.size();
    params.grid      = grid;
    params.n_threads = 1;
    params.strategy    = strategy;
    params.count_sizes = strategy != ILLAVA_STRATEGY_MERGE;
    illava_encoded * encoded = nullptr;
    if (illava_encode(vision, image, 0, &params, &encoded) != ILLAVA_OK) {
        printf("  %s\n", illava_last_error());
        return {};
    }
    const encoded_ptr holder(encoded);
    return { encoded->embd, encoded->kept };
}

void test_encoder(fixture::checks & t, fixture::family kind, const std::string & name, ggml_backend_dev_t device) {
    const auto path = (std::filesystem::temp_directory_path() / ("illava-composed-" + name + ".gguf")).string();
    fixture::projector_shape shape;
    shape.n_embd = 64; // heads of 32, which every backend's flash attention takes
    fixture::projector_file(kind, 1, shape).write(path);

    const bool qwen = kind == fixture::family::qwen2vl;
    const std::vector<illava_merge_step> steps = { { 1, 8 }, { 2, 4 }, { 3, 12 } };

    for (int flash_attn : { 0, 1 }) {
        const auto on_cpu    = load_vision(path, false, flash_attn);
        const auto on_device = load_vision(path, true,  flash_attn);
        if (!t.expect(on_cpu && on_device, name + " loads")) {
            continue;
        }
        t.expect(ggml_backend_get_device(on_device->parts.backend) == device, name + ": the tower is on the device");

        for (auto strategy : { ILLAVA_STRATEGY_MERGE, ILLAVA_STRATEGY_BIPARTITE, ILLAVA_STRATEGY_ASSIGN })
        for (auto grid : { ILLAVA_GRID_FAITHFUL, ILLAVA_GRID_REFERENCE }) {
            if (!qwen && grid == ILLAVA_GRID_REFERENCE) {
                continue; // without groups the two are one
            }
            const std::string what = name + ", strategy " + std::to_string(strategy) + (flash_attn ? ", flash attention" : "") +
                (grid == ILLAVA_GRID_REFERENCE ? ", reference grid" : "");
            const auto fused = encode(on_cpu.get(), steps, grid, strategy);

            fixture::split_recorder recorder(on_device->parts.sched);
            const auto composed = encode(on_device.get(), steps, grid, strategy);
            expect_on_device(t, what, recorder);
            t.expect(ggml_backend_sched_get_n_splits(on_device->parts.sched) == 1, what + ": one split, no way back to the host");

            t.expect(!fused.kept.empty() && composed.kept == fused.kept, what + ": keeps what the CPU keeps");
            // flash attention rounds keys and values to f16, so that a last bit of difference before it grows
            const double apart = distance(composed.embd, fused.embd);
            t.expect(apart < (flash_attn ? 3e-4 : 1e-4), what + ": embeddings of the CPU, apart by " + std::to_string(apart));
        }
    }
    std::filesystem::remove(path);
}

model_ptr load_text(const std::string & path, ggml_backend_dev_t device) {
    std::array<ggml_backend_dev_t, 2> devices = { device, nullptr };
    auto params = llama_model_default_params();
    params.devices      = devices.data();
    params.n_gpu_layers = device ? 999 : 0;
    return model_ptr(llama_model_load_from_file(path.c_str(), params));
}

struct decoder_result {
    std::vector<float>                logits;
    std::vector<std::vector<int32_t>> kept;
};

// Text, a picture of 64 rows in a square, text.
decoder_result prefill(llama_context * ctx, const std::vector<int32_t> & r, illava_score score) {
    const llama_model * model = llama_get_model(ctx);
    const int32_t n_pos = illava_model_n_pos(model), n_embd = llama_model_n_embd(model), side = 8, n = side * side;
    const std::vector<llama_token> before = { 5, 6, 7 }, after = { 8, 9 };
    const int32_t n_rows = int32_t(before.size()) + n + int32_t(after.size());

    std::vector<llama_token> tokens(before);
    tokens.insert(tokens.end(), n, -1);
    tokens.insert(tokens.end(), after.begin(), after.end());

    std::vector<float> embd(size_t(n_rows) * n_embd, 0.0f);
    const auto rows = fixture::normal(size_t(n) * n_embd, 0.5f, 1);
    std::copy(rows.begin(), rows.end(), embd.begin() + before.size() * n_embd);

    std::vector<llama_pos> pos(size_t(n_pos) * n_rows, 0);
    for (int32_t i = 0; i < n_rows; i++) {
        const int32_t cell = i - int32_t(before.size());
        const bool    text = cell < 0 || cell >= n;
        const int32_t width = n_pos > 1 ? side : n; // positions that the picture takes
        const int32_t first = text ? (cell < 0 ? i : int32_t(before.size()) + width + cell - n) : int32_t(before.size());
        for (int32_t axis = 0; axis < n_pos; axis++) {
            const int32_t step = text || axis == 3 ? 0 : n_pos == 1 ? cell : axis == 0 ? 0 : axis == 1 ? cell / side : cell % side;
            pos[size_t(axis) * n_rows + i] = axis == 3 ? 0 : first + step;
        }
    }

    illava_span span = { int32_t(before.size()), n, r.data() };
    illava_prefill_params p = {};
    p.size        = sizeof(p);
    p.n_rows      = n_rows;
    p.tokens      = tokens.data();
    p.embd        = embd.data();
    p.pos         = pos.data();
    p.spans       = &span;
    p.n_spans     = 1;
    p.score       = score;
    p.logits_last = true;

    illava_trace * trace = nullptr;
    const auto status = illava_prefill(ctx, &p, &trace);
    const trace_ptr owner(trace);
    if (status != ILLAVA_OK) {
        printf("  %s\n", illava_last_error());
        return {};
    }
    decoder_result res;
    const float * row = llama_get_logits_ith(ctx, -1);
    res.logits.assign(row, row + llama_vocab_n_tokens(llama_model_get_vocab(model)));
    for (size_t i = 0; i < illava_trace_n_steps(trace); i++) {
        illava_step step = {};
        step.size = sizeof(step);
        illava_trace_step(trace, i, &step);
        res.kept.emplace_back(step.kept, step.kept + step.n_out);
    }
    return res;
}

context_ptr make_context(llama_model * model, const std::vector<int32_t> & layers, int flash_attn, ggml_type type) {
    illava_context_params p = {};
    p.size            = sizeof(p);
    p.n_ctx           = 256;
    p.n_batch         = 256;
    p.n_ubatch        = 48; // the picture goes over more than one
    p.n_seq_max       = 1;
    p.n_threads       = 1;
    p.n_threads_batch = 1;
    p.flash_attn      = flash_attn;
    p.type_k          = type;
    p.type_v          = type;
    p.offload_kqv     = true;
    p.kv_unified      = true;
    p.merge_layers    = layers.data();
    p.n_merge_layers  = layers.size();
    llama_context * ctx = nullptr;
    if (illava_context_new(model, &p, &ctx) != ILLAVA_OK) {
        printf("  %s\n", illava_last_error());
    }
    return context_ptr(ctx);
}

void test_decoder(fixture::checks & t, const std::string & dir, const std::string & pair, ggml_backend_dev_t device) {
    const auto on_cpu    = load_text(dir + "/" + pair + "/text.gguf", nullptr);
    const auto on_device = load_text(dir + "/" + pair + "/text.gguf", device);
    if (!t.expect(on_cpu && on_device, pair + " loads")) {
        return;
    }
    const bool wide = pair.find("wide") != std::string::npos; // in heads; it has three layers
    const std::vector<int32_t> layers = { wide ? 1 : 2, wide ? 2 : 5 }, r = { 19, 8 };

    for (ggml_type type : { GGML_TYPE_F16, GGML_TYPE_Q8_0 }) {
        if (type == GGML_TYPE_Q8_0 && !wide) {
            continue; // rows of 32 elements are needed
        }
        for (int flash_attn : { 0, 1 }) {
            if (type == GGML_TYPE_Q8_0 && flash_attn == 0) {
                continue; // a quantised V cache needs it
            }
            for (auto score : { ILLAVA_SCORE_IMAGE, ILLAVA_SCORE_LAST_TOKEN }) {
                const std::string what = pair + ", " + ggml_type_name(type) + (flash_attn ? ", flash attention" : "") +
                    (score == ILLAVA_SCORE_LAST_TOKEN ? ", last token" : "");
                const auto cpu_ctx    = make_context(on_cpu.get(),    layers, flash_attn, type);
                const auto device_ctx = make_context(on_device.get(), layers, flash_attn, type);
                if (!t.expect(cpu_ctx && device_ctx, what + ": contexts")) {
                    continue;
                }
                const auto fused = prefill(cpu_ctx.get(), r, score);

                fixture::split_recorder recorder(device_ctx->get_sched());
                const auto composed = prefill(device_ctx.get(), r, score);
                expect_on_device(t, what, recorder);
                t.expect(fused.kept.size() == layers.size() && composed.kept == fused.kept, what + ": keeps what the fused score keeps");
                t.expect(distance(composed.logits, fused.logits) < 1e-3, what + ": logits of the fused score");
            }
        }
    }
}

} // namespace

int main() {
    fixture::checks t;

    const char * dir = std::getenv("ILLAVA_TEST_MODELS");
    if (!dir) {
        fprintf(stderr, "set ILLAVA_TEST_MODELS to the folder that tools/make_model.py wrote\n");
        return 1;
    }
    illava_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    ggml_backend_dev_t device = fixture::register_limited_device();

    test_encoder(t, fixture::family::clip,    "clip",    device);
    test_encoder(t, fixture::family::siglip,  "siglip",  device);
    test_encoder(t, fixture::family::janus,   "janus",   device);
    test_encoder(t, fixture::family::qwen2vl, "qwen2vl", device);

    for (const char * pair : { "siglip-qwen2-f32", "clip-llama-f32", "qwen2vl-f32", "siglip-qwen2-wide-f16" }) {
        test_decoder(t, dir, pair, device);
    }
    return t.finish();
}
