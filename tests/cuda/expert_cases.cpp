// Cases: experts whose rows are at the thresholds of kernels/cuda/expert_rows_hopper.cuh (tiles of 16 to 256
// tokens and 128 lines) and expert_weights_hopper.cuh (steps of 16 rows, buffers of 64, tiles of 128 x 256).
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "tests/cuda/card_cases.h"
#include "tests/kernels/expert_forms.h"
#include "tests/tolerance.h"

namespace hone::test {

namespace {

using kernels::Activation;
using kernels::WeightKind;

struct Routing {
  std::vector<std::int32_t> rows;  // of each expert
  std::int64_t top_k, lost;        // pairs of no expert
  std::int64_t pairs() const {
    std::int64_t sum = lost;
    for (const auto n : rows) sum += n;
    return (sum + top_k - 1) / top_k * top_k;
  }
};
struct Layer {
  std::int64_t hidden, ffn;
  ExpertForm form = {};
  std::int64_t pad = 0;   // numbers between rows of x and dy
  bool outliers = false;  // one number in a hundred is 1e4, and a row is of nothing else
  DType dy = DType::kF32, dx = DType::kF32, dweight = DType::kF32;
  bool accumulate = false, fp8 = false;
  double dy_scale = 1;
};

/// The plan of a routing, its pairs in random order.
struct Planned {
  Arena arena{5};
  kernels::MoePlanArgs plan;
  float* weights;
  Planned(Stream& stream, const Routing& r) {
    std::vector<std::int32_t> experts_of;
    for (std::size_t e = 0; e < r.rows.size(); ++e)
      experts_of.insert(experts_of.end(), static_cast<std::size_t>(r.rows[e]), static_cast<std::int32_t>(e));
    experts_of.resize(static_cast<std::size_t>(r.pairs()), -1);
    std::shuffle(experts_of.begin(), experts_of.end(), arena.random());
    plan.experts_of = arena.integers(experts_of);
    plan.experts = static_cast<std::int64_t>(r.rows.size());
    plan.top_k = r.top_k;
    plan.tokens = r.pairs() / r.top_k;
    plan.counts = arena.integer_output("", plan.experts);
    plan.offsets = arena.integer_output("", plan.experts + 1);
    plan.permutation = arena.integer_output("", r.pairs());
    plan.inverse = arena.integer_output("", r.pairs());
    weights = static_cast<float*>(arena.input(plan.tokens, r.top_k, DType::kF32).data);
    input_kernels().moe_plan(plan, stream);
  }
};

/// bf16, of which one number in a hundred is 1e4, and a row is of nothing else.
Matrix input_with_outliers(Arena& arena, std::int64_t rows, std::int64_t cols) {
  Arena plain(7);
  const Matrix numbers = plain.input(rows, cols, DType::kBF16);
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < cols; ++j)
      if ((i * cols + j) % 101 == 7 || i == 3) set(numbers, i, j, j % 2 == 0 ? 1e4 : -1e4);
  std::vector<std::int32_t> words(static_cast<std::size_t>(rows * cols / 2));
  std::memcpy(words.data(), numbers.data, words.size() * 4);
  return {arena.integers(words), DType::kBF16, rows, cols, cols};
}

kernels::ExpertsArgs arguments(Arena& arena, const Planned& planned, const Layer& layer) {
  kernels::ExpertsArgs a;
  a.x = layer.outliers ? input_with_outliers(arena, planned.plan.tokens, layer.hidden)
                       : arena.input(planned.plan.tokens, layer.hidden, DType::kBF16, layer.pad);
  set_form(a, arena, layer.form, DType::kBF16, planned.plan.experts, layer.hidden, layer.ffn);
  a.fp8 = layer.fp8;
  a.weights = planned.weights;
  a.offsets = planned.plan.offsets;
  a.permutation = planned.plan.permutation;
  a.inverse = planned.plan.inverse;
  a.top_k = planned.plan.top_k;
  return a;
}

Outputs run_forward(const KernelTable& table, Stream& stream, const Routing& routing, const Layer& layer) {
  const Planned planned(stream, routing);
  Arena arena;
  kernels::ExpertsArgs a = arguments(arena, planned, layer);
  const Matrix pre = arena.output("pre_activation", routing.pairs(), a.inner(), DType::kBF16, false,
                                  tolerance(DType::kBF16, layer.hidden));
  a.wants_pre_activation = true;
  a.pre_activation = pre.data;
  for (std::int64_t i = planned.plan.offsets[planned.plan.experts]; i < pre.rows;
       ++i)  // rows that nobody writes
    for (std::int64_t j = 0; j < pre.cols; ++j) set(pre, i, j, 0);
  a.y = arena.output("y", planned.plan.tokens, layer.hidden, layer.form.y, false,
                     tolerance(DType::kBF16, layer.hidden + layer.ffn));
  table.experts(a, stream);
  return arena.outputs();
}

Outputs run_gradient(const KernelTable& table, Stream& stream, const Routing& routing, const Layer& layer) {
  const Planned planned(stream, routing);
  Arena forward, arena(2);
  kernels::ExpertsGradArgs g;
  g.forward = arguments(forward, planned, layer);
  const std::int64_t inner = g.forward.inner(), experts = planned.plan.experts;
  g.forward.wants_pre_activation = true;
  g.forward.pre_activation = forward.output("", routing.pairs(), inner, DType::kBF16, false, 1).data;
  g.forward.y = forward.output("", planned.plan.tokens, layer.hidden, DType::kF32, false, 1);
  input_kernels().experts(g.forward, stream);
  g.dy = arena.input(planned.plan.tokens, layer.hidden, layer.dy, layer.pad, layer.dy_scale);
  const auto tol = [&](DType out) {  // as in tests/kernels/moe_cases.cpp
    return 2 * tolerance(narrower(DType::kBF16, out), layer.hidden + layer.ffn + planned.plan.tokens);
  };
  g.accumulate_dx = g.accumulate_dgate_up = g.accumulate_ddown = layer.accumulate;
  g.dx = arena.output("dx", planned.plan.tokens, layer.hidden, layer.dx, layer.accumulate, tol(layer.dx));
  g.wants_dweights = g.wants_dgate_up = g.wants_ddown = true;
  g.dweights = static_cast<float*>(
      arena.output("dweights", planned.plan.tokens, routing.top_k, DType::kF32, false, tol(DType::kF32))
          .data);
  g.dgate_up_dtype = g.ddown_dtype = layer.dweight;
  g.dgate_up = arena
                   .output("dgate_up", experts * inner, layer.hidden, layer.dweight, layer.accumulate,
                           tol(layer.dweight))
                   .data;
  g.ddown = arena
                .output("ddown", experts * layer.hidden, layer.ffn, layer.dweight, layer.accumulate,
                        tol(layer.dweight))
                .data;
  const auto squares = [&](const char* name) {
    return static_cast<double*>(
        arena.output(name, 1, experts, DType::kF64, false, 4 * tol(layer.dweight)).data);
  };
  g.wants_dgate_up_squares = g.wants_ddown_squares = true;
  g.dgate_up_squares = squares("dgate_up_squares");
  g.ddown_squares = squares("ddown_squares");
  table.experts_grad(g, stream);
  const Outputs outputs = arena.outputs();
  expect_squares_of(g.dgate_up_squares, g.dgate_up, layer.dweight, experts, inner, layer.hidden);
  expect_squares_of(g.ddown_squares, g.ddown, layer.dweight, experts, layer.hidden, layer.ffn);
  return outputs;
}

}  // namespace

