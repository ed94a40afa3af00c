// The 8-bit and 4-bit floats of quantised checkpoints, code by code.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "base/small_floats.h"

namespace hone {
namespace {

/// sign, exponent and mantissa as the formats define them; NaN for a code that is none.
double formula(unsigned bits, int exponent_bits, int mantissa_bits, int bias) {
  const unsigned mantissa = bits & ((1U << mantissa_bits) - 1);
  const auto exponent = static_cast<int>(bits >> mantissa_bits & ((1U << exponent_bits) - 1));
  const double sign = (bits >> (exponent_bits + mantissa_bits) & 1U) != 0 ? -1 : 1;
  const double fraction = mantissa / std::exp2(mantissa_bits);
  return sign * (exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias));
}

template <typename T>
T coded(unsigned bits) {
  T value;
  value.bits = static_cast<std::uint8_t>(bits);
  return value;
}

/// `last`: the largest code. Each float rounds to the nearest code, halfway to the even one.
template <typename T>
void expect_rounding(unsigned last, unsigned sign_bit) {
  for (unsigned code = 0; code < last; ++code) {
    const auto low = static_cast<float>(coded<T>(code));
    const auto high = static_cast<float>(coded<T>(code + 1));
    const float middle = (low + high) / 2;
    const unsigned even = code % 2 == 0 ? code : code + 1;
    for (const unsigned sign : {0U, sign_bit}) {
      const float s = sign != 0 ? -1.0F : 1.0F;
      EXPECT_EQ(T(s * low).bits, code | sign);
      EXPECT_EQ(T(s * middle).bits, even | sign) << middle;
      EXPECT_EQ(T(s * std::nextafter(middle, 0.0F)).bits, code | sign) << middle;
      EXPECT_EQ(T(s * std::nextafter(middle, 1e9F)).bits, (code + 1) | sign) << middle;
    }
  }
  for (const float beyond : {T::kMax, T::kMax * 1.01F, 1e30F, std::numeric_limits<float>::infinity()}) {
    EXPECT_EQ(T(beyond).bits, last);
    EXPECT_EQ(T(-beyond).bits, last | sign_bit);
  }
}

TEST(Float8E4M3, DecodesAndRoundsEveryCode) {
  for (unsigned bits = 0; bits < 256; ++bits) {
    if ((bits & 0x7fU) == 0x7fU)
      EXPECT_TRUE(std::isnan(static_cast<float>(coded<Float8E4M3>(bits))));
    else
      EXPECT_EQ(static_cast<double>(static_cast<float>(coded<Float8E4M3>(bits))), formula(bits, 4, 3, 7))
          << bits;
  }
  EXPECT_EQ(static_cast<float>(coded<Float8E4M3>(0x7e)), Float8E4M3::kMax);
  expect_rounding<Float8E4M3>(0x7e, 0x80);
  EXPECT_EQ(Float8E4M3(std::numeric_limits<float>::quiet_NaN()).bits & 0x7fU, 0x7fU);
}

TEST(Float4E2M1, DecodesAndRoundsEveryCode) {
  for (unsigned bits = 0; bits < 16; ++bits)
    EXPECT_EQ(static_cast<double>(static_cast<float>(coded<Float4E2M1>(bits))), formula(bits, 2, 1, 1))
        << bits;
  EXPECT_EQ(static_cast<float>(coded<Float4E2M1>(7)), Float4E2M1::kMax);
  expect_rounding<Float4E2M1>(0x7, 0x8);
}

TEST(Float8E8M0, IsAPowerOfTwo) {
  for (unsigned bits = 0; bits < 255; ++bits)
    EXPECT_EQ(static_cast<double>(static_cast<float>(coded<Float8E8M0>(bits))),
              std::ldexp(1.0, static_cast<int>(bits) - 127));
  EXPECT_TRUE(std::isnan(static_cast<float>(coded<Float8E8M0>(255))));
}

}  // namespace
}  // namespace hone
