// Products of f32 against f64 where magnitudes, signs and special values are as bad as they get: every
// instruction set is about as exact as one chain of fused multiply-adds, the one that multiplies floats as
// parts (AMX) too. (Long sums: long_sums_test.cpp.)
#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "tests/kernels/against_reference.h"

namespace hone {
namespace {

using kernels::KernelTable;
using kernels::MatmulArgs;
using kernels::Matrix;

constexpr double kUnit = 0x1p-24;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Shape {
  std::int64_t m, n, k;
  bool transpose_a, transpose_b;
};
constexpr Shape kShapes[] = {{37, 45, 512, false, true},  {33, 31, 95, true, false},
                             {5, 70, 33, false, false},   {64, 64, 1300, true, true},
                             {16, 17, 1, false, true},    {200, 96, 600, false, false},
                             {48, 33, 2049, true, false}, {17, 40, 64, false, true}};

/// The operands of a product as they lie in memory.
struct Product {
  Shape shape;
  std::vector<float> a, b;

  template <class Make>
  Product(const Shape& s, unsigned seed, const Make& make)
      : shape(s), a(static_cast<std::size_t>(s.m * s.k)), b(static_cast<std::size_t>(s.k * s.n)) {
    std::mt19937 random(seed);
    for (float& x : a) x = make(random);
    for (float& x : b) x = make(random);
  }
  float& left(std::int64_t i, std::int64_t k) {
    return a[static_cast<std::size_t>(shape.transpose_a ? k * shape.m + i : i * shape.k + k)];
  }
  float& right(std::int64_t k, std::int64_t j) {
    return b[static_cast<std::size_t>(shape.transpose_b ? j * shape.k + k : k * shape.n + j)];
  }
  /// Every element as one chain of fused multiply-adds.
  std::vector<float> chains() {
    std::vector<float> c;
    for (std::int64_t i = 0; i < shape.m; ++i) {
      for (std::int64_t j = 0; j < shape.n; ++j) {
        float sum = 0;
        for (std::int64_t k = 0; k < shape.k; ++k) sum = std::fma(left(i, k), right(k, j), sum);
        c.push_back(sum);
      }
    }
    return c;
  }
  std::vector<float> run(const KernelTable& table) {
    std::vector<float> c(static_cast<std::size_t>(shape.m * shape.n));
    const auto matrix = [](std::vector<float>& of, std::int64_t rows, std::int64_t cols) {
      return Matrix{of.data(), DType::kF32, rows, cols, cols};
    };
    MatmulArgs args;
    args.transpose_a = shape.transpose_a;
    args.transpose_b = shape.transpose_b;
    args.a = shape.transpose_a ? matrix(a, shape.k, shape.m) : matrix(a, shape.m, shape.k);
    args.b = shape.transpose_b ? matrix(b, shape.n, shape.k) : matrix(b, shape.k, shape.n);
    args.c = matrix(c, shape.m, shape.n);
    device::CpuStream stream = test::make_stream(2);
    table.matmul(args, stream);
    return c;
  }
};

/// How far c is from the product, in f32 roundings of the sum of |a b|: the largest and the root mean square.
struct Error {
  double largest = 0, mean = 0, bias = 0;
};
Error error_of(Product& p, const std::vector<float>& c) {
  Error error;
  for (std::int64_t i = 0; i < p.shape.m; ++i) {
    for (std::int64_t j = 0; j < p.shape.n; ++j) {
      double sum = 0, size = 0;
      for (std::int64_t k = 0; k < p.shape.k; ++k) {
        const double term = static_cast<double>(p.left(i, k)) * static_cast<double>(p.right(k, j));
        sum += term;
        size += std::abs(term);
      }
      const double off = (static_cast<double>(c[static_cast<std::size_t>(i * p.shape.n + j)]) - sum) /
                         (size * kUnit + 1e-36);
      error.largest = std::max(error.largest, std::abs(off));
      error.mean += off * off / static_cast<double>(p.shape.m * p.shape.n);
      error.bias += off / static_cast<double>(p.shape.m * p.shape.n);
    }
  }
  error.mean = std::sqrt(error.mean);
  return error;
}

template <class Make>
void expect_exact(const std::string& what, const Make& make) {
  const auto tables = test::matrix_tables();
  unsigned seed = 1;
  for (const Shape& shape : kShapes) {
    Product product(shape, seed++, make);
    const Error fma = error_of(product, product.chains());
    for (const auto& [name, table] : tables) {
      const Error error = error_of(product, product.run(table));
      if (name.ends_with("amx")) {
        const std::string test = fmt::format("{} {}x{}x{}", what, shape.m, shape.n, shape.k);
        testing::Test::RecordProperty(test, fmt::format("{:.3f} {:.3f}, fma {:.3f} {:.3f}", error.mean,
                                                        error.largest, fma.mean, fma.largest));
      }
      EXPECT_LE(error.mean, 1.3 * fma.mean + 0.1) << name << " " << what << " k " << shape.k;
      EXPECT_LE(error.largest, 2 * fma.largest + 1) << name << " " << what << " k " << shape.k;
    }
  }
}

float any_mantissa(std::mt19937& random, int least_exponent, int greatest_exponent) {
  std::uniform_real_distribution<float> mantissa(1, 2);
  std::uniform_int_distribution<int> exponent(least_exponent, greatest_exponent);
  return std::ldexp(random() % 2 == 0 ? mantissa(random) : -mantissa(random), exponent(random));
}

TEST(MatmulF32, IsExactForNormalNumbers) {
  expect_exact("normal", [](std::mt19937& r) { return std::normal_distribution<float>()(r); });
}
TEST(MatmulF32, IsExactForPositiveNumbers) {  // where errors of one sign would add up
  expect_exact("positive", [](std::mt19937& r) { return std::abs(any_mantissa(r, 0, 0)); });
}
TEST(MatmulF32, IsExactForMixedMagnitudes) {  // 1e-18 … 1e18
  expect_exact("mixed", [](std::mt19937& r) { return any_mantissa(r, -60, 60); });
}
TEST(MatmulF32, IsExactForSmallAndForLargeNumbers) {
  expect_exact("small", [](std::mt19937& r) { return any_mantissa(r, -50, -46); });
  expect_exact("large", [](std::mt19937& r) { return any_mantissa(r, 54, 57); });
}
TEST(MatmulF32, IsExactForEverySetOfBits) {  // mantissas of few ones and of few zeros
  expect_exact("bits", [](std::mt19937& r) {
    const auto sparse = static_cast<std::uint32_t>(r() & r() & r()), bits = r() % 2 == 0 ? sparse : ~sparse;
    return std::ldexp(static_cast<float>((bits & 0x7fffff) | 0x800000), -23);
  });
}

// Integers whose products and sums fit 24 bits come out exactly.
TEST(MatmulF32, OfIntegersHasNoError) {
  for (const Shape& shape : kShapes) {
    Product product(shape, 3,
                    [](std::mt19937& r) { return static_cast<float>(static_cast<int>(r() % 181) - 90); });
    for (const auto& [name, table] : test::matrix_tables()) {
      EXPECT_EQ(error_of(product, product.run(table)).largest, 0) << name << " k " << shape.k;
    }
  }
}

// x * y - x * y over neighbours of k, and a remainder.
TEST(MatmulF32, SurvivesCancellation) {
  for (const Shape& shape : kShapes) {
    if (shape.k < 4) continue;
    Product product(shape, 5, [](std::mt19937& r) { return any_mantissa(r, 0, 20); });
    for (std::int64_t k = 0; k + 2 < shape.k; k += 2) {
      for (std::int64_t i = 0; i < shape.m; ++i) product.left(i, k + 1) = -product.left(i, k);
      for (std::int64_t j = 0; j < shape.n; ++j) product.right(k + 1, j) = product.right(k, j);
    }
    for (const auto& [name, table] : test::matrix_tables()) {
      EXPECT_LE(error_of(product, product.run(table)).largest, 4) << name << " k " << shape.k;
    }
  }
}

/// Equal, both not a number, or finite and close.
bool agree(float got, float want) {
  if (std::isnan(want)) return std::isnan(got);
  if (std::isinf(want) || std::isinf(got)) return got == want;
  return std::abs(got - want) <= 1e-4F * (1 + std::abs(want));
}

// Infinities and NaN come out where a chain of multiply-adds has them, and change no other element.
TEST(MatmulF32, KeepsInfinitiesAndNan) {
  for (const Shape& shape : kShapes) {
    Product clean(shape, 7, [](std::mt19937& r) { return std::normal_distribution<float>()(r); });
    for (std::int64_t j = 0; j < shape.n; j += 3) clean.right(0, j) = j % 2 == 0 ? 1.0F : -0.5F;  // one part
    Product product = clean;
    const float special[] = {kInfinity, -kInfinity, kNan, 3.4e38F};
    for (std::int64_t i = 1; i < shape.m; i += 7) {
      product.left(i, i % 2 == 0 ? 0 : shape.k - 1) = special[i / 7 % 4];
    }
    if (shape.n > 20) product.right(shape.k / 2, 20) = kInfinity;
    if (shape.n > 30) product.right(shape.k / 2, 30) = kNan;
    for (const auto& [name, table] : test::matrix_tables()) {
      const std::vector<float> c = product.run(table), before = clean.run(table);
      for (std::int64_t i = 0; i < shape.m; ++i) {
        for (std::int64_t j = 0; j < shape.n; ++j) {
          const float got = c[static_cast<std::size_t>(i * shape.n + j)];
          float want = 0;
          for (std::int64_t k = 0; k < shape.k; ++k)
            want = std::fma(product.left(i, k), product.right(k, j), want);
          if (std::abs(want) > 1e36F && !std::isinf(want)) continue;  // next to overflow
          ASSERT_TRUE(agree(got, want)) << name << " " << i << " " << j << ": " << got << ", not " << want;
          const bool touched = i % 7 == 1 || j == 20 || j == 30;
          if (touched) continue;
          ASSERT_EQ(got, before[static_cast<std::size_t>(i * shape.n + j)]) << name;
        }
      }
    }
  }
}

// Below 2^-126 numbers may count as 0, and no more than that.
TEST(MatmulF32, TakesSubnormalNumbersForThemselvesOrForZero) {
  for (const Shape& shape : kShapes) {
    Product product(shape, 9, [](std::mt19937& r) { return any_mantissa(r, -149, -110); });
    for (std::int64_t k = 0; k < shape.k; ++k) {
      for (std::int64_t j = 0; j < shape.n; ++j) product.right(k, j) = std::ldexp(product.right(k, j), 130);
    }
    for (const auto& [name, table] : test::matrix_tables()) {
      const std::vector<float> c = product.run(table);
      for (std::int64_t i = 0; i < shape.m; ++i) {
        for (std::int64_t j = 0; j < shape.n; ++j) {
          double sum = 0, size = 0, terms = 0;
          for (std::int64_t k = 0; k < shape.k; ++k) {
            const double term =
                static_cast<double>(product.left(i, k)) * static_cast<double>(product.right(k, j));
            sum += term;
            terms += std::abs(term);
            size += std::abs(static_cast<double>(product.right(k, j))) + 1;
          }
          EXPECT_NEAR(static_cast<double>(c[static_cast<std::size_t>(i * shape.n + j)]), sum,
                      size * 0x1p-126 * 8 + terms * kUnit * 8)
              << name;
        }
      }
      if (HasFailure()) return;
    }
  }
}

}  // namespace
}  // namespace hone
