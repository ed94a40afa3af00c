// The weights of experts, one element at a time.
#pragma once

#include <cmath>
#include <vector>

#include "kernels/reference/typed.h"

namespace hone::kernels::reference {

/// 2^(byte - 127); 255 is not a number (OCP Microscaling 1.0, 5.4.1).
inline double decode_e8m0(std::uint8_t byte) {
  return byte == 255 ? std::nan("") : std::ldexp(1.0, byte - 127);
}
/// Sign, two bits of exponent, one of mantissa (OCP Microscaling 1.0, 5.3.3).
inline double decode_e2m1(std::uint8_t bits) {
  constexpr double kMagnitudes[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  return (bits & 8U) != 0 ? -kMagnitudes[bits & 7U] : kMagnitudes[bits & 7U];
}
/// Sign, four bits of exponent, three of mantissa; all ones is not a number (OCP FP8 1.0, E4M3).
inline double decode_e4m3(std::uint8_t bits) {
  const int exponent = bits >> 3 & 15, mantissa = bits & 7;
  if (exponent == 15 && mantissa == 7) return std::nan("");
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
  return (bits & 0x80U) != 0 ? -magnitude : magnitude;
}

/// Expert e's (parts * rows, k) of a weight as f32 numbers that T holds.
struct ExpertMatrix {
  ExpertMatrix(const ExpertWeight& w, DType t, std::int64_t e, std::int64_t parts, std::int64_t rows,
               std::int64_t k)
      : values(static_cast<std::size_t>(parts * rows * k)),
        matrix{values.data(), DType::kF32, parts * rows, k, k} {
    for (std::int64_t r = 0; r < parts * rows; ++r)
      for (std::int64_t c = 0; c < k; ++c) {
        const auto value = static_cast<float>(element(w, t, e, parts, rows, k, r, c));
        values[static_cast<std::size_t>(r * k + c)] =
            t == DType::kBF16 ? static_cast<float>(BFloat16(value)) : value;
      }
  }
  ExpertMatrix(const ExpertMatrix&) = delete;
  ExpertMatrix& operator=(const ExpertMatrix&) = delete;

  std::vector<float> values;
  Matrix matrix;

 private:
  static double element(const ExpertWeight& w, DType t, std::int64_t e, std::int64_t parts, std::int64_t rows,
                        std::int64_t k, std::int64_t r, std::int64_t c) {
    const std::int64_t row = e * parts * rows + r, at = row * k + c;
    const auto* bytes = static_cast<const std::uint8_t*>(w.data);
    switch (w.kind) {
      case WeightKind::kDense:
        return load(w.data, t, at);
      case WeightKind::kMxfp4:
        return decode_e2m1(bytes[at / 2] >> (at % 2 * 4) & 15U) *
               decode_e8m0(static_cast<const std::uint8_t*>(w.scales)[at / 32]);
      case WeightKind::kFp8Block: {
        const std::int64_t blocks = (rows + 127) / 128,
                           block = (e * parts + r / rows) * blocks + r % rows / 128;
        return decode_e4m3(bytes[at]) *
               static_cast<double>(static_cast<const float*>(w.scales)[block * ((k + 127) / 128) + c / 128]);
      }
    }
    return 0;
  }
};

}  // namespace hone::kernels::reference
