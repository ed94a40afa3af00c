// Blocks of FP8 by their definition alone: the list of e4m3's numbers, and the nearest of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace hone::test {

/// The magnitudes of e4m3 in order; those with an even index end in a 0 digit.
inline const std::vector<double>& e4m3_magnitudes() {
  static const std::vector<double> kAll = [] {
    std::vector<double> all;
    for (int code = 0; code < 127; ++code)
      all.push_back(code < 8 ? std::ldexp(code, -9) : std::ldexp(8 + code % 8, code / 8 - 10));
    return all;
  }();
  return kAll;
}

/// The nearest, of two as near the even one.
inline double nearest_e4m3(double x) {
  const auto& all = e4m3_magnitudes();
  const auto above = std::lower_bound(all.begin(), all.end(), std::fabs(x));
  if (above == all.begin()) return std::copysign(0.0, x);
  const double high = *above, low = *(above - 1), middle = (low + high) / 2;
  const bool up = std::fabs(x) > middle || (std::fabs(x) == middle && (above - all.begin()) % 2 == 0);
  return std::copysign(up ? high : low, x);
}

/// Rows of numbers, rounded in blocks of so many rows and columns.
struct Fp8Oracle {
  std::int64_t rows, cols;
  std::vector<double> values;

  double& at(std::int64_t i, std::int64_t j) { return values[static_cast<std::size_t>(i * cols + j)]; }
  void round(std::int64_t block_rows, std::int64_t block_cols) {
    for (std::int64_t i = 0; i < rows; i += block_rows)
      for (std::int64_t j = 0; j < cols; j += block_cols)
        round_block(i, std::min(rows, i + block_rows), j, std::min(cols, j + block_cols));
  }

 private:
  void round_block(std::int64_t i0, std::int64_t i1, std::int64_t j0, std::int64_t j1) {
    double largest = 0;
    for (std::int64_t i = i0; i < i1; ++i)
      for (std::int64_t j = j0; j < j1; ++j) largest = std::max(largest, std::fabs(at(i, j)));
    const double scale =
        largest > 0 ? std::max(0x1p-117, std::exp2(std::ceil(std::log2(largest / 448)))) : 0x1p-117;
    for (std::int64_t i = i0; i < i1; ++i)
      for (std::int64_t j = j0; j < j1; ++j) at(i, j) = nearest_e4m3(at(i, j) / scale) * scale;
  }
};

}  // namespace hone::test
