// The floating types of quantised checkpoints, of 8 bits and 4. Only in files and in packed weights:
// arithmetic is in float. (OCP Microscaling Formats 1.0.)
#pragma once

#include <bit>
#include <cstdint>

namespace hone {

/// A float8_e4m3fn number: no infinities, one NaN of either sign. Only in files. Rounds to nearest even,
/// beyond 448 to 448.
struct Float8E4M3 {
  static constexpr float kMax = 448;
  std::uint8_t bits = 0;
  Float8E4M3() = default;
  explicit Float8E4M3(float value);
  explicit operator float() const;
};

/// A float4_e2m1fn number, in the low half of its byte: 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives.
/// Rounds to nearest even, beyond 6 to 6; NaN becomes 6.
struct Float4E2M1 {
  static constexpr float kMax = 6;
  std::uint8_t bits = 0;
  Float4E2M1() = default;
  explicit Float4E2M1(float value);
  explicit operator float() const;
};

/// A float8_e8m0fnu number, the scale of an MX block: 2^(bits - 127), 255 is NaN.
struct Float8E8M0 {
  std::uint8_t bits = 0;
  explicit operator float() const {
    if (bits == 0) return 0x1p-127F;
    return std::bit_cast<float>(bits == 255 ? 0x7fc00000U : static_cast<std::uint32_t>(bits) << 23);
  }
};

}  // namespace hone
