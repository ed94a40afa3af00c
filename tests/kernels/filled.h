// An input of an arena whose numbers a test chooses.
#pragma once

#include <bit>
#include <cmath>
#include <vector>

#include "tests/kernels/arena.h"

namespace hone::test {

/// Element (i, j) is number(i, j); between the rows lies NaN.
template <typename Number>
Matrix filled(Arena& arena, std::int64_t rows, std::int64_t cols, DType dtype, std::int64_t stride_pad,
              const Number& number) {
  const std::int64_t stride = cols + stride_pad;
  std::vector<double> numbers(static_cast<std::size_t>(rows * stride), NAN);
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < cols; ++j)
      numbers[static_cast<std::size_t>(i * stride + j)] = static_cast<double>(number(i, j));
  if (dtype == DType::kF32) return {arena.floats(numbers), dtype, rows, cols, stride};
  std::vector<std::int32_t> pairs((numbers.size() + 1) / 2);
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const std::uint32_t bits = BFloat16(static_cast<float>(numbers[i])).bits;
    pairs[i / 2] |= static_cast<std::int32_t>(bits << i % 2 * 16);
  }
  return {arena.integers(pairs), dtype, rows, cols, stride};
}

}  // namespace hone::test
