// Reference: matrix product and column sum.
#include <algorithm>
#include <array>
#include <vector>

#include "kernels/reference/fp8.h"
#include "kernels/reference/reference.h"

namespace hone::kernels::reference {

namespace {

constexpr std::int64_t kTile = 64;

/// One tile of c: rows i0 … i1-1, columns j0 … j1-1, summed in double over k in ascending order. left, right:
/// the operands.
void product_tile(const MatmulArgs& a, const Matrix& left, const Matrix& right, std::int64_t k,
                  std::int64_t i0, std::int64_t i1, std::int64_t j0, std::int64_t j1) {
  const auto width = static_cast<std::size_t>(j1 - j0);
  std::vector<double> b(static_cast<std::size_t>(k) * width);  // op(b), columns j0 … j1-1
  for (std::int64_t p = 0; p < k; ++p)
    for (std::int64_t j = j0; j < j1; ++j)
      b[static_cast<std::size_t>(p) * width + static_cast<std::size_t>(j - j0)] =
          a.transpose_b ? load(right, j, p) : load(right, p, j);
  for (std::int64_t i = i0; i < i1; ++i) {
    std::array<double, kTile> sum{};
    for (std::int64_t p = 0; p < k; ++p) {
      const double x = a.transpose_a ? load(left, p, i) : load(left, i, p);
      const double* row = b.data() + static_cast<std::size_t>(p) * width;
      for (std::size_t j = 0; j < width; ++j) sum[j] += x * row[j];
    }
    for (std::int64_t j = j0; j < j1; ++j) {
      double value = sum[static_cast<std::size_t>(j - j0)];
      if (a.has_bias) value += load(a.bias, a.a.dtype, j);
      if (a.residual.given()) value += load(a.residual, i, j);
      put(a.c, i, j, value, a.accumulate);
    }
  }
}

}  // namespace

void matmul(const MatmulArgs& a, Stream& stream) {
  const std::int64_t m = a.c.rows, n = a.c.cols;
  const std::int64_t k = a.transpose_a ? a.a.rows : a.a.cols;
  const Operand left(a.a, a.fp8, 1), right(a.b, a.fp8, kFp8Side);
  const std::int64_t row_tiles = (m + kTile - 1) / kTile, col_tiles = (n + kTile - 1) / kTile;
  parallel_for(stream, row_tiles * col_tiles, [&](std::int64_t tile) {
    const std::int64_t i0 = tile / col_tiles * kTile, j0 = tile % col_tiles * kTile;
    product_tile(a, left.matrix, right.matrix, k, i0, std::min(m, i0 + kTile), j0, std::min(n, j0 + kTile));
  });
}

void column_sum(const ColumnSumArgs& a, Stream& stream) {
  parallel_for(stream, a.x.cols, [&](std::int64_t j) {
    double sum = 0;
    for (std::int64_t i = 0; i < a.x.rows; ++i) sum += load(a.x, i, j);
    put(a.out, a.out_dtype, j, sum, a.accumulate);
  });
}

}  // namespace hone::kernels::reference
