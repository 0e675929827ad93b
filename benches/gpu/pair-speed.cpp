// Encoder, prefill and time to the first token with merging off and on, in the shapes of real models.

#include "checks.h"
#include "pair.h"
#include "shapes.h"

#include <algorithm>
#include <filesystem>
#include <numeric>

namespace gpu {
namespace {

struct setting {
    tower_shape tower;
    schedule    tower_steps;
    std::vector<std::pair<std::string, decoder_shape>> decoders;
    int32_t     decoder_layer;
    int32_t     decoder_r;
};

// The `paper` schedule: 729 -> 361 in the tower, -> 253 from layer 2 of the language model on.
setting real_shapes() {
    return { { 384, 14, 1152, 16, 27, 4304, 0 },
             { { 3, 92 }, { 4, 92 }, { 5, 92 }, { 6, 92 } },
             { { "qwen2-0.5b", { 896, 24, 14, 2, 4864, 151936 } }, { "qwen2-7b", { 3584, 28, 28, 4, 18944, 152064 } } },
             2, 108 };
}

setting small_shapes() {
    return { { 84, 14, 64, 4, 7, 128, 0 },
             { { 2, 4 }, { 3, 4 } },
             { { "small", { 64, 4, 4, 2, 128, 512 } } },
             2, 8 };
}

int64_t removed(const schedule & steps) {
    return std::accumulate(steps.begin(), steps.end(), int64_t(0), [](int64_t sum, const illava_merge_step & s) { return sum + s.r; });
}

// A step leaves the attention of its layer whole and shortens its MLP: counted as if it came behind the layer.
double tower_flops(const tower_shape & shape, int32_t n_run, const schedule & steps) {
    int64_t n = shape.tokens();
    double  flops = 0.0;
    for (int32_t layer = 0; layer < n_run; layer++) {
        flops += shape.block_flops(n);
        for (const illava_merge_step & s : steps) {
            n -= s.layer == layer ? s.r : 0;
        }
    }
    return flops;
}

double decoder_flops(const decoder_shape & shape, int64_t n_visual, const schedule & steps) {
    int64_t n = n_visual + decoder::n_text_before + decoder::n_text_after;
    double  flops = 0.0;
    for (int64_t layer = 0; layer < shape.layers; layer++) {
        for (const illava_merge_step & s : steps) {
            n -= s.layer == layer ? s.r : 0;
        }
        flops += shape.layer_flops(n);
    }
    return flops;
}

json in_turn(const times & off, const times & on, double off_flops, double on_flops, double peak) {
    return { { "off", off.to_json() }, { "on", on.to_json() }, { "times_faster", off.median() / on.median() },
             { "share_of_peak_off", off_flops / (off.median() * 1e-3) / peak },
             { "share_of_peak_on",  on_flops  / (on.median()  * 1e-3) / peak } };
}

} // namespace

json measure_pairs(machine & m, bool small, double peak, int rounds, const std::string & work) {
    const setting set = small ? small_shapes() : real_shapes();
    json out;
    for (const auto & [name, shape] : set.decoders) {
        fprintf(stderr, "pair: %s\n", name.c_str());
        tower_shape tower_shape = set.tower;
        tower_shape.output = shape.width;

        // One pair on the disk at a time: the larger one is 16 GB.
        const std::string mmproj = work + "/mmproj.gguf", text = work + "/text.gguf";
        write_tower(mmproj, tower_shape);
        write_decoder(text, shape);
        tower   vision(mmproj, m.is_gpu(), m.n_threads());
        decoder model(text, m.is_gpu(), m.n_threads());
        std::filesystem::remove(mmproj);
        vision.picture(uint32_t(tower_shape.image), uint32_t(tower_shape.image));
        const int32_t n_run = vision.info().n_layer_run;

        const schedule off, text_steps = { { set.decoder_layer, set.decoder_r } };
        const double off_flops = tower_flops(tower_shape, n_run, off);
        const double on_flops  = tower_flops(tower_shape, n_run, set.tower_steps);

        json encoder;
        for (int tiles : { 1, 10 }) {
            const auto encode = [&](const schedule & steps) {
                return [&vision, &steps, tiles] {
                    for (int i = 0; i < tiles; i++) {
                        vision.encode(steps);
                    }
                };
            };
            const auto [a, b] = machine::time_in_turn(encode(off), encode(set.tower_steps), tiles == 1 ? rounds : std::max(5, rounds / 5));
            encoder["tiles_" + std::to_string(tiles)] = in_turn(a, b, tiles * off_flops, tiles * on_flops, peak);
        }

        const encoded full = vision.encode(off), merged = vision.encode(set.tower_steps);
        const int64_t n_off = full.n_tokens, n_on = merged.n_tokens;
        require(n_off == tower_shape.tokens() && n_on == n_off - removed(set.tower_steps), "the tower gave another number of tokens");

        // Two models share one set of weights: contexts are made anew for each side, outside the clock.
        const auto side = [&](bool on, const std::function<void()> & run) {
            model.context(on ? text_steps : off, int32_t(on ? n_on : n_off));
            for (int i = 0; i < 3; i++) {
                run();
            }
            times t;
            for (int i = 0; i < rounds; i++) {
                const int64_t begin = ggml_time_us();
                run();
                t.ms.push_back(1e-3 * double(ggml_time_us() - begin));
            }
            return t;
        };
        const auto prefill_off = [&] { model.prefill(full.embd,   int32_t(n_off), off); };
        const auto prefill_on  = [&] { model.prefill(merged.embd, int32_t(n_on),  text_steps); };
        const auto first_off   = [&] { const encoded e = vision.encode(off);             model.prefill(e.embd, e.n_tokens, off); };
        const auto first_on    = [&] { const encoded e = vision.encode(set.tower_steps); model.prefill(e.embd, e.n_tokens, text_steps); };

        const times    p_off = side(false, prefill_off), f_off = side(false, first_off);
        const uint64_t kv_off = model.kv_bytes(), compute_off = model.compute_bytes();
        const times    p_on = side(true, prefill_on), f_on = side(true, first_on);
        const uint64_t kv_on = model.kv_bytes(), compute_on = model.compute_bytes();

        const double n_text   = decoder::n_text_before + decoder::n_text_after;
        const double text_kv  = double(kv_off) * n_text / (n_text + double(n_off));
        out[name] = {
            { "tokens", { { "visual", n_off }, { "after_encoder", n_on }, { "upper_layers", n_on - removed(text_steps) }, { "text", n_text } } },
            { "encoder", encoder },
            { "prefill", in_turn(p_off, p_on, decoder_flops(shape, n_off, off), decoder_flops(shape, n_on, text_steps), peak) },
            { "first_token", { { "off", f_off.to_json() }, { "on", f_on.to_json() }, { "times_faster", f_off.median() / f_on.median() } } },
            { "visual_kv", { { "off_bytes", double(kv_off) - text_kv }, { "on_bytes", double(kv_on) - text_kv },
                             { "ratio", (double(kv_on) - text_kv) / (double(kv_off) - text_kv) } } },
            { "compute_bytes", { { "encoder", vision.compute_bytes() }, { "off", compute_off }, { "on", compute_on } } },
        };
        std::filesystem::remove(text);
    }
    return out;
}

} // namespace gpu
