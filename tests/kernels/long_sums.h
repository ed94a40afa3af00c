// Long sums against float64, and beside them the same sums in f32, added up pairwise.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "base/dtype.h"
#include "kernels/kernels.h"

namespace hone::test {

/// What is summed. Each kind loses small terms where a sum is one chain.
enum class Terms {
  kPeaked,    // one of about 1 and, of the same sign, thousands of 1e-5: the gradient of a row of logits
  kOutliers,  // normal, but one in a thousand is 1e4 times as large: massive activations
  kMixed,     // magnitudes from 1e-4 to 1e4
  kPositive   // all of one sign and size
};
inline constexpr Terms kAllTerms[] = {Terms::kPeaked, Terms::kOutliers, Terms::kMixed, Terms::kPositive};
inline std::string name_of(Terms terms) {
  const char* names[] = {"peaked", "outliers", "mixed", "positive"};
  return names[static_cast<int>(terms)];
}

/// A matrix that kernels read or write, and its values.
class Values {
 public:
  Values(std::int64_t rows, std::int64_t cols, DType dtype)
      : rows_(rows), cols_(cols), dtype_(dtype), bytes_(static_cast<std::size_t>(rows * cols * 4 + 64)) {}
  Values(std::int64_t rows, std::int64_t cols, DType dtype, std::vector<float> values)
      : Values(rows, cols, dtype) {
    convert(DType::kF32, values.data(), dtype, data(), values.size());
  }
  kernels::Matrix matrix() { return {data(), dtype_, rows_, cols_, cols_}; }
  void* data() { return bytes_.data(); }
  /// What is stored, rounded as it is.
  std::vector<float> floats() const {
    std::vector<float> values(static_cast<std::size_t>(rows_ * cols_));
    convert(dtype_, bytes_.data(), DType::kF32, values.data(), values.size());
    return values;
  }

 private:
  std::int64_t rows_, cols_;
  DType dtype_;
  std::vector<std::byte> bytes_;
};

/// (rows, n) terms; sums run over n.
inline std::vector<float> make_terms(Terms terms, std::int64_t rows, std::int64_t n, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<float> uniform(0, 1);
  std::vector<float> values(static_cast<std::size_t>(rows * n));
  for (float& v : values) {
    switch (terms) {
      case Terms::kPeaked:
        v = 1e-5F * uniform(random);
        break;
      case Terms::kOutliers:
        v = normal(random) * (random() % 1000 == 0 ? 1e4F : 1.0F);
        break;
      case Terms::kMixed:
        v = normal(random) * std::pow(10.0F, 8 * uniform(random) - 4);
        break;
      case Terms::kPositive:
        v = uniform(random);
        break;
    }
  }
  if (terms == Terms::kPeaked) {  // early, so that most terms come after
    for (std::int64_t i = 0; i < rows; i++) {
      const auto at =
          static_cast<std::int64_t>(random() % static_cast<unsigned>(std::max<std::int64_t>(1, n / 8)));
      values[static_cast<std::size_t>(i * n + at)] = uniform(random) - 1.5F;
    }
  }
  return values;
}
/// (rows, n) factors of the terms, around `mean`.
inline std::vector<float> make_factors(std::int64_t rows, std::int64_t n, std::mt19937& random,
                                       float mean = 1, float spread = 1) {
  std::normal_distribution<float> normal(mean, spread);
  std::vector<float> values(static_cast<std::size_t>(rows * n));
  for (float& v : values) v = normal(random);
  return values;
}

/// The terms of a base block of the pairwise sum, which are added up one after another: as NumPy's blocks.
inline constexpr std::int64_t kPairwiseBlock = 128;
inline std::int64_t pairwise_block = kPairwiseBlock;

/// For sums of products: blocks twice as long as a kernel's longest chain (128 words, pairs in bf16), so that
/// what a chain loses is not decided by where it begins. Beside blocks as long as the chains the largest
/// ratio is 1.2 (attention over 700 keys, whose chains are as long), but for AMX tiles.
class ProductBlocks {
 public:
  explicit ProductBlocks(DType dtype) { pairwise_block = dtype == DType::kBF16 ? 512 : 256; }
  ~ProductBlocks() { pairwise_block = kPairwiseBlock; }
  ProductBlocks(const ProductBlocks&) = delete;
  ProductBlocks& operator=(const ProductBlocks&) = delete;
};

/// The sum of term(begin) … term(end - 1): float pairwise, double in order.
template <class Real, class Term>
Real sum_of(std::int64_t begin, std::int64_t end, const Term& term) {
  const std::int64_t n = end - begin;
  if (std::is_same_v<Real, double> || n <= pairwise_block) {
    Real sum = 0;
    for (std::int64_t i = begin; i < end; i++) sum += term(i);
    return sum;
  }
  const std::int64_t half = begin + (n / 2 + pairwise_block - 1) / pairwise_block * pairwise_block;
  return sum_of<Real>(begin, half, term) + sum_of<Real>(half, end, term);
}
/// `n` such sums, each in the order of sum_of: add(i, sums) adds the terms of i to them.
template <class Real, class Add>
std::vector<Real> sums_of(std::int64_t n, std::int64_t begin, std::int64_t end, const Add& add) {
  if (std::is_same_v<Real, double> || end - begin <= pairwise_block) {
    std::vector<Real> sums(static_cast<std::size_t>(n));
    for (std::int64_t i = begin; i < end; i++) add(i, sums.data());
    return sums;
  }
  const std::int64_t half =
      begin + ((end - begin) / 2 + pairwise_block - 1) / pairwise_block * pairwise_block;
  std::vector<Real> sums = sums_of<Real>(n, begin, half, add);
  const std::vector<Real> rest = sums_of<Real>(n, half, end, add);
  for (std::size_t j = 0; j < sums.size(); j++) sums[j] += rest[j];
  return sums;
}
/// sums += factor * row.
template <class Real>
void add_row(Real* sums, Real factor, const float* row, std::int64_t n) {
  for (std::int64_t j = 0; j < n; j++) sums[j] += factor * static_cast<Real>(row[j]);
}
/// The product of two rows of n.
template <class Real>
Real dot_of(const float* a, const float* b, std::int64_t n) {
  return sum_of<Real>(0, n,
                      [&](std::int64_t i) { return static_cast<Real>(a[i]) * static_cast<Real>(b[i]); });
}

/// A result thrice: of a kernel, in f32 by pairwise sums, and in f64.
struct Compared {
  std::string what;
  std::vector<float> got;
  std::vector<double> pairwise, exact;
  /// Of sums of a few terms, which have no order to be wrong about: which of two roundings is nearer to f64
  /// is chance, and a kernel may have one more.
  bool few_terms = false;
};
/// Fails where the kernel's distance from f64 is more than `allowed` times that of the pairwise sums, and of
/// few terms half a unit of f32 more.
void expect_as_exact_as_pairwise(const Compared& c, double allowed = 1);

/// The same of several draws together: where a few large terms make a result, the rounding of one draw's is
/// chance (dq of attention is 0.63 to 2.0 times as far from draw to draw, 0.85 times on the whole).
class Draws {
 public:
  void add(const Compared& draw);
  void expect_as_exact_as_pairwise(double allowed = 1) const;

 private:
  struct Squares {
    double got = 0, pairwise = 0;  // of the relative distances; of few terms with half a unit more
  };
  std::map<std::string, Squares> of_;  // by Compared::what
};

}  // namespace hone::test
