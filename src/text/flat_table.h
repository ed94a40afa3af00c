// A hash table from pairs of ids, built once and then only read: one probe in one array, which
// std::unordered_map is not.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace hone::text::tok {

/// Open addressing with linear probes, at most half full. The pair (-1, -1) is not a key.
template <typename Value>
class PairTable {
 public:
  explicit PairTable(std::size_t expected = 0) { slots_.resize(std::bit_ceil(expected * 2 + 2)); }

  /// Inserts or overwrites. At most `expected` different keys may be inserted.
  void put(std::int32_t first, std::int32_t second, Value value) {
    const std::uint64_t key = key_of(first, second);
    std::size_t at = start_of(key);
    while (slots_[at].key != kEmpty && slots_[at].key != key) at = (at + 1) & (slots_.size() - 1);
    slots_[at] = {key, value};
  }

  /// The value of a key, or null.
  const Value* find(std::int32_t first, std::int32_t second) const {
    const std::uint64_t key = key_of(first, second);
    for (std::size_t at = start_of(key);; at = (at + 1) & (slots_.size() - 1)) {
      if (slots_[at].key == key) return &slots_[at].value;
      if (slots_[at].key == kEmpty) return nullptr;
    }
  }

 private:
  static constexpr std::uint64_t kEmpty = ~std::uint64_t{0};
  struct Slot {
    std::uint64_t key = kEmpty;
    Value value{};
  };

  static std::uint64_t key_of(std::int32_t first, std::int32_t second) {
    return std::uint64_t{static_cast<std::uint32_t>(first)} << 32 | static_cast<std::uint32_t>(second);
  }
  std::size_t start_of(std::uint64_t key) const {
    std::uint64_t mixed = key * 0x9E3779B97F4A7C15U;
    mixed ^= mixed >> 32;
    return static_cast<std::size_t>(mixed) & (slots_.size() - 1);
  }

  std::vector<Slot> slots_;
};

}  // namespace hone::text::tok
