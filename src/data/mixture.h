// Which rows of several sources an epoch goes through. Inside this room only.
#pragma once

#include <cstdint>
#include <vector>

namespace hone::data {

/// The examples of one source: `count` of them from `first`, of which an epoch takes `per_epoch`.
struct MixturePart {
  std::int64_t first = 0, count = 0;
  double per_epoch = 0;
};

/// Every source is a stream, all its examples again and again (in a new order each time, when shuffling),
/// from which each epoch takes what it needs, going on where the one before ended: no example comes a third
/// time before all have come twice. A function of the parts, the seed and the epoch alone.
class Mixture {
 public:
  Mixture(std::vector<MixturePart> parts, bool shuffle, std::uint64_t seed)
      : parts_(std::move(parts)), shuffle_(shuffle), seed_(seed) {}

  /// Does every epoch go through every example once?
  bool is_plain() const;
  /// Has every epoch the same examples?
  bool is_constant() const;
  /// The examples of an epoch, source by source, those of one pass ascending without shuffling.
  std::vector<std::int64_t> epoch(std::int64_t epoch) const;

 private:
  std::vector<MixturePart> parts_;
  bool shuffle_;
  std::uint64_t seed_;
};

}  // namespace hone::data
