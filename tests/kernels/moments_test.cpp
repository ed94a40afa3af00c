// Moments of eight bits, and rounding at random.
#include "kernels/moments.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
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
    EXPECT_EQ(first_moment_code(kMomentLevels, static_cast<float>(first.back())), code);
    EXPECT_EQ(second_moment_code(kMomentLevels, static_cast<float>(second.back())), code);
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
      const auto code = first_moment_code(kMomentLevels, each);
      const double level = static_cast<double>(first_moment(kMomentLevels, code)),
                   exact = static_cast<double>(each);
      EXPECT_LE(std::fabs(level - exact), std::fabs(nearest(is_signed, exact) - exact) + 2e-7 * std::fabs(exact)) << each;
    }
    const double level = static_cast<double>(kMomentLevels.second[second_moment_code(kMomentLevels, x)]);
    const double exact = static_cast<double>(x);
    if (x > 0) {
      EXPECT_GT(level, 0) << x;
    }
    if (x > 2e-7F) {
      EXPECT_LE(std::fabs(level - exact), std::fabs(nearest(is_unsigned, exact) - exact) + 2e-7 * exact) << x;
    }
  }
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
