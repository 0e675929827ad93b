// The score, fused and composed, against float64, and the plan against the processor's, on the device.

#include "checks.h"

#include "ggml-cpu.h"
#include "ggml-illava.h"
#include "illava-graph.h"
#include "score-cases.h"

namespace gpu {
namespace {

// Tensor cores add up with fewer bits than f32 has; a rounded operand would show as 1e-3.
constexpr double gpu_tolerance = 5e-5;
constexpr double cpu_tolerance = 1e-5;

// Backends round one operand or both to f16, bf16 or tf32 before they multiply.
constexpr double composed_tolerance = 5e-2;

void check_score(machine & m, const score::score_case & c, report & out) {
    device_graph g(m.backend());
    const auto place = [&](ggml_type type, int64_t n, int64_t heads) {
        return c.permuted ? g.input(type, c.d, heads, n) : g.input(type, c.d, n, heads);
    };
    const auto view = [&](ggml_tensor * x) { return c.permuted ? ggml_permute(g.ctx(), x, 0, 2, 1, 3) : x; };

    const float   scale = 1.0f / std::sqrt(float(c.d));
    ggml_tensor * q     = place(GGML_TYPE_F32, c.n_q, c.n_head);
    ggml_tensor * k     = place(c.k_type, c.n_kv, c.n_head_kv);
    ggml_tensor * mask  = c.mask == score::mask_kind::none ? nullptr : g.input(c.mask_type, c.n_kv, c.n_q + 3);

    const bool has_fused = illava_backend_has_score(m.backend(), view(q), view(k), mask);
    out.expect(has_fused, "score " + c.name(), "the device has no kernel for it");

    ggml_tensor * composed = ggml_attn_score_composed(g.ctx(), view(q), view(k), mask, scale);
    ggml_tensor * fused    = has_fused ? ggml_attn_score(g.ctx(), view(q), view(k), mask, scale) : composed;
    g.output(fused);
    g.output(composed);
    g.allocate();
    for (const std::string & op : g.unsupported()) {
        out.expect(false, "score " + c.name(), op + " is not for this device");
    }
    const score::operands     stored   = score::fill(c, q, k, mask);
    const std::vector<double> expected = score::reference(c, stored, scale);
    g.run();

    const std::vector<float> scores   = fixture::read<float>(fused);
    const double             error    = score::error(scores, expected);
    const double             composed_error = score::error(fixture::read<float>(composed), expected);
    const double             limit    = m.is_gpu() ? gpu_tolerance : cpu_tolerance;
    out.largest("score_error", has_fused ? error : 0.0);
    out.largest("composed_score_error", composed_error);
    out.expect(error <= limit || !has_fused, "score " + c.name(), "error " + std::to_string(error));
    out.expect(composed_error <= composed_tolerance, "composed score " + c.name(), "error " + std::to_string(composed_error));
    if (c.equal_keys && has_fused) {
        out.expect(score::equal_keys_have_equal_scores(c, scores), "score " + c.name(), "equal keys, different scores");
    }

    g.run();
    out.expect(fixture::read<float>(fused) == scores, "score " + c.name(), "another run, another result");
}

struct merged {
    std::vector<int32_t> kept, order;
    std::vector<float>   rows;
};

merged merge_on(ggml_backend_t backend, const std::vector<float> & scores, const std::vector<float> & rows, int64_t r, report & out) {
    const int64_t n = int64_t(scores.size());
    device_graph  g(backend);
    ggml_tensor * s = g.input(GGML_TYPE_F32, n);
    ggml_tensor * x = g.input(GGML_TYPE_F32, int64_t(rows.size()) / n, n);

    const illava_plan_tensors plan   = illava_build_plan(g.ctx(), s, r);
    ggml_tensor *             kept   = ggml_cont(g.ctx(), plan.kept);
    ggml_tensor *             order  = ggml_cont(g.ctx(), plan.order);
    ggml_tensor *             result = illava_build_merge(g.ctx(), x, plan);
    g.output(kept);
    g.output(order);
    g.output(result);
    g.allocate();
    for (const std::string & op : g.unsupported()) {
        out.expect(false, "merge of " + std::to_string(n), op + " is not for this device");
    }
    fixture::write(s, scores);
    fixture::write(x, rows);
    g.run();
    return { fixture::read<int32_t>(kept), fixture::read<int32_t>(order), fixture::read<float>(result) };
}

void check_merge(machine & m, int64_t n, int64_t r, bool ties, report & out) {
    std::vector<float> scores = fixture::normal(n, 1.0f, 3);
    for (float & s : scores) {
        s = ties ? std::floor(4.0f * s) : s;
    }
    const std::vector<float> rows = fixture::normal(n * 96, 1.0f, 4);
    const fixture::backend_ptr cpu(ggml_backend_cpu_init());
    const merged expected = merge_on(cpu.get(), scores, rows, r, out);
    const merged found    = merge_on(m.backend(), scores, rows, r, out);

    const std::string name = "merge " + std::to_string(r) + " of " + std::to_string(n) + (ties ? " with ties" : "");
    out.expect(found.kept == expected.kept && found.order == expected.order, name, "other tokens than on the processor");
    double worst = 0.0;
    for (size_t i = 0; i < expected.rows.size(); i++) {
        worst = std::max(worst, double(std::abs(found.rows[i] - expected.rows[i])));
    }
    out.expect(worst <= 1e-5, name, "rows differ by " + std::to_string(worst));
}

} // namespace

void check_ops(machine & m, bool quick, report & out) {
    for (const score::score_case & c : score::all_cases()) {
        if (!quick || c.n_q * c.n_kv * c.n_head < 200'000) {
            check_score(m, c, out);
        }
    }
    for (bool ties : { false, true }) {
        check_merge(m, 2, 1, ties, out);
        check_merge(m, 37, 12, ties, out);
        check_merge(m, 729, 92, ties, out);
        check_merge(m, 6272, 2000, ties, out); // the index goes into the sort digit by digit
    }
}

} // namespace gpu
