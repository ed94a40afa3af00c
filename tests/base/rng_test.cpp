// Philox4x32-10 against the known answers of its authors (Random123 1.14, tests/kat_vectors).
#include "base/rng.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace hone {
namespace {

using testing::ElementsAre;

TEST(Philox, GivesItsAuthorsAnswers) {
  EXPECT_THAT(philox(0, 0, 0), ElementsAre(0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u));
  const std::uint64_t ones = ~std::uint64_t{0};
  EXPECT_THAT(philox(ones, ones, ones), ElementsAre(0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu));
  EXPECT_THAT(philox(0x299f31d0a4093822, 0x85a308d3243f6a88, 0x0370734413198a2e),
              ElementsAre(0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u));
}

TEST(CounterRng, KeepsPurposesSeedsAndStreamsApart) {
  std::set<std::uint64_t> draws;
  for (const auto purpose : {RngPurpose::kInit, RngPurpose::kShuffle, RngPurpose::kBench})
    for (const std::uint64_t seed : {0, 1})
      for (const std::uint64_t stream : {0, 1}) draws.insert(CounterRng(seed, purpose, stream).bits(0));
  EXPECT_EQ(draws.size(), 12U);
}

TEST(CounterRng, DrawsInsideItsRange) {
  const CounterRng random(1, RngPurpose::kSampling);
  double sum = 0, squares = 0;
  constexpr int kDraws = 10'000;
  for (std::uint64_t i = 0; i < kDraws; ++i) {
    EXPECT_LT(random.below(i, 3), 3U);
    const double uniform = random.uniform(i), normal = random.normal(i);
    EXPECT_TRUE(uniform >= 0 && uniform < 1);
    sum += normal;
    squares += normal * normal;
  }
  EXPECT_NEAR(sum / kDraws, 0, 0.05);  // five standard deviations
  EXPECT_NEAR(squares / kDraws, 1, 0.08);
}

}  // namespace
}  // namespace hone
