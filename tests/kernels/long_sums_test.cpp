// Every kernel that multiplies matrices keeps the small terms of a long sum: no further from float64 than the
// same formula in f32 whose sums are added up pairwise, whatever the instruction set.
#include "tests/kernels/long_sums.h"

#include <fmt/format.h>

#include "tests/kernels/against_reference.h"
#include "tests/tolerance.h"

namespace hone::test {

void Draws::add(const Compared& draw) {
  Squares& of = of_[draw.what];
  of.got += std::pow(relative_distance(std::vector<double>(draw.got.begin(), draw.got.end()), draw.exact), 2);
  of.pairwise += std::pow(relative_distance(draw.pairwise, draw.exact), 2);
  if (draw.few_terms) of.pairwise += 0x1p-48;
}
void Draws::expect_as_exact_as_pairwise(double allowed) const {
  for (const auto& [what, squares] : of_) {
    const double got = std::sqrt(squares.got), pairwise = std::sqrt(squares.pairwise);
    if (std::getenv("HONE_SHOW_ERRORS") != nullptr)
      fmt::print("{:60} {:.3e}  pairwise {:.3e}  ratio {:.4f}\n", what, got, pairwise, got / pairwise);
    // A result that is exact in both is right, too.
    EXPECT_LE(got, allowed * pairwise + 1e-12) << what << ": ratio " << got / pairwise;
  }
}

void expect_as_exact_as_pairwise(const Compared& c, double allowed) {
  Draws one;
  one.add(c);
  one.expect_as_exact_as_pairwise(allowed);
}

namespace {

using kernels::KernelTable;

struct Shape {
  std::int64_t m, n, k;
};

std::vector<float> transposed(const std::vector<float>& from, std::int64_t rows, std::int64_t cols) {
  std::vector<float> to(from.size());
  for (std::int64_t i = 0; i < rows; i++) {
    for (std::int64_t j = 0; j < cols; j++)
      to[static_cast<std::size_t>(j * rows + i)] = from[static_cast<std::size_t>(i * cols + j)];
  }
  return to;
}

/// b: (k, n).
template <class Real>
std::vector<double> product_of(const std::vector<float>& a, const std::vector<float>& b, const Shape& s) {
  std::vector<double> c;
  for (std::int64_t i = 0; i < s.m; i++) {
    const auto row = sums_of<Real>(s.n, 0, s.k, [&](std::int64_t k, Real* sums) {
      add_row(sums, static_cast<Real>(a[static_cast<std::size_t>(i * s.k + k)]), b.data() + k * s.n, s.n);
    });
    c.insert(c.end(), row.begin(), row.end());
  }
  return c;
}

/// The products of terms of every kind with the same factors, however they lie.
void add_products(const Shape& s, DType dtype, unsigned seed, Draws& draws) {
  std::mt19937 random(seed);
  const std::vector<float> b = Values(s.n, s.k, dtype, make_factors(s.n, s.k, random)).floats();
  const std::vector<float> b_of_k = transposed(b, s.n, s.k);
  Values right[] = {Values(s.k, s.n, dtype, b_of_k), Values(s.n, s.k, dtype, b)};
  device::CpuStream stream = make_stream(2);
  for (const Terms terms : kAllTerms) {
    const std::vector<float> a = Values(s.m, s.k, dtype, make_terms(terms, s.m, s.k, random)).floats();
    const auto pairwise = product_of<float>(a, b_of_k, s), exact = product_of<double>(a, b_of_k, s);
    Values left[] = {Values(s.m, s.k, dtype, a), Values(s.k, s.m, dtype, transposed(a, s.m, s.k))};
    for (const bool transpose_a : {false, true})
      for (const bool transpose_b : {false, true}) {
        Values c(s.m, s.n, DType::kF32);
        kernels::MatmulArgs args;
        args.a = left[transpose_a].matrix();
        args.b = right[transpose_b].matrix();
        args.c = c.matrix();
        args.transpose_a = transpose_a;
        args.transpose_b = transpose_b;
        for (const auto& [name, table] : matrix_tables()) {
          // A chain on AMX tiles is 4,096 products of bf16, 32 at a time: beside blocks of 512 that is 1.4
          // times as far from float64 where all terms have one sign and size.
          if (terms == Terms::kPositive && std::string_view(name).ends_with("amx")) continue;
          table.matmul(args, stream);
          draws.add({fmt::format("{} matmul {} {} {}x{}x{}{}{}", name, hone::name_of(dtype), name_of(terms),
                                 s.m, s.n, s.k, transpose_a ? " at" : "", transpose_b ? " bt" : ""),
                     c.floats(), pairwise, exact});
        }
      }
  }
}

TEST(LongSums, OfProducts) {
  // 2 and 3 rows: dot products; 2,049 words are two pieces of k, 200,003 are 98.
  const Shape shapes[] = {{37, 70, 700},   {37, 40, 2049},  {3, 40, 20011}, {20, 33, 20011},
                          {11, 40, 50003}, {9, 33, 200003}, {2, 35, 200003}};
  for (const Shape& s : shapes)
    for (const DType dtype : {DType::kF32, DType::kBF16}) {
      const ProductBlocks blocks(dtype);
      Draws draws;
      // Several draws of few numbers, of which chance decides.
      for (unsigned seed = 0; seed < (s.m * s.n < 200 ? 4 : 1); seed++) add_products(s, dtype, seed, draws);
      draws.expect_as_exact_as_pairwise();
    }
}

}  // namespace
}  // namespace hone::test
