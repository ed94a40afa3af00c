// Typed access for the reference kernels: one element at a time, f32 or bf16 storage, and a parallel loop
// whose result cannot depend on the number of threads because every index is computed by one thread.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/kernels.h"

namespace hone::kernels::reference {

inline float load(const void* data, DType dtype, std::int64_t i) {
  return dtype == DType::kBF16 ? static_cast<float>(static_cast<const BFloat16*>(data)[i])
                               : static_cast<const float*>(data)[i];
}
inline void store(void* data, DType dtype, std::int64_t i, double value) {
  const auto rounded = static_cast<float>(value);
  if (dtype == DType::kBF16)
    static_cast<BFloat16*>(data)[i] = BFloat16(rounded);
  else
    static_cast<float*>(data)[i] = rounded;
}
/// Overwrites the element, or adds to it.
inline void put(void* data, DType dtype, std::int64_t i, double value, bool accumulate) {
  store(data, dtype, i, accumulate ? value + load(data, dtype, i) : value);
}

inline float load(const Matrix& m, std::int64_t row, std::int64_t col) {
  return load(m.data, m.dtype, row * m.stride + col);
}
inline void store(const Matrix& m, std::int64_t row, std::int64_t col, double value) {
  store(m.data, m.dtype, row * m.stride + col, value);
}
inline void put(const Matrix& m, std::int64_t row, std::int64_t col, double value, bool accumulate) {
  put(m.data, m.dtype, row * m.stride + col, value, accumulate);
}

/// The rows begin … begin+count-1 of a matrix; of one that is left out, the same.
inline Matrix rows_of(const Matrix& m, std::int64_t begin, std::int64_t count) {
  if (!m.given()) return m;
  const auto offset = begin * m.stride * static_cast<std::int64_t>(size_of(m.dtype));
  return {static_cast<char*>(m.data) + offset, m.dtype, count, m.cols, m.stride};
}

/// Calls body(i) for i in 0 … n-1, each index on one thread.
template <typename Body>
void parallel_for(Stream& stream, std::int64_t n, const Body& body) {
  stream.team().parallel_ranges(stream.num_threads(), n, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) body(i);
  });
}

inline double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

}  // namespace hone::kernels::reference
