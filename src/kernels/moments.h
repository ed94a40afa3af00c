// What optimizers keep in fewer bits: moments of eight, and weights of sixteen that are rounded at random.
#pragma once

#include <cstdint>

namespace hone::kernels {

/// Elements, in the order of memory, that share a scale.
inline constexpr std::int64_t kMomentBlock = 256;

/// What a moment of eight bits can be, in units of its block's scale: the dynamic map of Dettmers et al.
/// ("8-bit Optimizers via Block-wise Quantization", arXiv:2110.02861), as bitsandbytes makes it. Of each
/// decade from 1e-7 to 1 the midpoints of twice as many equal parts as of the one below.
struct MomentLevels {
  // Of exp_avg, without sign. A code is the level's index, and 128 more where it is negative; 128 alone is 1.
  float first[129] = {};
  float second[256] = {};  // of exp_avg_sq: a code is the index
  // What lies between two levels: from here on the upper one is nearer.
  float first_midpoints[128] = {};
  float second_midpoints[255] = {};
};
constexpr MomentLevels make_moment_levels() {
  MomentLevels levels;
  int first = 1, second = 1;
  double decade = 1e-6;
  for (int i = 0; i < 7; ++i, decade *= 10) {
    const auto level = [&](int k, int parts) {
      return static_cast<float>(decade * (0.1 + 0.9 * (k + 0.5) / parts));
    };
    for (int k = 0; k < 1 << i; ++k) levels.first[first++] = level(k, 1 << i);
    for (int k = 0; k < 2 << i; ++k) levels.second[second++] = level(k, 2 << i);
  }
  levels.first[128] = levels.second[255] = 1;
  for (int i = 0; i < 128; ++i) levels.first_midpoints[i] = 0.5F * (levels.first[i] + levels.first[i + 1]);
  for (int i = 0; i < 255; ++i) levels.second_midpoints[i] = 0.5F * (levels.second[i] + levels.second[i + 1]);
  return levels;
}
constexpr MomentLevels kMomentLevels =
    make_moment_levels();  // not inline: units of instruction sets share nothing

/// The index of the level nearest to x, which is not negative, among `count` with these midpoints.
[[gnu::always_inline]] constexpr int nearest_level(const float* midpoints, int count, float x) {
  int index = 0;
  for (int step = 128; step > 0; step /= 2)
    if (index + step < count && x >= midpoints[index + step - 1]) index += step;
  return index;
}
/// x: in [-1, 1].
[[gnu::always_inline]] constexpr std::uint8_t first_moment_code(const MomentLevels& levels, float x) {
  const int index = nearest_level(levels.first_midpoints, 129, x < 0 ? -x : x);
  if (x >= 0 || index == 0) return static_cast<std::uint8_t>(index);
  return static_cast<std::uint8_t>(128 + (index < 128 ? index : 127));
}
[[gnu::always_inline]] constexpr float first_moment(const MomentLevels& levels, std::uint8_t code) {
  return code <= 128 ? levels.first[code] : -levels.first[code - 128];
}
/// x: in [0, 1]. What is not 0 does not become 0: an update divides by its root.
[[gnu::always_inline]] constexpr std::uint8_t second_moment_code(const MomentLevels& levels, float x) {
  const int index = nearest_level(levels.second_midpoints, 256, x);
  return static_cast<std::uint8_t>(index == 0 && x > 0 ? 1 : index);
}

/// Of a tensor's step.
[[gnu::always_inline]] constexpr std::uint32_t rounding_key(std::uint64_t seed, std::int32_t step) {
  const std::uint64_t x =
      (seed ^ (static_cast<std::uint64_t>(static_cast<std::uint32_t>(step)) << 32)) * 0x9E3779B97F4A7C15U;
  return static_cast<std::uint32_t>(x >> 32) ^ static_cast<std::uint32_t>(x);
}
/// Uniform bits for one element: a mix of 32 bits (Wellons' lowbias32) instead of Philox, which would take
/// longer than the update itself.
[[gnu::always_inline]] constexpr std::uint32_t rounding_bits(std::uint32_t key, std::int64_t index) {
  const auto i = static_cast<std::uint64_t>(index);
  std::uint32_t x = key ^ static_cast<std::uint32_t>(i) ^ static_cast<std::uint32_t>(i >> 32) * 0x85EBCA6BU;
  x = (x ^ x >> 16) * 0x7FEB352DU;
  x = (x ^ x >> 15) * 0x846CA68BU;
  return x ^ x >> 16;
}
/// The bits of x as bf16: the next one above in magnitude with the probability of what is cut off, so that
/// many small updates add up.
[[gnu::always_inline]] constexpr std::uint16_t round_at_random(std::uint32_t x_bits, std::uint32_t random) {
  return static_cast<std::uint16_t>((x_bits + (random & 0xffffU)) >> 16);
}

}  // namespace hone::kernels
