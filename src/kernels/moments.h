// What optimizers keep in fewer bits: moments of eight, and weights of sixteen that are rounded at random.
#pragma once

#include <bit>
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

/// Finds the level nearest to a number without a search: of the floats that have the exponent and the first
/// kBits bits of mantissa in common there is an entry, and among them at most one midpoint. The rest of their
/// mantissa, added to the entry, carries into the index from that midpoint on. Nothing below kLeast lies
/// between two levels; kCount: of levels.
template <int kBits, std::uint32_t kLeast, int kCount>
struct LevelFinder {
  static constexpr int kRest = 23 - kBits;
  static constexpr std::uint32_t kOne = 0x3f800000, kFirst = kLeast >> kRest;
  static constexpr std::uint32_t kEntries = (kOne >> kRest) - kFirst + 1;
  static constexpr float kLeastNumber = std::bit_cast<float>(kLeast);
  std::uint32_t entries[kEntries] = {};

  /// What `find` takes of x, which is at most 1: its bits, or those of kLeast where it is below or NaN.
  [[gnu::always_inline]] static constexpr std::uint32_t bits_within(float x) {
    return std::bit_cast<std::uint32_t>(x > kLeastNumber ? x : kLeastNumber);
  }
  /// Of a float from kLeast to 1, by its bits: the index of the level nearest to it is the top byte.
  [[gnu::always_inline]] constexpr std::uint32_t find(std::uint32_t bits) const {
    return entries[(bits >> kRest) - kFirst] + (bits << (kBits + 1));
  }
  /// Makes the entries from behind the last midpoint below level `index` to the first one above it.
  constexpr void fill(const float* midpoints, int index) {
    const auto bits = [&](int i) { return std::bit_cast<std::uint32_t>(midpoints[i]); };
    const bool is_last = index == kCount - 1;
    std::uint32_t at = index > 0 && bits(index - 1) >= kLeast ? (bits(index - 1) >> kRest) + 1 : kFirst;
    const std::uint32_t end = is_last ? kFirst + kEntries : bits(index) >> kRest;
    const auto entry = [&] {
      return (static_cast<std::uint32_t>(index) - at) << 24;
    };  // at: of the number's own bits
    for (; at < end; ++at) entries[at - kFirst] = entry();
    if (!is_last && at == end)
      entries[at - kFirst] = entry() + (std::uint32_t{1} << 24) - (bits(index) << (kBits + 1) & 0xffffffU);
  }
};
/// The least midpoint of a first moment is 2.75e-7; and 5.5e-7 of a second one, which does not become 0 where
/// it is not 0: an update divides by its root. Of first moments 6 bits would do; by 7 the upper half of a
/// float is an entry's place, which cards add to an address in one instruction.
using FirstFinder = LevelFinder<7, std::bit_cast<std::uint32_t>(0x1.2p-22F), 129>;
using SecondFinder = LevelFinder<7, std::bit_cast<std::uint32_t>(0x1.2p-21F), 256>;
struct MomentFinders {
  FirstFinder first;
  SecondFinder second;
};
constexpr MomentFinders make_moment_finders() {
  MomentFinders finders;
  for (int i = 0; i < 129; ++i) finders.first.fill(kMomentLevels.first_midpoints, i);
  for (int i = 0; i < 256; ++i) finders.second.fill(kMomentLevels.second_midpoints, i);
  return finders;
}
constexpr MomentFinders kMomentFinders = make_moment_finders();

/// Codes of first moments, four in a word, from the indices of their levels (0 … 128) and words whose top bit
/// in a byte is set where they are negative.
[[gnu::always_inline]] constexpr std::uint32_t first_codes(std::uint32_t indices, std::uint32_t signs) {
  const std::uint32_t negative = signs & (indices + 0x7f7f7f7fU) & 0x80808080U;  // there is no -0
  const std::uint32_t full = indices & negative;                                 // nor a -1: the level before
  return (indices | negative) + (full - (full >> 7));
}
/// x: a first moment over its block's scale, in [-1, 1].
[[gnu::always_inline]] constexpr std::uint8_t first_moment_code(float x) {
  const std::uint32_t found = kMomentFinders.first.find(FirstFinder::bits_within(x < 0 ? -x : x));
  return static_cast<std::uint8_t>(first_codes(found >> 24, x < 0 ? 0x80 : 0));
}
[[gnu::always_inline]] constexpr float first_moment(const MomentLevels& levels, std::uint8_t code) {
  return code <= 128 ? levels.first[code] : -levels.first[code - 128];
}
/// x: a second moment over its block's scale, in [0, 1].
[[gnu::always_inline]] constexpr std::uint8_t second_moment_code(float x) {
  const std::uint32_t found = kMomentFinders.second.find(SecondFinder::bits_within(x));
  return static_cast<std::uint8_t>(x > 0 ? found >> 24 : 0);
}
/// The scale of a block from its largest magnitude: itself, as far as both it and its inverse are normal. So
/// a moment times the inverse, rounded twice, stands for the quotient: codes differ from those of the
/// quotient where it is within 2^-23 of the middle between two levels, and either is as near. What is larger
/// than the scale (an infinity) becomes the scale.
[[gnu::always_inline]] constexpr float moment_scale(float largest) {
  constexpr float kLeast = 0x1p-126F, kMost = 0x1p125F;
  const float above = largest > kLeast ? largest : kLeast;  // NaN: kLeast
  return above < kMost ? above : kMost;
}

/// Of a tensor's step.
[[gnu::always_inline]] constexpr std::uint32_t rounding_key(std::uint64_t seed, std::int32_t step) {
  const std::uint64_t x =
      (seed ^ (static_cast<std::uint64_t>(static_cast<std::uint32_t>(step)) << 32)) * 0x9E3779B97F4A7C15U;
  return static_cast<std::uint32_t>(x >> 32) ^ static_cast<std::uint32_t>(x);
}
/// Of an element, for uniform_bits: indices that differ in bits below 2^32 alone differ in the same bits
/// here.
[[gnu::always_inline]] constexpr std::uint32_t mixed_index(std::uint32_t key, std::int64_t index) {
  const auto i = static_cast<std::uint64_t>(index);
  return key ^ static_cast<std::uint32_t>(i) ^ static_cast<std::uint32_t>(i >> 32) * 0x85EBCA6BU;
}
/// A mix of 32 bits (Wellons' lowbias32) instead of Philox, which would take longer than the update itself.
/// But for its last step, in which the upper half is added (^) to the lower one.
[[gnu::always_inline]] constexpr std::uint32_t mixed_bits(std::uint32_t x) {
  x = (x ^ x >> 16) * 0x7FEB352DU;
  return (x ^ x >> 15) * 0x846CA68BU;
}
[[gnu::always_inline]] constexpr std::uint32_t uniform_bits(std::uint32_t x) {
  const std::uint32_t mixed = mixed_bits(x);
  return mixed ^ mixed >> 16;
}
/// Uniform bits for one element.
[[gnu::always_inline]] constexpr std::uint32_t rounding_bits(std::uint32_t key, std::int64_t index) {
  return uniform_bits(mixed_index(key, index));
}
/// The bits of x as bf16: the next one above in magnitude with the probability of what is cut off, so that
/// many small updates add up.
[[gnu::always_inline]] constexpr std::uint16_t round_at_random(std::uint32_t x_bits, std::uint32_t random) {
  return static_cast<std::uint16_t>((x_bits + (random & 0xffffU)) >> 16);
}

}  // namespace hone::kernels
