// Gradients by central differences, in double: what every gradient kernel is held against.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <vector>

#include "kernels/reference/reference.h"
#include "tests/kernels/arena.h"
#include "tests/tolerance.h"

namespace hone::test {

using Numbers = std::vector<double>;

/// n normal numbers, each exactly a float.
inline Numbers random_numbers(std::size_t n, unsigned seed, double scale = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, static_cast<float>(scale));
  Numbers numbers(n);
  for (double& x : numbers) x = static_cast<double>(normal(random));
  return numbers;
}
inline std::vector<float> to_floats(const Numbers& numbers) {
  return {numbers.begin(), numbers.end()};
}
inline Numbers to_numbers(const std::vector<float>& floats) {
  return {floats.begin(), floats.end()};
}
/// A dense f32 matrix over `floats`.
inline Matrix as_matrix(std::vector<float>& floats, std::int64_t cols) {
  return {floats.data(), DType::kF32, static_cast<std::int64_t>(floats.size()) / cols, cols, cols};
}

/// The gradient of <weights, f(x)> for x.
inline Numbers numeric_gradient(const std::function<Numbers(const Numbers&)>& f, Numbers x,
                                const Numbers& weights) {
  constexpr double kStep = 1e-5;
  const auto loss = [&] {
    const Numbers y = f(x);
    double sum = 0;
    for (std::size_t i = 0; i < y.size(); ++i) sum += weights[i] * y[i];
    return sum;
  };
  Numbers gradient(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double before = x[i];
    x[i] = before + kStep;
    const double above = loss();
    x[i] = before - kStep;
    gradient[i] = (above - loss()) / (2 * kStep);
    x[i] = before;
  }
  return gradient;
}

/// Fails the running test where the floats are further from the numbers than f32 sums of that length may be.
inline void expect_close(const std::vector<float>& got, const Numbers& want, std::int64_t reduction_length,
                         const char* what) {
  const double distance = relative_distance(to_numbers(got), want);
  EXPECT_TRUE(distance <= tolerance(DType::kF32, reduction_length)) << what << " is off by " << distance;
}

}  // namespace hone::test
