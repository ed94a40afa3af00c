// Packing: many short items into few packs of fixed capacity.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace hone::data {

/// Packs of items. Every item is in exactly one; a pack's items ascend, and packs ascend by their first item.
struct Packs {
  std::vector<std::int64_t> items;     // of all packs, one after another
  std::vector<std::int64_t> begin{0};  // where each pack begins in `items`; one more than there are packs

  std::int64_t size() const { return static_cast<std::int64_t>(begin.size()) - 1; }
  std::span<const std::int64_t> operator[](std::int64_t pack) const {
    const auto first = static_cast<std::size_t>(begin[static_cast<std::size_t>(pack)]);
    const auto last = static_cast<std::size_t>(begin[static_cast<std::size_t>(pack) + 1]);
    return std::span(items).subspan(first, last - first);
  }
};

/// Best-fit decreasing: items by falling length, each into the fullest pack that still has room for it, or a
/// new one. `lengths` are between 1 and `capacity`; items of one length are placed in the order of `order` (a
/// permutation of all items; empty: their own order). Time is linear in items plus capacity.
Packs pack_best_fit(std::span<const std::int32_t> lengths, std::int64_t capacity,
                    std::span<const std::int64_t> order = {});

/// A uniformly random permutation of 0 … n - 1, a function of (seed, stream) alone.
std::vector<std::int64_t> random_permutation(std::int64_t n, std::uint64_t seed, std::uint64_t stream);

}  // namespace hone::data
