// What operands come to, for costs (cost.cpp) and models of time (card_work.cpp).
#pragma once

#include "kernels/arguments.h"

namespace hone::kernels::sizes {

inline double real(std::int64_t n) {
  return static_cast<double>(n);
}
inline double bytes_of(DType dtype) {
  return static_cast<double>(size_of(dtype));
}
inline double elements(const Matrix& m) {
  return real(m.rows) * real(m.cols);
}
inline double bytes(const Matrix& m) {
  return elements(m) * bytes_of(m.dtype);
}
/// A result that is only written, or read as well when accumulating.
inline double written(double size, bool accumulate) {
  return accumulate ? 2 * size : size;
}
/// The bytes of an element, its share of a scale included.
inline double weight_bytes(const ExpertWeight& w, DType t) {
  switch (w.kind) {
    case WeightKind::kDense:
      return bytes_of(t);
    case WeightKind::kMxfp4:
      return 17.0 / 32;
    case WeightKind::kFp8Block:
      return 1 + 4.0 / (128 * 128);
  }
  return 0;
}

}  // namespace hone::kernels::sizes
