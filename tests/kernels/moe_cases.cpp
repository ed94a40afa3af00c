// Cases: router, plan, experts, load balancing.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "tests/kernels/cases.h"
#include "tests/kernels/expert_forms.h"
#include "tests/tolerance.h"

namespace hone::test {

namespace {

struct Shape {
  std::int64_t tokens, experts, top_k, hidden, ffn;
};

float* f32(const Matrix& m) {
  return static_cast<float*>(m.data);
}

using Rule = kernels::RouterRule;

std::string described(const Rule& r, bool bias) {
  std::string text;
  if (r.score == Rule::Score::kSoftmaxOfChosen) text += " softmax of the chosen";
  if (r.score == Rule::Score::kSigmoid) text += " sigmoid";
  if (r.groups > 1)
    text += fmt::format(" {} of {} groups by {}", r.top_groups, r.groups,
                        r.group_score == Rule::GroupScore::kMax ? "their best" : "their best two");
  if (r.normalize) text += fmt::format(" normalize {}", r.normalize_eps);
  if (r.scaling != 1) text += fmt::format(" scaling {}", r.scaling);
  return text + (bias ? " bias" : "");
}

/// With `grid` the logits are multiples of one another's distance, so that scores are equal or far apart (the
/// tables may round one that is neither to either side), and many are equal.
Outputs run_router(const KernelTable& table, Stream& stream, Shape s, const Rule& rule, bool bias,
                   bool grid) {
  Arena arena;
  kernels::RouterArgs a;
  const Matrix logits = arena.input(s.tokens, s.experts, DType::kF32, 0, 2);
  // Off 0, that no two sigmoids sum to 1: sums of two are then equal or far apart as well.
  if (grid)
    for (std::int64_t i = 0; i < s.tokens; ++i)
      for (std::int64_t j = 0; j < s.experts; ++j)
        f32(logits)[i * s.experts + j] = rule.score == Rule::Score::kSoftmax && !bias
                                             ? std::round(f32(logits)[i * s.experts + j])
                                             : std::round(4 * f32(logits)[i * s.experts + j]) / 4 + 0.03F;
  Arena fixed;  // the rounding above is part of the input
  std::vector<double> values = values_of(logits);
  a.logits = fixed.floats(values);
  a.tokens = s.tokens;
  a.experts = s.experts;
  a.top_k = s.top_k;
  a.rule = rule;
  a.has_correction_bias = bias;
  if (bias) {
    std::vector<double> biases;
    for (std::int64_t j = 0; j < s.experts; ++j) biases.push_back(0.11 * static_cast<double>(j * 7 % 5));
    a.correction_bias = fixed.floats(biases);
  }
  const double tol = tolerance(DType::kF32, s.experts);
  a.probabilities = f32(fixed.output("probabilities", s.tokens, s.experts, DType::kF32, false, tol));
  a.weights = f32(fixed.output("weights", s.tokens, s.top_k, DType::kF32, false, tol));
  a.experts_of = fixed.integer_output("experts_of", s.tokens * s.top_k);
  a.probability_sums = f32(fixed.output("probability_sums", 1, s.experts, DType::kF32, false,
                                        tolerance(DType::kF32, s.tokens + s.experts)));
  table.router(a, stream);
  return fixed.outputs();
}

/// A routing: what the other cases start from.
struct Routed {
  Arena arena{3};
  kernels::RouterArgs router;
  kernels::MoePlanArgs plan;
  /// lost: of every third slot the expert is -1.
  Routed(Stream& stream, Shape s, const Rule& rule, bool skewed, bool lost = false) {
    const Matrix logits = arena.input(s.tokens, s.experts, DType::kF32);
    if (skewed)  // most tokens choose the first experts, some experts get none
      for (std::int64_t i = 0; i < s.tokens; ++i)
        for (std::int64_t j = 0; j < s.experts; ++j)
          f32(logits)[i * s.experts + j] -= static_cast<float>(3 * j);
    router.logits = f32(logits);
    router.tokens = plan.tokens = s.tokens;
    router.experts = plan.experts = s.experts;
    router.top_k = plan.top_k = s.top_k;
    router.rule = rule;
    router.probabilities = f32(arena.output("", s.tokens, s.experts, DType::kF32, false, 1));
    router.weights = f32(arena.output("", s.tokens, s.top_k, DType::kF32, false, 1));
    router.experts_of = arena.integer_output("", s.tokens * s.top_k);
    router.probability_sums = f32(arena.output("", 1, s.experts, DType::kF32, false, 1));
    input_kernels().router(router, stream);
    plan.experts_of = router.experts_of;
    plan.counts = arena.integer_output("", s.experts);
    plan.offsets = arena.integer_output("", s.experts + 1);
    plan.permutation = arena.integer_output("", s.tokens * s.top_k);
    plan.inverse = arena.integer_output("", s.tokens * s.top_k);
    for (std::int64_t i = 1; lost && i < s.tokens * s.top_k; i += 3) router.experts_of[i] = -1;
    input_kernels().moe_plan(plan, stream);
  }
};

/// nowhere: every fifth pair is of no expert.
std::vector<std::int32_t> choices(const Routed& routed, Shape s, bool nowhere) {
  std::vector<std::int32_t> experts_of(routed.router.experts_of,
                                       routed.router.experts_of + s.tokens * s.top_k);
  if (nowhere)
    for (std::size_t i = 2; i < experts_of.size(); i += 5) experts_of[i] = -1;
  return experts_of;
}

Outputs run_router_grad(const KernelTable& table, Stream& stream, Shape s, const Rule& rule, DType dtype,
                        int parts, bool nowhere) {
  const Routed routed(stream, s, rule, false);
  Arena arena;
  kernels::RouterGradArgs a;
  a.probabilities = routed.router.probabilities;
  a.experts_of = arena.integers(choices(routed, s, nowhere));
  a.weights = routed.router.weights;
  a.has_dweights = (parts & 1) != 0;
  a.has_dprobability_sums = (parts & 2) != 0;
  if (a.has_dweights) a.dweights = f32(arena.input(s.tokens, s.top_k, DType::kF32));
  if (a.has_dprobability_sums) a.dprobability_sums = f32(arena.input(1, s.experts, DType::kF32));
  a.tokens = s.tokens;
  a.experts = s.experts;
  a.top_k = s.top_k;
  a.rule = rule;
  a.dlogits_dtype = dtype;
  // one expert, or all weights fixed by normalisation: the gradient is a difference of equals
  const bool fixed_sum = rule.normalize || rule.score == Rule::Score::kSoftmaxOfChosen;
  const bool cancels = s.experts == 1 || (fixed_sum && s.top_k == 1 && parts == 1);
  const Matrix dlogits = arena.output("dlogits", s.tokens, s.experts, dtype, false,
                                      cancels ? 1e-5 : tolerance(dtype, 4 * s.experts));
  a.dlogits = dlogits.data;
  table.router_grad(a, stream);
  if (!cancels) return arena.outputs();
  arena_memory.settle();  // 0 up to rounding: compared as 1 + it
  for (std::int64_t i = 0; i < s.tokens; ++i)
    for (std::int64_t j = 0; j < s.experts; ++j) set(dlogits, i, j, 1 + get(dlogits, i, j));
  return arena.outputs();
}

Outputs run_plan(const KernelTable& table, Stream& stream, Shape s, bool skewed, bool nowhere) {
  const Routed routed(stream, s, {}, skewed);
  Arena arena;
  kernels::MoePlanArgs a = routed.plan;
  a.experts_of = arena.integers(choices(routed, s, nowhere));
  a.counts = arena.integer_output("counts", s.experts);
  a.offsets = arena.integer_output("offsets", s.experts + 1);
  a.permutation = arena.integer_output("permutation", s.tokens * s.top_k);
  a.inverse = arena.integer_output("inverse", s.tokens * s.top_k);
  table.moe_plan(a, stream);
  return arena.outputs();
}

struct Mode {
  DType dtype, dweight, dy;
  bool residual, keep, dx, accumulate;
  DType dx_dtype = DType::kF32;
  std::optional<DType> ddown = {};  // else as dweight
  ExpertForm form = {};
  DType dgate_up_bias = DType::kF32, ddown_bias = DType::kF32;
};

kernels::ExpertsArgs experts_args(Arena& arena, const Routed& routed, Shape s, const Mode& m) {
  kernels::ExpertsArgs a;
  a.x = arena.input(s.tokens, s.hidden, m.dtype);
  set_form(a, arena, m.form, m.dtype, s.experts, s.hidden, s.ffn);
  a.weights = routed.router.weights;
  a.offsets = routed.plan.offsets;
  a.permutation = routed.plan.permutation;
  a.inverse = routed.plan.inverse;
  a.top_k = s.top_k;
  return a;
}

Outputs run_experts(const KernelTable& table, Stream& stream, Shape s, Mode m, bool skewed) {
  const Routed routed(stream, s, {.normalize = true}, skewed, m.form.lost);
  Arena arena;
  kernels::ExpertsArgs a = experts_args(arena, routed, s, m);
  a.wants_pre_activation = m.keep;
  if (m.keep) {
    const Matrix pre = arena.output("pre_activation", s.tokens * s.top_k, a.inner(), m.dtype, false,
                                    tolerance(m.dtype, s.hidden));
    a.pre_activation = pre.data;
    for (std::int64_t i = routed.plan.offsets[s.experts]; i < pre.rows; ++i)  // rows that nobody writes
      for (std::int64_t j = 0; j < pre.cols; ++j) set(pre, i, j, 0);
  }
  if (m.residual) a.residual = arena.input(s.tokens, s.hidden, DType::kF32);
  a.y = arena.output("y", s.tokens, s.hidden, m.form.y, false, tolerance(m.dtype, s.hidden + s.ffn));
  table.experts(a, stream);
  return arena.outputs();
}

Outputs run_experts_grad(const KernelTable& table, Stream& stream, Shape s, Mode m, bool skewed,
                         bool weights) {
  const Routed routed(stream, s, {.normalize = true}, skewed, m.form.lost);
  Arena forward, arena(2);
  kernels::ExpertsGradArgs g;
  g.forward = experts_args(forward, routed, s, m);
  const std::int64_t inner = g.forward.inner();
  g.forward.pre_activation = forward.output("", s.tokens * s.top_k, inner, m.dtype, false, 1).data;
  g.forward.wants_pre_activation = true;
  g.forward.y = forward.output("", s.tokens, s.hidden, DType::kF32, false, 1);
  input_kernels().experts(g.forward, stream);
  g.dy = arena.input(s.tokens, s.hidden, m.dy);
  const std::int64_t length = s.hidden + s.ffn + s.tokens;
  // bf16: the activation and both gradients around it are stored in bf16 on the way
  const auto tol = [&](DType out) {
    return (m.dtype == DType::kBF16 ? 2 : 1) * tolerance(narrower(m.dtype, out), length);
  };
  if (m.dx) g.dx = arena.output("dx", s.tokens, s.hidden, m.dx_dtype, m.accumulate, tol(m.dx_dtype));
  g.accumulate_dx = g.accumulate_dgate_up = g.accumulate_ddown = m.accumulate;
  g.accumulate_dgate_up_bias = g.accumulate_ddown_bias = m.accumulate;
  g.dgate_up_dtype = m.dweight;
  g.ddown_dtype = m.ddown.value_or(m.dweight);
  g.dgate_up_bias_dtype = m.dgate_up_bias;
  g.ddown_bias_dtype = m.ddown_bias;
  const auto gradient = [&](const char* name, std::int64_t rows, std::int64_t cols, DType dtype) {
    return arena.output(name, rows, cols, dtype, m.accumulate, tol(dtype)).data;
  };
  g.wants_dweights = weights;
  if (weights)
    g.dweights = f32(arena.output("dweights", s.tokens, s.top_k, DType::kF32, false, tol(DType::kF32)));
  g.wants_dgate_up = weights && m.form.gate_up == WeightKind::kDense;
  if (g.wants_dgate_up) g.dgate_up = gradient("dgate_up", s.experts * inner, s.hidden, m.dweight);
  g.wants_ddown = weights && m.form.down == WeightKind::kDense;
  if (g.wants_ddown) g.ddown = gradient("ddown", s.experts * s.hidden, s.ffn, g.ddown_dtype);
  g.wants_dgate_up_bias = g.wants_ddown_bias = weights && m.form.biases;
  if (g.wants_dgate_up_bias) {
    g.dgate_up_bias = gradient("dgate_up_bias", s.experts, inner, m.dgate_up_bias);
    g.ddown_bias = gradient("ddown_bias", s.experts, s.hidden, m.ddown_bias);
  }
  const auto squares = [&](const char* name, DType dtype) {
    return static_cast<double*>(arena.output(name, 1, s.experts, DType::kF64, false, 4 * tol(dtype)).data);
  };
  g.wants_dgate_up_squares = g.wants_dgate_up && s.tokens % 3 != 2;
  g.wants_ddown_squares = g.wants_ddown && s.tokens % 4 != 2;
  if (g.wants_dgate_up_squares) g.dgate_up_squares = squares("dgate_up_squares", m.dweight);
  if (g.wants_ddown_squares) g.ddown_squares = squares("ddown_squares", g.ddown_dtype);
  table.experts_grad(g, stream);
  const Outputs outputs = arena.outputs();
  expect_squares_of(g.dgate_up_squares, g.dgate_up, g.dgate_up_dtype, s.experts, inner, s.hidden);
  expect_squares_of(g.ddown_squares, g.ddown, g.ddown_dtype, s.experts, s.hidden, s.ffn);
  return outputs;
}

}  // namespace

void expect_squares_of(const double* squares, const void* gradients, DType dtype, std::int64_t experts,
                       std::int64_t rows, std::int64_t cols) {
  for (std::int64_t e = 0; squares != nullptr && e < experts; ++e) {
    double sum = 0;
    const Matrix m{const_cast<void*>(gradients), dtype, experts * rows, cols, cols};
    for (std::int64_t i = e * rows; i < (e + 1) * rows; ++i)
      for (std::int64_t j = 0; j < cols; ++j) sum += get(m, i, j) * get(m, i, j);
    if (std::isnan(sum))
      ASSERT_TRUE(std::isnan(squares[e])) << "expert " << e;
    else if (std::isinf(sum))
      ASSERT_EQ(squares[e], sum) << "expert " << e;
    else
      ASSERT_NEAR(squares[e], sum, 1e-6 * sum) << "expert " << e;  // f32 sums of 8
  }
}

namespace {

Outputs run_load_balancing(const KernelTable& table, Stream& stream, std::int64_t layers,
                           std::int64_t experts, bool gradient) {
  Arena arena;
  kernels::LoadBalancingArgs a;
  a.probability_sums = f32(arena.input(layers, experts, DType::kF32));
  a.counts = arena.integers(arena.random_indices(layers * experts, 20, false));
  a.layers = layers;
  a.experts = experts;
  a.tokens = 40;
  a.coefficient = 0.01F;
  const double tol = tolerance(DType::kF32, 16 * layers * experts);  // the terms of the loss cancel here
  a.loss = f32(arena.output("loss", 1, 1, DType::kF32, false, tol));
  a.wants_dprobability_sums = gradient;
  if (gradient)
    a.dprobability_sums = f32(arena.output("dprobability_sums", 1, experts, DType::kF32, false, tol));
  table.load_balancing(a, stream);
  return arena.outputs();
}

void add_experts(std::vector<Case>& cases) {
  const Shape shapes[] = {{1, 2, 1, 8, 8},     {0, 4, 2, 16, 8},    {5, 3, 2, 33, 17},
                          {40, 8, 2, 64, 32},  {130, 4, 4, 40, 24}, {77, 32, 4, 48, 100},
                          {200, 5, 1, 96, 64}, {64, 60, 4, 20, 30}, {250, 2, 1, 136, 72}};
  constexpr DType kF = DType::kF32, kB = DType::kBF16;
  const Mode modes[] = {{kF, kF, kF, true, true, true, false},
                        {kF, kF, kF, false, false, true, true},
                        {kB, kF, kF, true, true, true, false},
                        {kB, kB, kB, false, true, true, true},
                        {kB, kB, kF, true, false, false, false}};
  for (const Shape& s : shapes)
    for (std::size_t i = 0; i < std::size(modes); ++i)
      for (const bool skewed : {false, true}) {
        const Mode m = modes[i];
        const auto name = fmt::format("{} tokens, {} experts top {}, hidden {} ffn {}, mode {}{}", s.tokens,
                                      s.experts, s.top_k, s.hidden, s.ffn, i, skewed ? ", skewed" : "");
        cases.push_back({"experts", "experts " + name,
                         [=](const KernelTable& t, Stream& st) { return run_experts(t, st, s, m, skewed); }});
        cases.push_back({"experts_grad", "experts_grad " + name, [=](const KernelTable& t, Stream& st) {
                           return run_experts_grad(t, st, s, m, skewed, m.dx || i % 2 == 0);
                         }});
      }
}

/// Every combination of the gradients' dtypes.
void add_expert_dtypes(std::vector<Case>& cases) {
  for (unsigned bits = 0; bits < 64; ++bits) {
    const auto dtype = [bits](unsigned i) { return (bits >> i & 1U) != 0 ? DType::kBF16 : DType::kF32; };
    Mode m{DType::kBF16, dtype(0), dtype(1), false, true, true, false, dtype(2), dtype(3)};
    m.form = {.activation = Activation::kClampedSilu, .biases = true};
    m.dgate_up_bias = dtype(4);
    m.ddown_bias = dtype(5);
    cases.push_back({"experts_grad", fmt::format("experts_grad dtypes {:06b}", bits),
                     [=](const KernelTable& t, Stream& st) {
                       return run_experts_grad(t, st, {17, 4, 2, 40, 24}, m, false, true);
                     }});
  }
}

/// Every form, in sizes whose blocks and panels have ragged ends, where the kind allows them.
void add_expert_forms(std::vector<Case>& cases) {
  using enum Activation;
  constexpr WeightKind kDense = WeightKind::kDense, kFp4 = WeightKind::kMxfp4, kFp8 = WeightKind::kFp8Block;
  const ExpertForm forms[] = {{kClampedSilu, true, true},
                              {kClampedSilu, true, true, kDense, kDense, DType::kBF16, true},
                              {kGelu, true, true},
                              {kGeluTanh, true},
                              {kSigmoid, true},
                              {kTanh, false},
                              {kIdentity, true},
                              {kRelu2, false},
                              {kRelu2, false, true, kDense, kDense, DType::kBF16, true},
                              {kSilu, false, true},
                              {kIdentity, false},
                              {kSilu, true, false, kDense, kDense, DType::kF32, true},
                              {kClampedSilu, true, true, kFp4, kFp4},
                              {kSilu, true, false, kFp8, kFp8},
                              {kSilu, true, false, kFp8, kDense, DType::kBF16, true},
                              {kRelu2, false, true, kDense, kFp4},
                              {kRelu2, false, false, kFp4, kFp8}};
  // few rows an expert (read straight), many, and few experts of many rows (work is cut by columns)
  const Shape ragged[] = {{3, 8, 2, 52, 37}, {150, 6, 2, 40, 136}, {200, 2, 1, 150, 35}};
  const Shape whole[] = {{3, 8, 2, 64, 32}, {150, 6, 2, 160, 96}, {200, 2, 1, 32, 320}};
  for (const ExpertForm& form : forms)
    for (std::size_t i = 0; i < std::size(ragged); ++i)
      for (const DType dtype : kBothDtypes) {
        Mode m{dtype, DType::kF32, DType::kF32, i % 2 == 0, true, true, i == 1};
        m.form = form;
        if (dtype == DType::kF32) m.form.y = dtype;
        const bool fp4 = form.gate_up == kFp4 || form.down == kFp4;
        const Shape s = fp4 ? whole[i] : ragged[i];
        const auto name = fmt::format("{}, {} tokens, hidden {} ffn {}, {}", m.form.name(), s.tokens,
                                      s.hidden, s.ffn, name_of(dtype));
        cases.push_back({"experts", "experts " + name,
                         [=](const KernelTable& t, Stream& st) { return run_experts(t, st, s, m, i == 1); }});
        cases.push_back({"experts_grad", "experts_grad " + name, [=](const KernelTable& t, Stream& st) {
                           return run_experts_grad(t, st, s, m, i == 1, true);
                         }});
      }
  // gradients of biases are sums over all rows of an expert
  Mode m{DType::kF32, DType::kF32, DType::kF32, false, true, true, false};
  m.form = {.activation = kClampedSilu, .biases = true, .y = DType::kF32};
  cases.push_back(
      {"experts_grad", "experts_grad of 1,100 rows of one expert", [=](const KernelTable& t, Stream& st) {
         return run_experts_grad(t, st, {1100, 1, 1, 8, 8}, m, false, true);
       }});
}

void add_router(std::vector<Case>& cases, Shape s, const Rule& rule, bool bias, bool grid) {
  cases.push_back({"router",
                   fmt::format("router {} tokens, {} experts top {}{}{}", s.tokens, s.experts, s.top_k,
                               described(rule, bias), grid ? " grid" : ""),
                   [=](const KernelTable& t, Stream& st) { return run_router(t, st, s, rule, bias, grid); }});
}
void add_router_grad(std::vector<Case>& cases, Shape s, const Rule& rule, DType dtype, int parts,
                     bool nowhere) {
  cases.push_back(
      {"router_grad",
       fmt::format("router_grad {} tokens, {} experts top {}{} {} parts {}{}", s.tokens, s.experts, s.top_k,
                   described(rule, false), name_of(dtype), parts, nowhere ? " some nowhere" : ""),
       [=](const KernelTable& t, Stream& st) {
         return run_router_grad(t, st, s, rule, dtype, parts, nowhere);
       }});
}

/// Every kind of score with every kind of limit.
void add_rules(std::vector<Case>& cases) {
  using Score = Rule::Score;
  for (const auto score : {Score::kSoftmax, Score::kSoftmaxOfChosen, Score::kSigmoid})
    for (const bool normalize : {false, true}) {
      if (normalize && score == Score::kSoftmaxOfChosen) continue;
      Rule rule{.score = score};
      rule.normalize = normalize;
      rule.normalize_eps = normalize ? 1e-2F : 0.0F;
      rule.scaling = normalize ? 2.5F : 1.0F;
      for (const Shape& s : {Shape{1, 1, 1, 0, 0},
                             {0, 12, 2, 0, 0},
                             {5, 6, 1, 0, 0},
                             {33, 24, 4, 0, 0},
                             {70, 60, 6, 0, 0},
                             {9, 256, 8, 0, 0},
                             {3000, 16, 2, 0, 0}}) {
        for (const std::int64_t groups : {1, 2, 3, 8}) {
          if (s.experts % groups != 0 || s.experts < 2 * groups || (s.tokens == 3000 && groups != 8))
            continue;
          for (const auto by : {Rule::GroupScore::kMax, Rule::GroupScore::kTopTwoSum})
            for (const bool bias : {false, true}) {
              Rule limited = rule;
              limited.group_score = by;
              limited.groups = groups;
              const std::int64_t fewest = (s.top_k * groups + s.experts - 1) / s.experts;
              limited.top_groups = std::max<std::int64_t>(fewest, groups / 2);
              add_router(cases, s, limited, bias, true);
            }
        }
        for (const DType dtype : kBothDtypes)
          for (const int parts : {1, 2, 3})
            for (const bool nowhere : {false, true}) add_router_grad(cases, s, rule, dtype, parts, nowhere);
      }
    }
}

}  // namespace

std::vector<Case> moe_cases() {
  std::vector<Case> cases;
  for (const Shape& s : {Shape{1, 1, 1, 0, 0},
                         {0, 8, 2, 0, 0},
                         {5, 3, 3, 0, 0},
                         {64, 8, 2, 0, 0},
                         {130, 32, 4, 0, 0},
                         {70, 60, 4, 0, 0},
                         {33, 128, 8, 0, 0},
                         {9, 512, 10, 0, 0},
                         {40, 17, 16, 0, 0},
                         {3000, 16, 2, 0, 0},
                         {20000, 8, 2, 0, 0}})  // 40,000 pairs: the plan, which is counted on threads
    for (const bool flag : {false, true}) {
      const auto name = fmt::format("{} tokens, {} experts top {}", s.tokens, s.experts, s.top_k);
      for (const bool nowhere : {false, true})
        cases.push_back(
            {"moe_plan",
             fmt::format("moe_plan {}{}{}", name, flag ? " skewed" : "", nowhere ? " some nowhere" : ""),
             [=](const KernelTable& t, Stream& st) { return run_plan(t, st, s, flag, nowhere); }});
      if (s.tokens > 3000) continue;
      for (const bool ties : {false, true}) add_router(cases, s, {.normalize = flag}, false, ties);
      for (const DType dtype : kBothDtypes)
        for (const int parts : {0, 1, 2, 3})
          add_router_grad(cases, s, {.normalize = flag}, dtype, parts, false);
    }
  add_rules(cases);
  for (const std::int64_t layers : {1, 3})
    for (const std::int64_t experts : {1, 8, 60})
      for (const bool gradient : {false, true})
        cases.push_back({"load_balancing",
                         fmt::format("load_balancing {} layers {} experts{}", layers, experts,
                                     gradient ? " gradient" : ""),
                         [=](const KernelTable& t, Stream& st) {
                           return run_load_balancing(t, st, layers, experts, gradient);
                         }});
  add_experts(cases);
  add_expert_dtypes(cases);
  add_expert_forms(cases);
  return cases;
}

}  // namespace hone::test
