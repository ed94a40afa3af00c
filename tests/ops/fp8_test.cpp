// A linear layer whose products by its weight are of operands in FP8: what is rounded, and along what.
#include <cmath>

#include "base/error.h"
#include "ops/linear.h"
#include "tests/kernels/fp8_oracle.h"
#include "tests/ops/autograd_fixture.h"
#include "tests/tolerance.h"

namespace hone::ops {
namespace {

using test::Fp8Oracle;

class LinearInFp8 : public Autograd {
 protected:
  static constexpr std::int64_t kRows = 140, kIn = 150, kOut = 133;

  static Fp8Oracle rounded(const Tensor& t, std::int64_t block_rows, std::int64_t block_cols) {
    Fp8Oracle m{t.size(0), t.size(1), values_of(t)};
    m.round(block_rows, block_cols);
    return m;
  }
  /// (m, n): the sum over p below k of a(i, p) b(p, j).
  template <typename A, typename B>
  static std::vector<double> product(std::int64_t m, std::int64_t n, std::int64_t k, const A& a, const B& b) {
    std::vector<double> c;
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t j = 0; j < n; ++j) {
        double sum = 0;
        for (std::int64_t p = 0; p < k; ++p) sum += a(i, p) * b(p, j);
        c.push_back(sum);
      }
    return c;
  }
  static void expect_near(const std::vector<double>& got, const std::vector<double>& want) {
    EXPECT_LT(test::relative_distance(got, want), test::tolerance(DType::kF32, kIn));
  }
  /// Backward from dy_. Returns y.
  std::vector<double> run(bool fp8, DeferredGradients* deferred = nullptr) {
    for (const Tensor* t : {&x_, &weight_, &bias_}) t->grad_slot()->reset();
    Tape tape;
    const TapeScope recording(context_, &tape);
    const Weight handle(weight_);
    const std::int64_t before = activations();
    const Tensor y = linear(context_, x_, fp8 ? handle.in_fp8() : handle, bias_);
    kept_ = activations() - before;
    std::vector<std::pair<Tensor, Tensor>> seeds;
    seeds.emplace_back(y, dy_);
    const auto values = values_of(y);
    tape.backward(context_, std::move(seeds), deferred);
    return values;
  }

  Tensor x_ = random_leaf({kRows, kIn}, 1), weight_ = random_leaf({kOut, kIn}, 2),
         bias_ = random_leaf({kOut}, 3);
  Tensor dy_ = random_tensor(context_, {kRows, kOut}, 4);
  std::int64_t kept_ = 0;
};

TEST_F(LinearInFp8, RoundsTheOperandsOfProductsByItsWeight) {
  auto y = run(true);
  const auto bias = values_of(bias_);
  for (std::size_t i = 0; i < y.size(); ++i) y[i] -= bias[i % static_cast<std::size_t>(kOut)];
  Fp8Oracle x = rounded(x_, 1, 128), dy = rounded(dy_, 1, 128), weight = rounded(weight_, 128, 128);
  expect_near(y, product(
                     kRows, kOut, kIn, [&](auto i, auto p) { return x.at(i, p); },
                     [&](auto p, auto j) { return weight.at(j, p); }));
  expect_near(grad_of(x_), product(
                               kRows, kIn, kOut, [&](auto i, auto p) { return dy.at(i, p); },
                               [&](auto p, auto j) { return weight.at(p, j); }));
}

TEST_F(LinearInFp8, KeepsWhatItKeepsAnyway) {
  const auto plain = run(false);
  const auto plain_kept = kept_;
  const auto bias_gradient = grad_of(bias_), weight_gradient = grad_of(weight_), of_x = grad_of(x_);
  const auto fp8 = run(true);
  EXPECT_EQ(kept_, plain_kept);
  EXPECT_EQ(grad_of(bias_), bias_gradient) << "no product";
  EXPECT_EQ(grad_of(weight_), weight_gradient) << "of x and dy as they are";
  // e4m3 has four digits: operands are off by up to 2^-4 of themselves, on average by about 2.6 %, products
  // of two by 3.7 %.
  EXPECT_GT(test::relative_distance(fp8, plain), 0.02);
  EXPECT_LT(test::relative_distance(fp8, plain), 0.05);
  EXPECT_GT(test::relative_distance(grad_of(x_), of_x), 0.02);
  EXPECT_LT(test::relative_distance(grad_of(x_), of_x), 0.05);
}

TEST_F(LinearInFp8, HasTheSameBitsLater) {
  run(true);
  const auto of_x = grad_of(x_), of_weight = grad_of(weight_);
  DeferredGradients deferred;
  run(true, &deferred);
  deferred.run(context_);
  EXPECT_EQ(grad_of(x_), of_x);
  EXPECT_EQ(grad_of(weight_), of_weight);
}

}  // namespace
}  // namespace hone::ops
