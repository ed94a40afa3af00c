// Cases: gradient norm and optimizers.
#include <fmt/format.h>

#include <cmath>

#include "tests/kernels/cases.h"
#include "tests/tolerance.h"

namespace hone::test {

namespace {

kernels::StepScalars scalars_of_step_3() {
  kernels::StepScalars s;
  s.clip_factor = 0.5F;
  s.learning_rate = 1e-2F;
  s.bias_correction1 = 1 - 0.9F * 0.9F * 0.9F;
  s.bias_correction2 = 1 - 0.999F * 0.999F * 0.999F;
  return s;
}

float* f32(const Matrix& m) {
  return static_cast<float*>(m.data);
}

Outputs run_adamw(const KernelTable& table, Stream& stream, std::int64_t n, DType grad, bool weight,
                  bool skip) {
  Arena arena;
  kernels::StepScalars& scalars = arena.scalars(scalars_of_step_3());
  scalars.skip = skip ? 1 : 0;
  kernels::AdamWArgs a;
  const double tol = tolerance(DType::kF32, 4);
  a.master = f32(arena.inout("master", 1, n, DType::kF32, tol));
  a.has_weight = weight;
  if (weight) a.weight = arena.inout("weight", 1, n, DType::kBF16, tolerance(DType::kBF16, 4)).data;
  a.grad = arena.input(1, n, grad).data;
  a.grad_dtype = grad;
  a.exp_avg = f32(arena.inout("exp_avg", 1, n, DType::kF32, tol));
  a.exp_avg_sq = f32(arena.inout("exp_avg_sq", 1, n, DType::kF32, tol, true));
  a.n = n;
  a.weight_decay = 0.1F;
  a.rate_scale = weight ? 0.3F : 1.0F;
  a.scalars = &scalars;
  table.adamw(a, stream);
  return arena.outputs();
}

Outputs run_sgd(const KernelTable& table, Stream& stream, std::int64_t n, DType grad, bool weight,
                float momentum, bool first) {
  Arena arena;
  const kernels::StepScalars& scalars = arena.scalars(scalars_of_step_3());
  kernels::SgdArgs a;
  const double tol = tolerance(DType::kF32, 4);
  a.master = f32(arena.inout("master", 1, n, DType::kF32, tol));
  a.has_weight = weight;
  if (weight) a.weight = arena.inout("weight", 1, n, DType::kBF16, tolerance(DType::kBF16, 4)).data;
  a.grad = arena.input(1, n, grad).data;
  a.grad_dtype = grad;
  a.n = n;
  a.momentum = momentum;
  if (momentum != 0)
    a.momentum_buffer = f32(first ? arena.output("buffer", 1, n, DType::kF32, false, tol)
                                  : arena.inout("buffer", 1, n, DType::kF32, tol));
  a.first = first;
  a.weight_decay = 0.1F;
  a.rate_scale = weight ? 0.3F : 1.0F;
  a.scalars = &scalars;
  table.sgd(a, stream);
  return arena.outputs();
}

/// The sum of several parts, then what follows from it.
Outputs run_norm(const KernelTable& table, Stream& stream, std::int64_t n, DType dtype, float max_norm) {
  Arena arena;
  kernels::StepScalars& scalars = arena.scalars({});
  const Matrix parts[] = {arena.input(1, n, dtype), arena.input(1, 2 * n + 3, DType::kF32)};
  for (const Matrix& x : parts)
    table.sum_of_squares({.x = x.data, .n = x.cols, .dtype = x.dtype, .scalars = &scalars}, stream);
  table.finish_norm({.scalars = &scalars, .max_norm = max_norm}, stream);
  Outputs outputs = arena.outputs();
  const double values[] = {scalars.sum_of_squares, static_cast<double>(scalars.grad_norm),
                           static_cast<double>(scalars.clip_factor), static_cast<double>(scalars.skip)};
  const auto* bytes = reinterpret_cast<const unsigned char*>(values);
  outputs.push_back({"scalars",
                     {std::begin(values), std::end(values)},
                     {bytes, bytes + sizeof values},
                     tolerance(DType::kF32, n)});
  return outputs;
}

}  // namespace

std::vector<Case> optimizer_cases() {
  std::vector<Case> cases;
  for (const std::int64_t n : {0, 1, 15, 16, 33, 1000, 70001})
    for (const DType grad : kBothDtypes)
      for (const bool weight : {false, true}) {
        const auto name = fmt::format(" of {}, grad {}{}", n, name_of(grad), weight ? ", bf16 weight" : "");
        for (const bool skip : {false, true})
          cases.push_back(
              {"adamw", "adamw" + name + (skip ? ", skip" : ""),
               [=](const KernelTable& t, Stream& s) { return run_adamw(t, s, n, grad, weight, skip); }});
        for (const float momentum : {0.0F, 0.9F})
          for (const bool first : {false, true})
            cases.push_back({"sgd",
                             fmt::format("sgd{}, momentum {}{}", name, momentum, first ? ", first" : ""),
                             [=](const KernelTable& t, Stream& s) {
                               return run_sgd(t, s, n, grad, weight, momentum, first);
                             }});
        const float max_norm = weight ? 1.0F : 0.0F;
        for (const char* slot : {"sum_of_squares", "finish_norm"})
          cases.push_back(
              {slot, fmt::format("{}{}, max_norm {}", slot, name, max_norm),
               [=](const KernelTable& t, Stream& s) { return run_norm(t, s, n, grad, max_norm); }});
      }
  return cases;
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (auto part :
       {matrix_cases, norm_cases, row_cases, attention_cases, mla_cases, moe_cases, optimizer_cases})
    for (Case& c : part()) cases.push_back(std::move(c));
  return cases;
}

}  // namespace hone::test
