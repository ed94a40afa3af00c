// Cases: products, column sums, the language-model head.
#include <fmt/format.h>

#include "tests/kernels/cases.h"
#include "tests/tolerance.h"

namespace hone::test {

namespace {

struct Shape {
  std::int64_t m, n, k;
};

/// What one product does besides the product.
struct Options {
  bool transpose_a, transpose_b, bias, residual, accumulate;
  std::int64_t pad;
};

Outputs run_matmul(const KernelTable& table, Stream& stream, Shape s, DType dtype, DType out, DType residual,
                   Options o) {
  Arena arena;
  kernels::MatmulArgs a;
  a.a = o.transpose_a ? arena.input(s.k, s.m, dtype, o.pad) : arena.input(s.m, s.k, dtype, o.pad);
  a.b = o.transpose_b ? arena.input(s.n, s.k, dtype, o.pad) : arena.input(s.k, s.n, dtype, o.pad);
  a.transpose_a = o.transpose_a;
  a.transpose_b = o.transpose_b;
  a.has_bias = o.bias;
  if (o.bias) a.bias = arena.input(1, s.n, dtype).data;
  if (o.residual) a.residual = arena.input(s.m, s.n, residual, o.pad);
  a.accumulate = o.accumulate;
  a.c = arena.output("c", s.m, s.n, out, o.accumulate, tolerance(out, s.k), o.pad);
  table.matmul(a, stream);
  return arena.outputs();
}

Outputs run_cross_entropy(const KernelTable& table, Stream& stream, Shape s, DType dtype, DType dhidden,
                          DType dweight, bool gradients, bool accumulate, bool weighted, float logit_scale,
                          float softcap) {
  Arena arena;
  kernels::LinearCrossEntropyArgs a;
  a.head.hidden = arena.input(s.m, s.k, dtype);
  a.head.weight = arena.input(s.n, s.k, dtype, 0, 0.3);
  a.targets = arena.integers(arena.random_indices(s.m, s.n, false));
  a.scale = 0.25F;
  a.head.logit_scale = logit_scale;
  a.head.softcap = softcap;
  std::vector<double> weights(weighted ? static_cast<std::size_t>(s.m) : 0);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = 0.3 * static_cast<double>(i % 7);
  a.has_weights = weighted;
  if (weighted) a.weights = arena.floats(weights);
  // The loss comes from f32 logits; the gradients pass logits' gradients stored in T.
  a.nll =
      static_cast<float*>(arena.output("nll", 1, s.m, DType::kF32, false, tolerance(DType::kF32, s.k)).data);
  a.loss = static_cast<float*>(
      arena.output("loss", 1, 1, DType::kF32, false, tolerance(DType::kF32, s.k + s.m)).data);
  if (gradients) {
    // bf16: the gradients of the logits are stored in bf16 on the way, and those of a row sum to 0, so what
    // is made of them is a difference
    const double factor = dtype == DType::kBF16 ? 2 : 1;
    a.gradients.dhidden =
        arena.output("dhidden", s.m, s.k, dhidden, false, factor * tolerance(dtype, s.n + s.k));
    a.gradients.wants_dweight = true;
    a.gradients.dweight_dtype = dweight;
    a.gradients.accumulate_dweight = accumulate;
    const double tol = factor * tolerance(narrower(dtype, dweight), s.m + s.k);
    a.gradients.dweight = arena.output("dweight", s.n, s.k, dweight, accumulate, tol).data;
  }
  table.linear_cross_entropy(a, stream);
  return arena.outputs();
}

/// The first words are those from 3 on of a larger vocabulary; some targets are none of them.
kernels::HeadStatisticsArgs head_arguments(Arena& arena, Shape s, DType dtype, float logit_scale,
                                           float softcap) {
  kernels::HeadStatisticsArgs a;
  a.head.hidden = arena.input(s.m, s.k, dtype, 1);
  a.head.weight = arena.input(s.n, s.k, dtype, 0, 0.3);
  a.vocab_begin = 3;
  a.targets = arena.integers(arena.random_indices(s.m, s.n + 7, false));
  a.head.logit_scale = logit_scale;
  a.head.softcap = softcap;
  return a;
}

Outputs run_head_statistics(const KernelTable& table, Stream& stream, Shape s, DType dtype, float logit_scale,
                            float softcap) {
  Arena arena;
  auto a = head_arguments(arena, s, dtype, logit_scale, softcap);
  const double tol = tolerance(DType::kF32, s.k);
  a.lse = static_cast<float*>(arena.output("lse", 1, s.m, DType::kF32, false, tol).data);
  a.target_logit = static_cast<float*>(arena.output("target_logit", 1, s.m, DType::kF32, false, tol).data);
  table.head_statistics(a, stream);
  return arena.outputs();
}

Outputs run_head_grad(const KernelTable& table, Stream& stream, Shape s, DType dtype, DType dhidden,
                      DType dweight, bool accumulate, bool only_lse, float logit_scale, float softcap) {
  Arena arena;
  kernels::HeadGradArgs a;
  a.forward = head_arguments(arena, s, dtype, logit_scale, softcap);
  std::vector<float> lse(static_cast<std::size_t>(s.m)), target_logit(lse.size());
  a.forward.lse = lse.data();
  a.forward.target_logit = target_logit.data();
  input_kernels().head_statistics(a.forward, stream);
  a.forward.lse = arena.floats({lse.begin(), lse.end()});
  a.forward.target_logit = nullptr;
  std::vector<double> numbers;
  for (std::int64_t i = 0; i < s.m; ++i) numbers.push_back(0.3 * static_cast<double>(i % 7) - 0.7);
  a.has_dlse = true;
  a.dlse = arena.floats(numbers);
  a.has_dtarget_logit = !only_lse;
  for (double& x : numbers) x = 0.4 - x;
  if (!only_lse) a.dtarget_logit = arena.floats(numbers);
  // bf16: exponentials are stored, and what they are scaled to: two roundings on the way, where the table has
  // one (three words, a row of two: 1.3 times its distance, in three of four draws)
  const double factor = dtype == DType::kBF16 ? 2 : 1;
  a.gradients.dhidden =
      arena.output("dhidden", s.m, s.k, dhidden, false, factor * tolerance(dtype, s.n + s.k));
  a.gradients.wants_dweight = true;
  a.gradients.dweight_dtype = dweight;
  a.gradients.accumulate_dweight = accumulate;
  const double tol = factor * tolerance(narrower(dtype, dweight), s.m + s.k);
  a.gradients.dweight = arena.output("dweight", s.n, s.k, dweight, accumulate, tol).data;
  table.head_grad(a, stream);
  return arena.outputs();
}

void add_heads(std::vector<Case>& cases) {
  for (const Shape& s : {Shape{1, 3, 2}, {0, 40, 16}, {5, 33, 17}, {70, 500, 64}, {300, 1111, 40}})
    for (const DType dtype : kBothDtypes)
      for (const float softcap : {0.0F, 1.5F}) {
        const auto name =
            fmt::format(" {} rows, {} words, {} wide, {}, cap {}", s.m, s.n, s.k, name_of(dtype), softcap);
        cases.push_back({"head_statistics", "head_statistics" + name, [=](const KernelTable& t, Stream& st) {
                           return run_head_statistics(t, st, s, dtype, softcap > 0 ? 0.6F : 1, softcap);
                         }});
        for (const DType dhidden : kBothDtypes)
          for (const DType dweight : kBothDtypes) {
            if (dtype == DType::kF32 && (dweight != dtype || dhidden != dtype)) continue;
            for (const bool second : {false, true})
              cases.push_back({"head_grad",
                               fmt::format("head_grad{} dhidden {} dweight {}{}", name, name_of(dhidden),
                                           name_of(dweight), second ? " lse only, +" : ""),
                               [=](const KernelTable& t, Stream& st) {
                                 return run_head_grad(t, st, s, dtype, dhidden, dweight, second, second,
                                                      softcap > 0 ? 0.6F : 1, softcap);
                               }});
          }
      }
}

void add_products(std::vector<Case>& cases) {
  const Shape shapes[] = {{1, 1, 1},    {0, 5, 7},      {5, 7, 0},    {3, 33, 2},    {7, 64, 31},
                          {14, 32, 64}, {15, 31, 3},    {29, 65, 17}, {64, 100, 96}, {65, 16, 129},
                          {128, 8, 40}, {200, 130, 70}, {1, 300, 64}, {33, 32, 530}};
  const Options options[] = {{false, true, false, false, false, 0}, {false, false, false, false, false, 0},
                             {true, false, false, false, false, 0}, {false, true, true, true, false, 0},
                             {false, false, false, false, true, 3}, {true, false, false, false, true, 0},
                             {false, true, true, false, false, 5},  {false, true, false, true, true, 8},
                             {true, false, false, true, false, 1}};
  for (const Shape& s : shapes)
    for (const Options& o : options)
      for (const DType dtype : kBothDtypes)
        for (const DType out : kBothDtypes) {
          if (dtype == DType::kF32 && out != dtype) continue;
          for (const DType residual : kBothDtypes) {
            if (residual != DType::kF32 && (!o.residual || residual != dtype)) continue;
            cases.push_back({"matmul",
                             fmt::format("matmul {}x{}x{} {}->{}{}{}{}{}{} pad {}", s.m, s.n, s.k,
                                         name_of(dtype), name_of(out), o.transpose_a ? " at" : "",
                                         o.transpose_b ? " bt" : "", o.bias ? " bias" : "",
                                         o.residual ? fmt::format(" {} residual", name_of(residual)) : "",
                                         o.accumulate ? " accumulate" : "", o.pad),
                             [=](const KernelTable& t, Stream& st) {
                               return run_matmul(t, st, s, dtype, out, residual, o);
                             }});
          }
        }
}

void add_cross_entropies(std::vector<Case>& cases) {
  const Shape shapes[] = {{1, 3, 2}, {0, 40, 16}, {5, 33, 17}, {70, 500, 64}, {300, 1111, 40}};
  for (const Shape& s : shapes)
    for (const DType dtype : kBothDtypes)
      for (const DType dweight : kBothDtypes)
        for (const int mode : {0, 1, 2, 3, 4, 5}) {
          if (dtype == DType::kF32 && dweight != dtype) continue;
          cases.push_back(
              {"linear_cross_entropy",
               fmt::format("linear_cross_entropy {} rows, {} words, {} wide, {}, dweight {}, mode {}", s.m,
                           s.n, s.k, name_of(dtype), name_of(dweight), mode),
               [=](const KernelTable& t, Stream& st) {
                 const DType dhidden = mode == 2 ? DType::kF32 : dtype;
                 return run_cross_entropy(t, st, s, dtype, dhidden, dweight, mode % 3 > 0, mode == 2,
                                          mode > 2, mode == 5 ? 0.4F : 1.0F, mode == 4 ? 1.5F : 0.0F);
               }});
        }
}

}  // namespace

std::vector<Case> matrix_cases() {
  std::vector<Case> cases;
  add_products(cases);
  add_cross_entropies(cases);
  add_heads(cases);
  for (const Shape& s : {Shape{0, 5, 0}, {1, 1, 0}, {7, 33, 0}, {300, 65, 0}, {64, 512, 0}})
    for (const DType dtype : kBothDtypes)
      for (const DType out : kBothDtypes)
        for (const bool accumulate : {false, true})
          cases.push_back({"column_sum",
                           fmt::format("column_sum {}x{} {}->{}{}", s.m, s.n, name_of(dtype), name_of(out),
                                       accumulate ? " +" : ""),
                           [=](const KernelTable& t, Stream& st) {
                             Arena arena;
                             kernels::ColumnSumArgs a;
                             a.x = arena.input(s.m, s.n, dtype, 3);
                             a.out_dtype = out;
                             a.accumulate = accumulate;
                             a.out = arena.output("out", 1, s.n, out, accumulate, tolerance(out, s.m)).data;
                             t.column_sum(a, st);
                             return arena.outputs();
                           }});
  return cases;
}

}  // namespace hone::test
