// Moments of eight bits, and rounding at random.
#include "kernels/moments.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>
#include <set>
#include <vector>

namespace hone::kernels {
namespace {

/// As bitsandbytes' create_dynamic_map(signed, max_exponent_bits=7, total_bits=8) makes it.
std::vector<double> dynamic_map(bool is_signed) {
  std::vector<double> map{0, 1};
  for (int i = 0; i < 7; ++i) {
    const int parts = is_signed ? 1 << i : 2 << i;
    for (int k = 0; k < parts; ++k) {
      const double low = 0.1 + 0.9 * k / parts, high = 0.1 + 0.9 * (k + 1) / parts;
      map.push_back(std::pow(10, i - 6) * (low + high) / 2);
      if (is_signed) map.push_back(-map.back());
    }
  }
  std::sort(map.begin(), map.end());
  return map;
}

double nearest(const std::vector<double>& map, double x) {
  return *std::min_element(map.begin(), map.end(),
                           [&](double a, double b) { return std::fabs(a - x) < std::fabs(b - x); });
}

std::vector<float> hard_numbers() {
  std::vector<float> numbers{0,      1,       1e-30F, 1e-8F, 2.7e-7F, 5.5e-7F,
                             0.995F, 0.9999F, 0.1F,   0.01F, 0.099F,  0.101F};
  for (int i = 0; i < 4000; ++i) numbers.push_back(std::pow(10.0F, -8.0F * static_cast<float>(i) / 4000));
  return numbers;
}

TEST(Moments, LevelsAreTheDynamicMap) {
  const auto is_signed = dynamic_map(true), is_unsigned = dynamic_map(false);
  ASSERT_EQ(is_signed.size(), 256U);
  ASSERT_EQ(is_unsigned.size(), 256U);
  std::vector<double> first, second;
  for (int code = 0; code < 256; ++code) {
    first.push_back(static_cast<double>(first_moment(kMomentLevels, static_cast<std::uint8_t>(code))));
    second.push_back(static_cast<double>(kMomentLevels.second[code]));
    EXPECT_EQ(first_moment_code(static_cast<float>(first.back())), code);
    EXPECT_EQ(second_moment_code(static_cast<float>(second.back())), code);
  }
  std::sort(first.begin(), first.end());
  for (std::size_t i = 0; i < 256; ++i) {
    EXPECT_NEAR(first[i], is_signed[i], 1e-7 * std::fabs(is_signed[i]));
    EXPECT_NEAR(second[i], is_unsigned[i], 1e-7 * is_unsigned[i]);
  }
}

TEST(Moments, BecomeTheNearestLevel) {
  const auto is_signed = dynamic_map(true), is_unsigned = dynamic_map(false);
  for (const float x : hard_numbers()) {
    for (const float each : {x, -x}) {
      const auto code = first_moment_code(each);
      const double level = static_cast<double>(first_moment(kMomentLevels, code)),
                   exact = static_cast<double>(each);
      EXPECT_LE(std::fabs(level - exact),
                std::fabs(nearest(is_signed, exact) - exact) + 2e-7 * std::fabs(exact))
          << each;
    }
    const double level = static_cast<double>(kMomentLevels.second[second_moment_code(x)]);
    const double exact = static_cast<double>(x);
    if (x > 0) {
      EXPECT_GT(level, 0) << x;
    }
    if (x > 2e-7F) {
      EXPECT_LE(std::fabs(level - exact), std::fabs(nearest(is_unsigned, exact) - exact) + 2e-7 * exact) << x;
    }
  }
}

/// How many of them are not above x.
template <std::size_t N>
int searched(const float (&midpoints)[N], float x) {
  return static_cast<int>(std::upper_bound(midpoints, midpoints + N, x) - midpoints);
}
void expect_the_nearest(float x) {
  const int first = searched(kMomentLevels.first_midpoints, x);
  const int second = std::max(searched(kMomentLevels.second_midpoints, x), x > 0 ? 1 : 0);
  ASSERT_EQ(first_moment_code(x), first) << x;
  ASSERT_EQ(first_moment_code(-x), first == 0 ? 0 : std::min(128 + first, 255)) << -x;
  ASSERT_EQ(second_moment_code(x), second) << x;
}

TEST(Moments, AreFoundAsBySearchOnBothSidesOfEveryStep) {
  const auto number = [](std::uint32_t bits) { return std::bit_cast<float>(std::min(bits, 0x3f800000U)); };
  const auto around = [&](std::uint32_t bits) {
    for (std::uint32_t i = bits - 3; i <= bits + 3; ++i)
      ASSERT_NO_FATAL_FAILURE(expect_the_nearest(number(i)));
  };
  for (const float m : kMomentLevels.first_midpoints) around(std::bit_cast<std::uint32_t>(m));
  for (const float m : kMomentLevels.second_midpoints) around(std::bit_cast<std::uint32_t>(m));
  // Where the floats of one entry end those of the next begin.
  for (std::uint32_t at = 0x30000000; at <= 0x3f800000; at += 1U << SecondFinder::kRest) around(at);
  for (std::uint32_t bits = 0; bits < 0x3f800000; bits += 8191)
    ASSERT_NO_FATAL_FAILURE(expect_the_nearest(number(bits)));
  for (const std::uint32_t bits : {0U, 1U, 2U, 0x7fffffU, 0x800000U, 0x3f7fffffU, 0x3f800000U})
    ASSERT_NO_FATAL_FAILURE(expect_the_nearest(number(bits)));
  EXPECT_EQ(first_moment_code(NAN), 0);
  EXPECT_EQ(second_moment_code(NAN), 0);
}

TEST(Moments, CodesOfFourAtOnceAreThoseOfOne) {
  for (std::uint32_t a = 0; a <= 128; ++a)
    for (std::uint32_t b = 0; b <= 128; ++b)
      for (std::uint32_t signs = 0; signs < 4; ++signs) {
        const auto one = [](std::uint32_t index, bool negative) {
          return negative && index > 0 ? std::min(128 + index, 255U) : index;
        };
        const std::uint32_t a_sign = (signs & 1) << 7, b_sign = (signs & 2) << 6;
        // What else the words of signs hold does not matter.
        const std::uint32_t got = first_codes(
            a | b << 8 | a << 16 | b << 24, 0x35353535U | a_sign | b_sign << 8 | a_sign << 16 | b_sign << 24);
        const std::uint32_t of_a = one(a, a_sign != 0), of_b = one(b, b_sign != 0);
        ASSERT_EQ(got, of_a | of_b << 8 | of_a << 16 | of_b << 24) << a << " " << b << " " << signs;
      }
}

/// As a block codes them: by the inverse of its scale, in f32.
TEST(Moments, BecomeTheLevelNearestToTheirPartOfTheScale) {
  const auto is_signed = dynamic_map(true), is_unsigned = dynamic_map(false);
  std::mt19937 random(7);
  for (int i = 0; i < 200'000; ++i) {
    // Any largest number but for infinities, and numbers down to 2^-24 of it.
    const auto largest = std::bit_cast<float>(static_cast<std::uint32_t>(random()) % 0x7f800000U);
    const float scale = moment_scale(largest), inverse = 1 / scale;
    const float x = std::ldexp(static_cast<float>(random() % (1U << 24)) * 0x1p-24F * largest,
                               -static_cast<int>(random() % 16));
    const float part = std::min(x * inverse, 1.0F);
    const double exact = std::min(static_cast<double>(x) / static_cast<double>(scale), 1.0);
    const double first = static_cast<double>(first_moment(kMomentLevels, first_moment_code(part)));
    ASSERT_LE(std::fabs(first - exact), std::fabs(nearest(is_signed, exact) - exact) + 4e-7 * exact)
        << x << " " << scale;
    const double second = static_cast<double>(kMomentLevels.second[second_moment_code(part)]);
    if (exact > 2e-7) {
      ASSERT_LE(std::fabs(second - exact), std::fabs(nearest(is_unsigned, exact) - exact) + 4e-7 * exact)
          << x << " " << scale;
    }
    if (part > 0) {
      ASSERT_GT(second, 0) << x << " " << scale;
    }
  }
}

TEST(Moments, HaveScalesThatCanBeInverted) {
  for (const float x : {0x1p-126F, 1e-30F, 1.0F, 1e30F, 0x1p125F}) EXPECT_EQ(moment_scale(x), x);
  for (const float x : {0.0F, 0x1p-149F, 0x1.fffffep-127F, NAN}) EXPECT_EQ(moment_scale(x), 0x1p-126F) << x;
  for (const float x : {0x1.000002p125F, 0x1.fffffep127F, INFINITY})
    EXPECT_EQ(moment_scale(x), 0x1p125F) << x;
}

float rounded(float x, std::uint32_t key, std::int64_t index) {
  const auto bits = round_at_random(std::bit_cast<std::uint32_t>(x), rounding_bits(key, index));
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

TEST(RandomRounding, IsRightOnAverageAndToANeighbour) {
  constexpr int kDraws = 200'000;
  for (const float x : {1.0F, 1.001F, -3.1415927F, 1e-20F, 123456.7F, 0.99999F, -1e-39F}) {
    for (const std::int64_t from : {std::int64_t{0}, std::int64_t{1} << 33}) {
      const std::uint32_t key = rounding_key(7, 3);
      std::set<float> seen;
      double sum = 0;
      for (int i = 0; i < kDraws; ++i) {
        const float y = rounded(x, key, from + i);
        seen.insert(y);
        sum += static_cast<double>(y);
      }
      ASSERT_LE(seen.size(), 2U) << x;
      const double gap = static_cast<double>(*seen.rbegin() - *seen.begin());
      EXPECT_NEAR(sum / kDraws, static_cast<double>(x), 4 * 0.5 * gap / std::sqrt(kDraws)) << x;
    }
  }
}

TEST(RandomRounding, StepsAndSeedsDoNotDrawTheSame) {
  constexpr int kDraws = 100'000;
  const auto equal = [](std::uint32_t a, std::uint32_t b) {
    int count = 0;
    for (int i = 0; i < kDraws; ++i)
      count += rounded(1.00390625F / 1.002F, a, i) == rounded(1.00390625F / 1.002F, b, i);
    return static_cast<double>(count) / kDraws;
  };
  const float x = 1.00390625F / 1.002F;
  int up = 0;
  for (int i = 0; i < kDraws; ++i) up += rounded(x, rounding_key(1, 0), i) > x ? 1 : 0;
  const double p = static_cast<double>(up) / kDraws, independent = p * p + (1 - p) * (1 - p);
  for (std::int32_t step = 1; step < 20; ++step)
    EXPECT_NEAR(equal(rounding_key(1, 0), rounding_key(1, step)), independent, 0.01) << step;
  for (std::uint64_t seed = 2; seed < 20; ++seed)
    EXPECT_NEAR(equal(rounding_key(1, 0), rounding_key(seed, 0)), independent, 0.01) << seed;
}

TEST(RandomRounding, KeepsWhatIsNotFinite) {
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(rounded(INFINITY, 5, i), INFINITY);
    EXPECT_TRUE(std::isnan(rounded(NAN, 5, i)));
  }
}

}  // namespace
}  // namespace hone::kernels
