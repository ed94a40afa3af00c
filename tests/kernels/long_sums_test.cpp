// Every kernel that multiplies matrices keeps the small terms of a long sum: no further from float64 than the
// same formula in f32 whose sums are added up pairwise, whatever the instruction set.
#include "tests/kernels/long_sums.h"

#include <fmt/format.h>

#include "tests/kernels/against_reference.h"
#include "tests/tolerance.h"

namespace hone::test {

void expect_as_exact_as_pairwise(const Compared& c, double allowed) {
  const double got = relative_distance(std::vector<double>(c.got.begin(), c.got.end()), c.exact);
  const double pairwise = relative_distance(c.pairwise, c.exact);
  if (std::getenv("HONE_SHOW_ERRORS") != nullptr)
    fmt::print("{:60} {:.3e}  pairwise {:.3e}  ratio {:.3f}\n", c.what, got, pairwise, got / pairwise);
  // A result that is exact in both is right, too.
  EXPECT_LE(got, allowed * pairwise + 1e-12) << c.what << ": ratio " << got / pairwise;
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

template <class Real>
std::vector<double> product_of(const std::vector<float>& a, const std::vector<float>& b, const Shape& s) {
  std::vector<double> c;
  for (std::int64_t i = 0; i < s.m; i++) {
    for (std::int64_t j = 0; j < s.n; j++) {
      c.push_back(static_cast<double>(dot_of<Real>(a.data() + i * s.k, b.data() + j * s.k, s.k)));
    }
  }
  return c;
}

void check_products(const Shape& s, Terms terms, DType dtype) {
  const ProductBlocks blocks(dtype);
  std::mt19937 random(static_cast<unsigned>(s.k));
  const std::vector<float> a = Values(s.m, s.k, dtype, make_terms(terms, s.m, s.k, random)).floats();
  const std::vector<float> b = Values(s.n, s.k, dtype, make_factors(s.n, s.k, random)).floats();
  Compared compared{"", {}, product_of<float>(a, b, s), product_of<double>(a, b, s)};
  Stream stream = make_stream(2);
  for (const bool transpose_a : {false, true}) {
    for (const bool transpose_b : {false, true}) {
      Values left =
          transpose_a ? Values(s.k, s.m, dtype, transposed(a, s.m, s.k)) : Values(s.m, s.k, dtype, a);
      Values right =
          transpose_b ? Values(s.n, s.k, dtype, b) : Values(s.k, s.n, dtype, transposed(b, s.n, s.k));
      Values c(s.m, s.n, DType::kF32);
      kernels::MatmulArgs args;
      args.a = left.matrix();
      args.b = right.matrix();
      args.c = c.matrix();
      args.transpose_a = transpose_a;
      args.transpose_b = transpose_b;
      for (const auto& [name, table] : matrix_tables()) {
        table.matmul(args, stream);
        compared.got = c.floats();
        compared.what =
            fmt::format("{} matmul {} {} {}x{}x{}{}{}", name, hone::name_of(dtype), name_of(terms), s.m, s.n,
                        s.k, transpose_a ? " at" : "", transpose_b ? " bt" : "");
        expect_as_exact_as_pairwise(compared);
      }
    }
  }
}

TEST(LongSums, OfProducts) {
  // 3 rows: dot products; 2,049 words are two pieces of k, 50,000 several groups of pieces.
  const Shape shapes[] = {{37, 70, 700},   {37, 40, 2049},  {3, 40, 20011}, {20, 33, 20011},
                          {11, 40, 50003}, {9, 33, 200003}, {2, 35, 200003}};
  for (const Shape& s : shapes)
    for (const Terms terms : kHeavyTails)
      for (const DType dtype : {DType::kF32, DType::kBF16}) check_products(s, terms, dtype);
}

}  // namespace
}  // namespace hone::test
