// A picture reaches the encoder exactly as upstream takes it: the embeddings of illava_image_from_rgb() and
// illava_encode() are those of mtmd's own path, bit for bit, for pictures of any shape.
//
// Models: the tiny pairs of tools/make_model.py in $ILLAVA_TEST_MODELS.

#include "illava.h"
#include "mtmd.h"

#include "text-fixture.h"
#include "vision-fixture.h"

#include <cstring>

namespace {

template <auto release> using handle = fixture::releaser<release>;

using mtmd_ptr    = std::unique_ptr<mtmd_context,      handle<mtmd_free>>;
using bitmap_ptr  = std::unique_ptr<mtmd_bitmap,       handle<mtmd_bitmap_free>>;
using chunks_ptr  = std::unique_ptr<mtmd_input_chunks, handle<mtmd_input_chunks_free>>;

struct size { uint32_t nx, ny; };

std::vector<uint8_t> picture(size s) {
    std::vector<uint8_t> rgb(size_t(s.nx)*s.ny*3);
    uint32_t state = s.nx*31 + s.ny;
    for (size_t i = 0; i < rgb.size(); ++i) {
        state  = state*1664525u + 1013904223u;
        rgb[i] = uint8_t((i/3%s.nx/5 + i/3/s.nx/7)%2*120 + (state >> 25));
    }
    return rgb;
}

std::vector<float> by_mtmd(mtmd_context * ctx, size_t n_embd, const std::vector<uint8_t> & rgb, size s) {
    bitmap_ptr bitmap(mtmd_bitmap_init(s.nx, s.ny, rgb.data()));
    chunks_ptr chunks(mtmd_input_chunks_init());

    const char *        marker    = mtmd_default_marker();
    mtmd_input_text     text      = { marker, strlen(marker), true, true };
    const mtmd_bitmap * bitmaps[] = { bitmap.get() };
    if (mtmd_tokenize(ctx, chunks.get(), &text, bitmaps, 1) != 0) {
        return {};
    }

    std::vector<float> res;
    for (size_t i = 0; i < mtmd_input_chunks_size(chunks.get()); ++i) {
        const auto * chunk = mtmd_input_chunks_get(chunks.get(), i);
        if (mtmd_input_chunk_get_type(chunk) != MTMD_INPUT_CHUNK_TYPE_IMAGE) {
            continue;
        }
        if (mtmd_encode_chunk(ctx, chunk) != 0) {
            return {};
        }
        const float * embd = mtmd_get_output_embd(ctx);
        res.insert(res.end(), embd, embd + mtmd_input_chunk_get_n_tokens(chunk)*n_embd);
    }
    return res;
}

std::vector<float> by_illava(const fixture::vision_ptr & vision, const std::vector<uint8_t> & rgb, size s) {
    const auto image = fixture::make_image(vision, rgb, s.nx, s.ny);
    std::vector<float> res;
    for (size_t tile = 0; image && tile < illava_image_n_tiles(image.get()); ++tile) {
        const auto encoded = fixture::encode_tile(vision, image, fixture::encode_params({}), tile);
        if (!encoded) {
            return {};
        }
        const auto embd = fixture::values(fixture::view_of(encoded));
        res.insert(res.end(), embd.begin(), embd.end());
    }
    return res;
}

} // namespace

int main() {
    fixture::checks t;

    illava_log_set([](ggml_log_level, const char *, void *) {}, nullptr);
    llama_backend_init();

    for (const char * pair : { "siglip-qwen2-f32", "clip-llama-f32", "qwen2vl-f32", "siglip-qwen2-f16" }) {
        const std::string mmproj = fixture::test_models() + "/" + pair + "/mmproj.gguf";
        const auto        model  = fixture::load_text(pair);

        auto upstream_params = mtmd_context_params_default();
        upstream_params.use_gpu       = false;
        upstream_params.print_timings = false;
        upstream_params.n_threads     = 1;
        upstream_params.warmup        = false;
        mtmd_ptr upstream(model ? mtmd_init_from_file(mmproj.c_str(), model.get(), upstream_params) : nullptr);

        const auto vision = fixture::load_vision(mmproj);
        if (!t.expect(model && upstream && vision, std::string(pair) + " loads")) {
            continue;
        }

        for (size s : std::vector<size>{ { 80, 80 }, { 200, 200 }, { 150, 60 }, { 33, 97 }, { 20, 20 }, { 260, 180 } }) {
            const auto rgb      = picture(s);
            const auto expected = by_mtmd(upstream.get(), llama_model_n_embd_inp(model.get()), rgb, s);
            const auto got      = by_illava(vision, rgb, s);
            t.expect(!expected.empty() && got == expected,
                    std::string(pair) + ": a picture of " + std::to_string(s.nx) + "x" + std::to_string(s.ny) +
                    " gives upstream's embeddings (" + std::to_string(got.size()) + " and " + std::to_string(expected.size()) + " values)");
        }
    }

    llama_backend_free();
    return t.finish();
}
