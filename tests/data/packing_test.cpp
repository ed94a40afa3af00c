// Packs hold every item once, never too much, and little air.
#include "data/packing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "base/rng.h"

namespace hone::data {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;

std::vector<std::vector<std::int64_t>> listed(const Packs& packs) {
  std::vector<std::vector<std::int64_t>> result;
  for (std::int64_t i = 0; i < packs.size(); ++i) result.emplace_back(packs[i].begin(), packs[i].end());
  return result;
}

std::vector<std::int32_t> random_lengths(std::size_t n, std::uint64_t longest, std::uint64_t stream) {
  const CounterRng rng(1, RngPurpose::kBench, stream);
  std::vector<std::int32_t> lengths(n);
  for (std::size_t i = 0; i < n; ++i) lengths[i] = static_cast<std::int32_t>(1 + rng.below(i, longest));
  return lengths;
}

/// Best-fit decreasing as its definition has it: quadratic.
std::size_t plain_best_fit(std::vector<std::int32_t> lengths, std::int64_t capacity) {
  std::sort(lengths.rbegin(), lengths.rend());
  std::vector<std::int64_t> left;
  for (const auto length : lengths) {
    auto best = left.end();
    for (auto it = left.begin(); it != left.end(); ++it)
      if (*it >= length && (best == left.end() || *it < *best)) best = it;
    if (best == left.end()) best = left.insert(left.end(), capacity);
    *best -= length;
  }
  return left.size();
}

TEST(Packing, PutsItemsIntoTheFullestPackWithRoom) {
  // 60 and 50 open packs; 40 closes the first, 30 goes to the second, 20 closes that.
  const std::vector<std::int32_t> lengths{20, 40, 60, 30, 50};
  EXPECT_THAT(listed(pack_best_fit(lengths, 100)), ElementsAre(ElementsAre(0, 3, 4), ElementsAre(1, 2)));
}

TEST(Packing, HoldsEveryItemOnceAndNeverTooMuch) {
  for (const std::int64_t capacity : {1, 2, 63, 64, 65, 500, 5000}) {
    const auto lengths = random_lengths(3000, static_cast<std::uint64_t>(capacity), 0);
    const auto packs = pack_best_fit(lengths, capacity);
    auto items = packs.items;
    std::sort(items.begin(), items.end());
    std::vector<std::int64_t> all(lengths.size());
    std::iota(all.begin(), all.end(), 0);
    EXPECT_EQ(items, all);
    std::int64_t last_first = -1;
    for (const auto& pack : listed(packs)) {
      ASSERT_FALSE(pack.empty());
      EXPECT_TRUE(std::is_sorted(pack.begin(), pack.end()));
      EXPECT_LT(last_first, pack.front());
      last_first = pack.front();
      std::int64_t sum = 0;
      for (const auto item : pack) sum += lengths[static_cast<std::size_t>(item)];
      EXPECT_LE(sum, capacity);
    }
    EXPECT_EQ(static_cast<std::size_t>(packs.size()), plain_best_fit(lengths, capacity)) << capacity;
  }
}

TEST(Packing, FillsPacksOfShortItemsAlmostWholly) {
  const auto lengths = random_lengths(20000, 400, 1);
  const auto packs = pack_best_fit(lengths, 2048);
  const double tokens = std::accumulate(lengths.begin(), lengths.end(), 0.0);
  EXPECT_GT(tokens / (2048.0 * static_cast<double>(packs.size())), 0.999);
}

TEST(Packing, UsesTheGivenOrderAmongItemsOfOneLength) {
  const std::vector<std::int32_t> lengths{5, 5, 5, 5};
  const std::vector<std::int64_t> order{3, 0, 2, 1};
  EXPECT_THAT(listed(pack_best_fit(lengths, 10)), ElementsAre(ElementsAre(0, 1), ElementsAre(2, 3)));
  EXPECT_THAT(listed(pack_best_fit(lengths, 10, order)), ElementsAre(ElementsAre(0, 3), ElementsAre(1, 2)));
}

TEST(Packing, HasNoPacksWithoutItems) {
  EXPECT_EQ(pack_best_fit({}, 8).size(), 0);
}

TEST(Packing, RefusesItemsThatNoPackHolds) {
  const std::vector<std::int32_t> lengths{9};
  EXPECT_THROW(pack_best_fit(lengths, 8), Error);
}

TEST(RandomPermutation, IsAFunctionOfSeedAndStream) {
  const auto once = random_permutation(100, 7, 3);
  EXPECT_THAT(random_permutation(100, 7, 3), ElementsAreArray(once));
  EXPECT_NE(random_permutation(100, 7, 4), once);
  EXPECT_NE(random_permutation(100, 8, 3), once);
  auto sorted = once;
  std::sort(sorted.begin(), sorted.end());
  for (std::size_t i = 0; i < sorted.size(); ++i) EXPECT_EQ(sorted[i], static_cast<std::int64_t>(i));
}

TEST(RandomPermutation, PutsEveryItemAnywhere) {
  std::vector<std::vector<int>> counts(4, std::vector<int>(4, 0));
  for (std::uint64_t stream = 0; stream < 4000; ++stream) {
    const auto order = random_permutation(4, 1, stream);
    for (std::size_t i = 0; i < 4; ++i) ++counts[i][static_cast<std::size_t>(order[i])];
  }
  for (const auto& row : counts)
    for (const int count : row) EXPECT_NEAR(count, 1000, 140);  // five standard deviations
}

}  // namespace
}  // namespace hone::data
