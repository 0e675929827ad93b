// The CUDA kernels of the attention-received score, run on the CPU by emulation, against float64.

#include "cuda-emulation-mma.h"

#include "ggml-cuda/illava-score-run.cuh"
#include "score-cases.h"

#include <cstring>

namespace {

using score::score_case;

constexpr cuda::schedule forward  = { /*warp_by_warp =*/ false, /*late_copies =*/ true  };
constexpr cuda::schedule backward = { /*warp_by_warp =*/ true,  /*late_copies =*/ false };

score_type type_of(ggml_type type) {
    switch (type) {
        case GGML_TYPE_F32:  return score_type::f32;
        case GGML_TYPE_F16:  return score_type::f16;
        case GGML_TYPE_BF16: return score_type::bf16;
        case GGML_TYPE_Q8_0: return score_type::q8_0;
        case GGML_TYPE_Q4_0: return score_type::q4_0;
        default: GGML_ABORT("no kernel for this type");
    }
}

// Memory as a card gives it: aligned, and holding whatever was there.
class device_memory {
public:
    explicit device_memory(size_t bytes) : data_((bytes + 255) / 256 * 64, std::numeric_limits<float>::quiet_NaN()) {}
    template <typename T> T * at() {
        return (T *) ((uintptr_t(data_.data()) + 255) / 256 * 256);
    }
    static device_memory of(size_t bytes) { return device_memory(bytes + 256); }

private:
    std::vector<float> data_;
};

struct operands_on_device {
    fixture::graph  g;
    ggml_tensor   * q;
    ggml_tensor   * k;
    ggml_tensor   * mask = nullptr;
    score::operands stored;

    explicit operands_on_device(const score_case & c) {
        const auto place = [&](ggml_type type, int64_t n, int64_t heads) {
            return c.permuted ? g.input(type, c.d, heads, n) : g.input(type, c.d, n, heads);
        };
        q = place(GGML_TYPE_F32, c.n_q, c.n_head);
        k = place(c.k_type, c.n_kv, c.n_head_kv);
        if (c.mask != score::mask_kind::none) {
            mask = g.input(c.mask_type, c.n_kv, c.n_q + 3);
        }
        g.output(ggml_scale(g.ctx(), q, 1.0f)); // the fixture wants a graph
        g.allocate();
        stored = score::fill(c, q, k, mask);
    }

    score_operand operand(const score_case & c, const ggml_tensor * x) const {
        return { (const char *) x->data, c.permuted ? x->nb[2] : x->nb[1], c.permuted ? x->nb[1] : x->nb[2] };
    }
};

std::vector<float> run(const score_case & c, const operands_on_device & x, bool tensor_cores, cuda::schedule order) {
    const score_plan p = score_make_plan({ c.d, c.n_q, c.n_head, c.n_kv, c.n_head_kv, type_of(c.k_type) }, tensor_cores);
    device_memory packed_q = device_memory::of(p.q_bytes);
    device_memory packed_k = device_memory::of(p.k_bytes);
    device_memory lse      = device_memory::of(p.lse_bytes);
    device_memory partial  = device_memory::of(p.partial_bytes);

    std::vector<float> out(c.n_kv, std::numeric_limits<float>::quiet_NaN());
    cuda::launcher launch = { order };
    score_run(launch, p, x.operand(c, x.q), x.operand(c, x.k),
        x.mask ? x.mask->data : nullptr, x.mask && x.mask->type == GGML_TYPE_F16, 1.0f / std::sqrt(float(c.d)),
        { packed_q.at<void>(), packed_k.at<void>(), lse.at<float>(), partial.at<float>() }, out.data());
    return out;
}

void test_case(fixture::checks & t, const score_case & c) {
    const operands_on_device  x(c);
    const std::vector<double> expected = score::reference(c, x.stored, 1.0f / std::sqrt(float(c.d)));
    const int64_t             work     = c.n_q * c.n_kv * c.n_head * c.d;

    for (bool tensor_cores : { true, false }) {
        const std::string name = c.name() + (tensor_cores ? ", tensor cores" : ", scalar");
        const std::vector<float> scores = run(c, x, tensor_cores, forward);
        const double error = score::error(scores, expected);
        t.expect(error <= 1e-5, name + ": error " + std::to_string(error));
        if (c.equal_keys) {
            t.expect(score::equal_keys_have_equal_scores(c, scores), name + ": equal keys, different scores");
        }
        if (work < 3'000'000) {
            const std::vector<float> again = run(c, x, tensor_cores, backward);
            t.expect(memcmp(scores.data(), again.data(), scores.size() * sizeof(float)) == 0,
                name + ": the order of the threads shows in the result");
        }
    }
}

// Sizes of the scratch memory, as the documentation promises them.
void test_scratch(fixture::checks & t) {
    for (bool tensor_cores : { true, false }) {
        for (int64_t n : { 729, 2916, 6272 }) {
            for (int64_t heads : { 16, 28 }) {
                const score_plan p = score_make_plan({ 128, n, heads, n, heads / 4, score_type::f16 }, tensor_cores);
                const size_t keys  = size_t(heads / 4) * size_t(n + 63) * 128 * 4;
                const size_t limit = (size_t(16) << 20) + keys + 4 * size_t(n + 63) * size_t(heads) * 9;
                t.expect(p.bytes() <= limit, "scratch of n=" + std::to_string(n) + " heads=" + std::to_string(heads) +
                    ": " + std::to_string(p.bytes()) + " bytes, promised are " + std::to_string(limit));
            }
        }
    }
}

} // namespace

int main() {
    fixture::checks t;
    for (const score_case & c : score::all_cases()) {
        test_case(t, c);
    }
    // The packed queries are gone through head by head, and the column pass in several ranges.
    test_case(t, { 1100, 130, 128, 30, 6, GGML_TYPE_F16, score::mask_kind::causal });
    test_case(t, { 40, 70, 256, 4, 2, GGML_TYPE_F16 }); // beyond the tensor cores' head sizes
    test_scratch(t);
    return t.finish();
}
