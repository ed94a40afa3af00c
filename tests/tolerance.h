// The one table of tolerances: how far apart two right answers may lie.
//
// Distances are relative norms, |a - b| / |b|. An f32 sum of n terms in any order is off by about u sqrt(n),
// u = 2^-24, when roundings are independent, and every step of a formula adds a few u. bf16 (u = 2^-9) is a
// storage type: what is rounded to it, once, is off by at most u, and a result may have passed one rounded
// intermediate.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include "base/dtype.h"

namespace hone::test {

/// dtype: the narrowest type that the result, or a value on the way to it, is stored in. reduction_length:
/// the terms of the longest sum.
inline double tolerance(DType dtype, std::int64_t reduction_length) {
  const double f32 = 0x1p-24 * (8 + 2 * std::sqrt(static_cast<double>(reduction_length)));
  return dtype == DType::kBF16 ? 0x1p-8 + f32 : f32;
}

/// |a - b| / |b|; where b is 0, |a|. Not a number if either holds one.
inline double relative_distance(std::span<const double> a, std::span<const double> b) {
  if (a.size() != b.size()) return NAN;
  double difference = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

}  // namespace hone::test
