// Reference: operands in blocks of FP8 (kernels/fp8.h), by base/small_floats.h and in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/small_floats.h"
#include "kernels/fp8.h"
#include "kernels/reference/typed.h"

namespace hone::kernels::reference {

/// A dense f32 matrix of its own.
struct Rows {
  Rows(std::int64_t rows, std::int64_t cols)
      : values(static_cast<std::size_t>(rows * cols)), matrix{values.data(), DType::kF32, rows, cols, cols} {}
  Rows(const Rows&) = delete;
  Rows& operator=(const Rows&) = delete;
  std::vector<float> values;
  Matrix matrix;
};

/// Rounds a block in place.
inline void round_block(const Matrix& m, std::int64_t row, std::int64_t rows, std::int64_t col,
                        std::int64_t cols) {
  double largest = 0;
  const auto each = [&](const auto& f) {
    for (std::int64_t i = row; i < row + rows; ++i)
      for (std::int64_t j = col; j < col + cols; ++j) f(i, j, load(m, i, j));
  };
  each([&](std::int64_t, std::int64_t, float x) {
    if (std::isfinite(x)) largest = std::max(largest, std::fabs(static_cast<double>(x)));
  });
  int exponent = -117;
  while (std::ldexp(448.0, exponent) < largest) ++exponent;
  each([&](std::int64_t i, std::int64_t j, float x) {
    const Float8E4M3 code(static_cast<float>(std::ldexp(static_cast<double>(x), -exponent)));
    store(m, i, j,
          std::isfinite(x) ? std::ldexp(static_cast<double>(static_cast<float>(code)), exponent)
                           : std::numeric_limits<double>::quiet_NaN());
  });
}

/// Rounds a matrix in place, in blocks of so many rows and columns.
inline void round_blocks(const Matrix& m, std::int64_t block_rows, std::int64_t block_cols) {
  for (std::int64_t i = 0; i < m.rows; i += block_rows)
    for (std::int64_t j = 0; j < m.cols; j += block_cols)
      round_block(m, i, std::min(block_rows, m.rows - i), j, std::min(block_cols, m.cols - j));
}

/// An operand of a product as it is multiplied; fp8: rounded in blocks of block_rows x 128.
struct Operand {
  Operand(const Matrix& m, bool fp8, std::int64_t block_rows)
      : rounded(fp8 ? m.rows : 0, fp8 ? m.cols : 0), matrix(fp8 ? rounded.matrix : m) {
    if (!fp8) return;
    for (std::int64_t i = 0; i < m.rows; ++i)
      for (std::int64_t j = 0; j < m.cols; ++j) store(matrix, i, j, load(m, i, j));
    round_blocks(matrix, block_rows, kFp8Side);
  }
  Rows rounded;
  Matrix matrix;
};

}  // namespace hone::kernels::reference
