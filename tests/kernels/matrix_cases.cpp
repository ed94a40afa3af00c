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
                          DType dweight, bool gradients, bool accumulate, bool weighted, float logit_scale) {
  Arena arena;
  kernels::LinearCrossEntropyArgs a;
  a.hidden = arena.input(s.m, s.k, dtype);
  a.weight = arena.input(s.n, s.k, dtype, 0, 0.3);
  a.targets = arena.integers(arena.random_indices(s.m, s.n, false));
  a.scale = 0.25F;
  a.logit_scale = logit_scale;
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
    a.dhidden = arena.output("dhidden", s.m, s.k, dhidden, false, factor * tolerance(dtype, s.n + s.k));
    a.wants_dweight = true;
    a.dweight_dtype = dweight;
    a.accumulate_dweight = accumulate;
    const double tol = factor * tolerance(narrower(dtype, dweight), s.m + s.k);
    a.dweight = arena.output("dweight", s.n, s.k, dweight, accumulate, tol).data;
  }
  table.linear_cross_entropy(a, stream);
  return arena.outputs();
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
                                          mode > 2, mode == 5 ? 0.4F : 1.0F);
               }});
        }
}

}  // namespace

std::vector<Case> matrix_cases() {
  std::vector<Case> cases;
  add_products(cases);
  add_cross_entropies(cases);
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
