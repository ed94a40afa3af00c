#include "data/packing.h"

#include <bit>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/rng.h"

namespace hone::data {

namespace {

/// A set of integers below `size` that finds the least member not below a given one, in levels of 64-bit
/// words: a bit of a level says whether that word of the level below has members.
class IntegerSet {
 public:
  explicit IntegerSet(std::size_t size) {
    do {
      size = (size + 63) / 64;
      levels_.emplace_back(size, 0);
    } while (size > 1);
  }

  void insert(std::size_t value) {
    for (auto& level : levels_) {
      level[value / 64] |= std::uint64_t{1} << (value % 64);
      value /= 64;
    }
  }

  void erase(std::size_t value) {
    for (auto& level : levels_) {
      level[value / 64] &= ~(std::uint64_t{1} << (value % 64));
      if (level[value / 64] != 0) return;
      value /= 64;
    }
  }

  /// The least member that is at least `value`, or kNone.
  std::size_t at_least(std::size_t value) const {
    for (std::size_t depth = 0; depth < levels_.size(); ++depth) {
      const auto& level = levels_[depth];
      if (value / 64 >= level.size()) return kNone;
      const std::uint64_t word = level[value / 64] >> (value % 64);
      if (word != 0) return descend(depth, value + static_cast<std::size_t>(std::countr_zero(word)));
      value = value / 64 + 1;
    }
    return kNone;
  }

  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);

 private:
  std::size_t descend(std::size_t depth, std::size_t value) const {
    while (depth-- > 0)
      value = value * 64 + static_cast<std::size_t>(std::countr_zero(levels_[depth][value]));
    return value;
  }

  std::vector<std::vector<std::uint64_t>> levels_;
};

/// Items by falling length, those of one length in the given order: a counting sort.
std::vector<std::int64_t> by_falling_length(std::span<const std::int32_t> lengths, std::int64_t capacity,
                                            std::span<const std::int64_t> order) {
  std::vector<std::int64_t> place(static_cast<std::size_t>(capacity) + 2, 0);
  for (const auto length : lengths) {
    HONE_CHECK(length >= 1 && length <= capacity, "an item of {} for packs of {}", length, capacity);
    ++place[static_cast<std::size_t>(capacity - length) + 1];
  }
  std::partial_sum(place.begin(), place.end(), place.begin());
  std::vector<std::int64_t> sorted(lengths.size());
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    const auto item = order.empty() ? static_cast<std::int64_t>(i) : order[i];
    const auto length = lengths[static_cast<std::size_t>(item)];
    sorted[static_cast<std::size_t>(place[static_cast<std::size_t>(capacity - length)]++)] = item;
  }
  return sorted;
}

/// From the pack of each item to packs that ascend by their first item.
Packs gather(const std::vector<std::int64_t>& pack_of, std::int64_t num_packs) {
  std::vector<std::int64_t> rank(static_cast<std::size_t>(num_packs), -1);
  std::int64_t ranked = 0;
  Packs packs;
  packs.begin.assign(static_cast<std::size_t>(num_packs) + 1, 0);
  for (const auto pack : pack_of) {
    auto& r = rank[static_cast<std::size_t>(pack)];
    if (r < 0) r = ranked++;
    ++packs.begin[static_cast<std::size_t>(r) + 1];
  }
  std::partial_sum(packs.begin.begin(), packs.begin.end(), packs.begin.begin());
  auto next = packs.begin;
  packs.items.resize(pack_of.size());
  for (std::size_t item = 0; item < pack_of.size(); ++item) {
    const auto r = static_cast<std::size_t>(rank[static_cast<std::size_t>(pack_of[item])]);
    packs.items[static_cast<std::size_t>(next[r]++)] = static_cast<std::int64_t>(item);
  }
  return packs;
}

}  // namespace

Packs pack_best_fit(std::span<const std::int32_t> lengths, std::int64_t capacity,
                    std::span<const std::int64_t> order) {
  HONE_CHECK(capacity > 0, "packs of {}", capacity);
  HONE_CHECK(order.empty() || order.size() == lengths.size(), "an order of {} for {} items", order.size(),
             lengths.size());
  constexpr std::int64_t kNone = -1;
  IntegerSet spaces(static_cast<std::size_t>(capacity) + 1);                      // that open packs have left
  std::vector<std::int64_t> open(static_cast<std::size_t>(capacity) + 1, kNone);  // by space: a pack with it
  std::vector<std::int64_t> next;  // another pack with the same space
  std::vector<std::int64_t> pack_of(lengths.size());
  for (const auto item : by_falling_length(lengths, capacity, order)) {
    const auto length = static_cast<std::size_t>(lengths[static_cast<std::size_t>(item)]);
    auto space = spaces.at_least(length);
    auto pack = static_cast<std::int64_t>(next.size());
    if (space == IntegerSet::kNone) {
      space = static_cast<std::size_t>(capacity);
      next.push_back(kNone);
    } else {
      pack = std::exchange(open[space], next[static_cast<std::size_t>(open[space])]);
      if (open[space] == kNone) spaces.erase(space);
    }
    pack_of[static_cast<std::size_t>(item)] = pack;
    const auto left = space - length;
    if (left == 0) continue;
    next[static_cast<std::size_t>(pack)] = std::exchange(open[left], pack);
    spaces.insert(left);
  }
  return gather(pack_of, static_cast<std::int64_t>(next.size()));
}

std::vector<std::int64_t> random_permutation(std::int64_t n, std::uint64_t seed, std::uint64_t stream) {
  const CounterRng rng(seed, RngPurpose::kShuffle, stream);
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[rng.below(i, i)]);
  return order;
}

}  // namespace hone::data