std::vector<Case> expert_tile_cases() {
  using enum Activation;
  constexpr WeightKind kDense = WeightKind::kDense;
  constexpr DType kF = DType::kF32, kB = DType::kBF16;
  const std::pair<const char*, Routing> every{"0 to 300",
                                              {{0, 1, 17, 300, 0, 64, 255, 16, 0, 33, 128, 49}, 1, 0}},
      some{"0 to 257 and lost", {{0, 40, 0, 257, 15, 80}, 2, 31}}, few{"3", {{0, 0, 3, 0}, 2, 0}},
      none{"only lost", {{0, 0}, 1, 5}}, one{"one expert's 700", {{700}, 4, 0}},
      all{"one expert's 350", {{350}, 1, 0}}, many{"70 experts' 2", {std::vector<std::int32_t>(70, 2), 2, 1}};
  std::vector<Case> cases;
  const auto add = [&](const auto& routing, const Layer& layer) {
    const auto text =
        fmt::format("{} rows, hidden {} ffn {}, {}{}{}{}{}{}", routing.first, layer.hidden, layer.ffn,
                    layer.form.name(), layer.outliers ? ", outliers" : "", layer.pad != 0 ? ", apart" : "",
                    layer.accumulate ? ", added" : "", layer.fp8 ? ", in fp8" : "",
                    layer.dy_scale != 1 ? fmt::format(", dy {:g}", layer.dy_scale) : "");
    const double more = layer.fp8 ? kE4m3Again : 0;
    cases.push_back(
        {"experts", "experts " + text,
         [=](const KernelTable& t, Stream& st) { return run_forward(t, st, routing.second, layer); }, more});
    cases.push_back(
        {"experts_grad", "experts_grad " + text,
         [=](const KernelTable& t, Stream& st) { return run_gradient(t, st, routing.second, layer); }, more});
  };
  // gated and not, with all that an epilogue adds; widths of no whole buffer, tile or pair of tiles
  add(every, {.hidden = 72, .ffn = 40});
  add(every, {.hidden = 136,
              .ffn = 72,
              .form = {kClampedSilu, true, true, kDense, kDense, kB},
              .dy = kB,
              .dx = kB,
              .dweight = kB});
  add(some,
      {.hidden = 64, .ffn = 272, .form = {kRelu2, false, true}, .pad = 8, .dy = kB, .accumulate = true});
  add(some, {.hidden = 328, .ffn = 8, .form = {kGelu, true}, .outliers = true});
  add(few, {.hidden = 264, .ffn = 136, .form = {kSilu, true}, .dweight = kB, .accumulate = true});
  add(few, {.hidden = 8, .ffn = 8, .form = {kTanh, false}});
  // gradients in bf16: of experts with and without rows, of one with all of them, of more tiles than blocks
  add(some, {.hidden = 328, .ffn = 136, .form = {kSilu, true}, .dx = kB, .dweight = kB});
  add(some, {.hidden = 328, .ffn = 8, .form = {kGelu, true}, .outliers = true, .dweight = kB});
  add(all, {.hidden = 264, .ffn = 72, .form = {kRelu2, false}, .dy = kB, .dx = kB, .dweight = kB});
  add(many, {.hidden = 136, .ffn = 144, .form = {kGeluTanh, true}, .dy = kB, .dweight = kB});
  add(none, {.hidden = 264, .ffn = 8, .dweight = kB});
  // gradients whose squares are no f32
  add(few, {.hidden = 72, .ffn = 136, .dy_scale = 1e25});
  add(few, {.hidden = 136, .ffn = 72, .dweight = kB, .dy_scale = 1e-25});
  add(none, {.hidden = 64, .ffn = 64});
  add(one, {.hidden = 200, .ffn = 96, .outliers = true, .dx = kB, .accumulate = true});
  add(many, {.hidden = 64, .ffn = 144, .form = {kGeluTanh, true, true}, .pad = 24, .dy = kB});
  // in FP8: tiles of up to 128 rows, blocks of 128 of k
  add(every, {.hidden = 136, .ffn = 72, .form = {kSilu, true, true}, .dy = kB, .fp8 = true});
  add(every, {.hidden = 328, .ffn = 40, .form = {kGelu, true}, .outliers = true, .fp8 = true});
  add(all, {.hidden = 200, .ffn = 264, .form = {kRelu2, false}, .pad = 8, .dx = kB, .fp8 = true});
  add(none, {.hidden = 64, .ffn = 64, .fp8 = true});
  // what only the other path takes: rows that are not at multiples of 16 bytes, widths of no multiple of 8
  add(some, {.hidden = 64, .ffn = 32, .pad = 3, .dy = kB});
  add(some, {.hidden = 64, .ffn = 36, .dy = kF});
  return cases;
}

}  // namespace hone::test
