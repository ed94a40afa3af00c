#include "base/small_floats.h"

#include <array>

namespace hone {

Float8E4M3::Float8E4M3(float value) {
  const auto u = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint32_t>((u >> 24) & 0x80u);
  const std::uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {
    bits = static_cast<std::uint8_t>(sign | 0x7fu);
  } else if (magnitude >= std::bit_cast<std::uint32_t>(kMax)) {
    bits = static_cast<std::uint8_t>(sign | 0x7eu);
  } else if (magnitude <
             std::bit_cast<std::uint32_t>(0x1p-6F)) {  // multiples of 2^-9: the float adder rounds
    const float shifted = std::bit_cast<float>(magnitude) + 0x1p14F;
    bits = static_cast<std::uint8_t>(sign | (std::bit_cast<std::uint32_t>(shifted) & 0xfu));
  } else {
    const std::uint32_t rounded = magnitude + 0x7ffffu + ((magnitude >> 20) & 1u);
    bits = static_cast<std::uint8_t>(sign | ((rounded >> 20) - (120u << 3)));
  }
}

Float8E4M3::operator float() const {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x80u) << 24;
  const std::uint32_t exponent = (bits >> 3) & 0xfu;
  const std::uint32_t mantissa = bits & 0x7u;
  if ((bits & 0x7fu) == 0x7fu) return std::bit_cast<float>(sign | 0x7fc00000u);
  if (exponent == 0) return (sign != 0u ? -0x1p-9F : 0x1p-9F) * static_cast<float>(mantissa);
  return std::bit_cast<float>(sign | ((exponent + 120u) << 23) | (mantissa << 20));
}

Float4E2M1::Float4E2M1(float value) {
  const auto u = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint32_t>((u >> 28) & 0x8u);
  const std::uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude >= std::bit_cast<std::uint32_t>(kMax)) {
    bits = static_cast<std::uint8_t>(sign | 0x7u);
  } else if (magnitude < std::bit_cast<std::uint32_t>(1.0F)) {  // multiples of 0.5
    const float shifted = std::bit_cast<float>(magnitude) + 0x1p22F;
    bits = static_cast<std::uint8_t>(sign | (std::bit_cast<std::uint32_t>(shifted) & 0x3u));
  } else {
    const std::uint32_t rounded = magnitude + 0x1fffffu + ((magnitude >> 22) & 1u);
    bits = static_cast<std::uint8_t>(sign | ((rounded >> 22) - (126u << 1)));
  }
}

Float4E2M1::operator float() const {
  constexpr std::array<float, 8> kValues{0, 0.5F, 1, 1.5F, 2, 3, 4, 6};
  return (bits & 0x8u) != 0u ? -kValues[bits & 0x7u] : kValues[bits & 0x7u];
}

}  // namespace hone
