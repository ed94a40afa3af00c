// Operands in blocks of FP8, as MatmulArgs::fp8 has them: the scale of a block and its numbers.
//
// A block is e4m3 times one scale, the least power of two (not below 2^-117) by which its largest finite
// magnitude is at most 448; numbers round to nearest even. Why blocks, why powers of two, why e4m3 alone:
//   - A block's scale comes from the block: nothing is remembered from step to step (as by delayed scaling),
//     a run is resumed and split among threads without a trace, and an outlier of 1e4 costs its 127
//     neighbours bits, not the whole tensor.
//   - A power of two changes no digit: a rounded number has four of them and is exact in bf16 (its exponent,
//     too: 2^-9 of the least scale is bf16's least normal number). So a product of rounded operands is
//     one of bf16 matrices, on every processor and card, and tensor cores for FP8 multiply the same
//     numbers.
//   - With a scale for every 128, e5m2's range is not wanted, and gradients keep e4m3's third digit (3.3.2 of
//     the report).
// What is not finite becomes NaN (e4m3 has no infinities) and does not count for the scale, so that it
// reaches every sum it takes part in, the loss and the gradients' norm, which skip the step. A number that
// e4m3 rounds up to 2^128 (from 1.9375 * 2^127 on) becomes infinite.
#pragma once

#include <cstdint>

namespace hone::kernels {

/// The side of a block.
inline constexpr std::int64_t kFp8Side = 128;

// U: the bits of an f32 number, or a vector of them (a GCC vector type).

/// What a number's magnitude counts with for its block's scale: 0 of what is not finite. The largest of a
/// block are the bits of the largest magnitude.
template <typename U>
[[gnu::always_inline]] constexpr U fp8_magnitude(U bits) {
  const U magnitude = bits & 0x7fffffffU;
  return magnitude < 0x7f800000U ? magnitude : magnitude & 0U;
}

/// A block's scale and its inverse.
template <typename U>
struct Fp8Scale {
  U scale, inverse;
};
/// largest: of fp8_magnitude. 448 is 1.75 * 2^8: a mantissa above 1.75 takes the next power of two.
template <typename U>
[[gnu::always_inline]] constexpr Fp8Scale<U> fp8_scale(U largest) {
  const U up = (largest + 0x1fffffU) >> 23U, zero = up & 0U;
  const U exponent = up > 18U ? up - 8U : zero + 10U;  // 10: 2^-117
  return {exponent << 23U, (254U - exponent) << 23U};
}

/// The power of two that, added to a magnitude in [0, 448] and taken off again, rounds it to e4m3: to a
/// multiple of 2^(its exponent - 3), of 2^-9 below 2^-6.
template <typename U>
[[gnu::always_inline]] constexpr U fp8_rounder(U magnitude) {
  const U exponent = magnitude & 0x7f800000U, least = (magnitude & 0U) + (121U << 23U);
  return (exponent > least ? exponent : least) + (20U << 23U);
}

}  // namespace hone::kernels
