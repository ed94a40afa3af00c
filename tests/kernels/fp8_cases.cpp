// Cases: products whose operands are rounded to FP8, and experts of such.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tests/kernels/cases.h"
#include "tests/kernels/expert_forms.h"
#include "tests/kernels/filled.h"
#include "tests/tolerance.h"

namespace hone::test {

namespace {

struct Fp8Product {
  std::int64_t m, n, k;
  bool transpose_b;
  bool more = false;    // bias, residual, accumulate, rows that lie apart
  bool broken = false;  // a number of each operand is not finite
};

/// Normal numbers, some of them a thousand times as large as the others; `broken`: the first is not finite.
Matrix with_outliers(Arena& arena, std::int64_t rows, std::int64_t cols, DType dtype, std::int64_t pad,
                     bool broken) {
  std::normal_distribution<double> normal;
  return filled(arena, rows, cols, dtype, pad, [&](std::int64_t i, std::int64_t j) {
    if (broken && i == 0 && j == 0) return rows < cols ? static_cast<double>(-INFINITY) : NAN;
    if (i % 128 == 15 && j % 128 == 7) return 5e4;  // alone decides the scale of its square
    return normal(arena.random()) * ((i * cols + j) % 211 == 17 ? 1e3 : 1);
  });
}

Outputs run_fp8_product(const KernelTable& table, Stream& stream, const Fp8Product& p, DType dtype,
                        DType out) {
  Arena arena;
  kernels::MatmulArgs a;
  const std::int64_t pad = p.more ? 3 : 0;
  const auto operand = [&](bool transposed, std::int64_t rows, std::int64_t cols) {
    if (transposed) std::swap(rows, cols);
    return with_outliers(arena, rows, cols, dtype, pad, p.broken);
  };
  a.a = operand(false, p.m, p.k);
  a.b = operand(p.transpose_b, p.k, p.n);
  a.transpose_b = p.transpose_b;
  a.fp8 = true;
  a.has_bias = p.more;
  if (p.more) {
    a.bias = arena.input(1, p.n, dtype).data;
    a.residual = arena.input(p.m, p.n, DType::kF32, pad);
  }
  a.accumulate = p.more;
  a.c = arena.output("c", p.m, p.n, out, p.more, tolerance(out, p.k), pad);
  table.matmul(a, stream);
  if (!p.broken) return arena.outputs();
  arena_memory.settle();  // NaN equals nothing: compared as a number that no sum comes to
  for (std::int64_t i = 0; i < p.m; ++i)
    for (std::int64_t j = 0; j < p.n; ++j)
      if (std::isnan(get(a.c, i, j))) set(a.c, i, j, 0x1p40);
  return arena.outputs();
}

/// The products of a linear layer by its weight.
void add_fp8_products(std::vector<Case>& cases) {
  const Fp8Product products[] = {{1, 1, 1, true},
                                 {0, 5, 7, true},
                                 {5, 7, 0, false, true},
                                 {33, 130, 257, true, true},
                                 {33, 257, 130, false, true},
                                 {130, 40, 300, false, true},
                                 {136, 264, 128, true},
                                 {3, 200, 129, true},
                                 {64, 64, 384, true},
                                 {65, 129, 127, false},
                                 {140, 17, 150, false, true},
                                 {20, 140, 260, true},
                                 {20, 30, 140, true, false, true},
                                 {140, 30, 20, false, false, true}};
  for (const Fp8Product& p : products)
    for (const DType dtype : kBothDtypes)
      for (const DType out : kBothDtypes) {
        if (dtype == DType::kF32 && out != dtype) continue;
        cases.push_back(
            {"matmul",
             fmt::format("matmul in fp8 {}x{}x{} {}->{}{}{}{}", p.m, p.n, p.k, name_of(dtype), name_of(out),
                         p.transpose_b ? " bt" : "", p.more ? " and more" : "",
                         p.broken ? " not finite" : ""),
             [=](const KernelTable& t, Stream& st) { return run_fp8_product(t, st, p, dtype, out); },
             dtype == DType::kBF16 ? kE4m3Sums : 0});
      }
}

struct Fp8Layer {
  std::int64_t tokens, experts, top_k, hidden, ffn;
  DType dtype;
  bool exact, gated, biases, skewed = false, lost = false, accumulate = false;
};

/// Whole numbers up to `limit`, one in one_in of them not 0.
Matrix whole(Arena& arena, std::int64_t rows, std::int64_t cols, DType dtype, unsigned limit,
             unsigned one_in) {
  return filled(arena, rows, cols, dtype, 0, [&](std::int64_t, std::int64_t) {
    const double number = static_cast<double>(arena.random()() % (2 * limit + 1)) - limit;
    return arena.random()() % one_in == 0 ? number : 0.0;
  });
}

/// Exact layers are of whole numbers, so small that f32 holds every sum, the function is f(x) = x, routing
/// weights are 1/2: all tables round the same numbers, and what no sum in T rounds is the same to the last
/// bit. Of others a number between two of e4m3's falls on either side, as the last bit of a sum has it: one
/// in 2^13 of bf16's moves by 2^-4 of itself, which stays below bf16's own rounding.
struct Fp8Operands {
  Arena arena;
  kernels::ExpertsArgs args;
  Fp8Operands(Stream& stream, const Fp8Layer& l) {
    const ExpertForm form{l.exact ? Activation::kIdentity : Activation::kSilu, l.gated, l.biases};
    set_form(args, arena, form, l.dtype, l.experts, l.hidden, l.ffn);
    args.fp8 = true;
    args.top_k = l.top_k;
    args.x = arena.input(l.tokens, l.hidden, l.dtype);
    if (l.exact) {
      const unsigned one_in = l.gated ? 8 : 1;
      // Ungated: some squares have a 2^20, which meets only zeros and leaves the others e4m3's least numbers.
      args.x = filled(arena, l.tokens, l.hidden, l.dtype, 0, [&](std::int64_t, std::int64_t j) {
        const unsigned limit = l.gated ? 3 : 19;
        return !l.gated && j == 0 ? 0.0 : static_cast<double>(arena.random()() % (2 * limit + 1)) - limit;
      });
      const auto weight = [&](std::int64_t i, std::int64_t j) {
        if (!l.gated && j == 0) return i % 100 == 5 ? 0x1p20 : 0.0;
        const double number = static_cast<double>(arena.random()() % 39) - 19;
        return arena.random()() % one_in == 0 ? number : 0.0;
      };
      args.gate_up.data = filled(arena, l.experts * args.inner(), l.hidden, l.dtype, 0, weight).data;
      args.down.data =
          filled(arena, l.experts * l.hidden, l.ffn, l.dtype, 0, [&](std::int64_t i, std::int64_t) {
            const double number = static_cast<double>(arena.random()() % 39) - 19;
            const bool meets_2_20 = !l.gated && i % l.hidden == 0;
            return arena.random()() % one_in == 0 && !meets_2_20 ? number : 0.0;
          }).data;
      if (l.biases) {
        args.gate_up_bias = whole(arena, l.experts, args.inner(), l.dtype, 19, 1).data;
        args.down_bias = whole(arena, l.experts, l.hidden, l.dtype, 19, 1).data;
      }
    }
    std::vector<double> weights;
    std::vector<std::int32_t> experts_of, order;
    std::uniform_real_distribution<double> uniform(0, 1);
    for (std::int64_t t = 0; t < l.tokens; ++t) {
      order.resize(static_cast<std::size_t>(l.experts));
      for (std::size_t e = 0; e < order.size(); ++e) order[e] = static_cast<std::int32_t>(e);
      std::shuffle(order.begin() + (l.skewed ? 1 : 0), order.end(), arena.random());
      for (std::int64_t s = 0; s < l.top_k; ++s) {
        const bool goes = !l.lost || (t + s) % 3 != 1;
        experts_of.push_back(goes ? order[static_cast<std::size_t>(s)] : -1);
        weights.push_back(l.exact ? 0.5 : uniform(arena.random()));
      }
    }
    args.weights = arena.floats(weights);
    kernels::MoePlanArgs plan;
    plan.experts_of = arena.integers(experts_of);
    plan.tokens = l.tokens;
    plan.top_k = l.top_k;
    plan.experts = l.experts;
    plan.counts = arena.integer_output("", l.experts);
    args.offsets = plan.offsets = arena.integer_output("", l.experts + 1);
    args.permutation = plan.permutation = arena.integer_output("", l.tokens * l.top_k);
    args.inverse = plan.inverse = arena.integer_output("", l.tokens * l.top_k);
    input_kernels().moe_plan(plan, stream);
  }
};

/// `in_t`: a number that is in T, or a sum of such.
double fp8_tolerance(const Fp8Layer& l, DType out, bool in_t) {
  if (l.exact && (!in_t || (l.dtype == DType::kF32 && out == l.dtype))) return 0;
  const DType narrowest = l.exact ? narrower(l.dtype, out) : DType::kBF16;
  return 2 * tolerance(narrowest, l.hidden + l.ffn + l.tokens);
}

Outputs run_fp8_experts(const KernelTable& table, Stream& stream, const Fp8Layer& l) {
  Fp8Operands operands(stream, l);
  kernels::ExpertsArgs a = operands.args;
  Arena arena(2);
  a.wants_pre_activation = true;
  const Matrix pre = arena.output("pre_activation", l.tokens * l.top_k, a.inner(), l.dtype, false,
                                  fp8_tolerance(l, l.dtype, false));
  for (std::int64_t i = a.offsets[l.experts]; i < pre.rows; ++i)  // rows that nobody writes
    for (std::int64_t j = 0; j < pre.cols; ++j) set(pre, i, j, 0);
  a.pre_activation = pre.data;
  if (l.accumulate) a.residual = arena.input(l.tokens, l.hidden, DType::kF32);
  a.y = arena.output("y", l.tokens, l.hidden, l.accumulate ? DType::kF32 : l.dtype, false,
                     fp8_tolerance(l, l.dtype, true));
  table.experts(a, stream);
  return arena.outputs();
}

Outputs run_fp8_experts_grad(const KernelTable& table, Stream& stream, const Fp8Layer& l, bool only_dx) {
  Fp8Operands operands(stream, l);
  Arena& forward = operands.arena;
  Arena arena(2);
  kernels::ExpertsGradArgs g;
  g.forward = operands.args;
  const std::int64_t inner = g.forward.inner();
  g.forward.pre_activation = forward.output("", l.tokens * l.top_k, inner, l.dtype, false, 1).data;
  g.forward.wants_pre_activation = true;
  g.forward.y = forward.output("", l.tokens, l.hidden, DType::kF32, false, 1);
  input_kernels().experts(g.forward, stream);
  const DType dy = l.skewed ? DType::kF32 : l.dtype, dweight = l.skewed ? DType::kF32 : l.dtype;
  // Ungated: some rows have a 2^20, which down meets with zeros, and which leaves their others the least
  // numbers.
  g.dy = l.exact
             ? filled(arena, l.tokens, l.hidden, dy, 0,
                      [&](std::int64_t i, std::int64_t j) {
                        const unsigned limit = l.gated ? 3 : 19;
                        const double number = static_cast<double>(arena.random()() % (2 * limit + 1)) - limit;
                        return l.gated || j != 0 ? number : i % 3 == 0 ? 0x1p20 : 0.0;
                      })
             : arena.input(l.tokens, l.hidden, dy);
  g.dx = arena.output("dx", l.tokens, l.hidden, l.dtype, l.accumulate, fp8_tolerance(l, l.dtype, true));
  g.accumulate_dx = g.accumulate_dgate_up = g.accumulate_ddown = l.accumulate;
  if (only_dx) {
    table.experts_grad(g, stream);
    return arena.outputs();
  }
  const auto gradient = [&](const char* name, std::int64_t rows, std::int64_t cols) {
    return arena.output(name, rows, cols, dweight, l.accumulate, fp8_tolerance(l, dweight, false)).data;
  };
  g.wants_dweights = g.wants_dgate_up = g.wants_ddown = true;
  g.wants_dgate_up_bias = g.wants_ddown_bias = l.biases;
  g.dgate_up_dtype = g.ddown_dtype = g.dgate_up_bias_dtype = g.ddown_bias_dtype = dweight;
  g.dgate_up = gradient("dgate_up", l.experts * inner, l.hidden);
  g.ddown = gradient("ddown", l.experts * l.hidden, l.ffn);
  if (l.biases) {
    const double tol = fp8_tolerance(l, dweight, true);
    g.dgate_up_bias = arena.output("dgate_up_bias", l.experts, inner, dweight, false, tol).data;
    g.ddown_bias = arena.output("ddown_bias", l.experts, l.hidden, dweight, false, tol).data;
  }
  const double tol = l.exact ? 2 * tolerance(DType::kF32, l.ffn + l.hidden) : fp8_tolerance(l, l.dtype, true);
  g.dweights = static_cast<float*>(arena.output("dweights", l.tokens, l.top_k, DType::kF32, false, tol).data);
  table.experts_grad(g, stream);
  return arena.outputs();
}

void add_fp8_experts(std::vector<Case>& cases) {
  constexpr DType kF = DType::kF32, kB = DType::kBF16;
  constexpr bool kExact = true, kGated = true, kBiases = true;
  std::vector<Fp8Layer> layers;
  for (const DType t : {kF, kB}) {
    layers.push_back({150, 3, 2, 72, 48, t, kExact, !kGated, !kBiases});
    layers.push_back({300, 4, 2, 40, 136, t, kExact, !kGated, kBiases, true, true});
    layers.push_back({200, 2, 1, 140, 40, t, kExact, !kGated, !kBiases, false, false, true});
    layers.push_back({150, 3, 2, 40, 136, t, kExact, kGated, !kBiases});
    layers.push_back({290, 5, 1, 33, 133, t, kExact, kGated, kBiases, true});
    layers.push_back({0, 3, 2, 16, 8, t, kExact, kGated, !kBiases});
    layers.push_back({1, 4, 2, 136, 24, t, !kExact, kGated, !kBiases});
    layers.push_back({160, 6, 2, 136, 150, t, !kExact, kGated, kBiases, false, true, true});
    layers.push_back({130, 12, 3, 64, 40, t, !kExact, !kGated, !kBiases, true});
  }
  // of tensor cores for e4m3: sums of 14 bits hold exact layers', too
  layers.push_back({700, 1, 1, 264, 136, kB, kExact, !kGated, !kBiases});
  layers.push_back({37, 40, 1, 128, 128, kB, kExact, kGated, kBiases});
  layers.push_back({150, 2, 1, 904, 72, kB, kExact, !kGated, !kBiases});
  layers.push_back({140, 3, 2, 136, 904, kB, kExact, kGated, !kBiases, true, true, true});
  for (const Fp8Layer& l : layers) {
    const double more = l.exact || l.dtype == kF ? 0 : kE4m3Again;
    const auto name =
        fmt::format(" in fp8 {} tokens, {} experts top {}, hidden {} ffn {}, {}{}{}{}{}{}{}", l.tokens,
                    l.experts, l.top_k, l.hidden, l.ffn, name_of(l.dtype), l.exact ? ", exact" : "",
                    l.gated ? ", gated" : "", l.biases ? ", biases" : "", l.skewed ? ", skewed" : "",
                    l.lost ? ", some lost" : "", l.accumulate ? ", accumulate" : "");
    cases.push_back({"experts", "experts" + name,
                     [=](const KernelTable& t, Stream& st) { return run_fp8_experts(t, st, l); }, more});
    for (const bool only_dx : {false, true})
      cases.push_back(
          {"experts_grad", fmt::format("experts_grad{}{}", name, only_dx ? ", dx alone" : ""),
           [=](const KernelTable& t, Stream& st) { return run_fp8_experts_grad(t, st, l, only_dx); }, more});
  }
}

}  // namespace

std::vector<Case> fp8_cases() {
  std::vector<Case> cases;
  add_fp8_products(cases);
  add_fp8_experts(cases);
  return cases;
}

}  // namespace hone::test
