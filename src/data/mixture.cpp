#include "data/mixture.h"

#include <algorithm>
#include <cmath>

#include "base/content_hash.h"
#include "data/packing.h"

namespace hone::data {

namespace {

/// Examples of a part that the epochs before `epoch` took.
std::int64_t taken_before(const MixturePart& part, std::int64_t epoch) {
  return std::llround(static_cast<double>(epoch) * part.per_epoch);
}

/// Streams of random numbers beside those of packing.h, which count up from 0: one for each pass of a source.
std::uint64_t stream_of(std::size_t part, std::int64_t pass) {
  return mix_hash(mix_hash(0x6D697874757265, part), static_cast<std::uint64_t>(pass)) | std::uint64_t{1}
                                                                                            << 63;
}

}  // namespace

bool Mixture::is_plain() const {
  return std::all_of(parts_.begin(), parts_.end(),
                     [](const auto& p) { return p.per_epoch == static_cast<double>(p.count); });
}

bool Mixture::is_constant() const {
  return std::all_of(parts_.begin(), parts_.end(), [](const auto& p) {
    return p.count == 0 || std::fmod(p.per_epoch, static_cast<double>(p.count)) == 0;
  });
}

std::vector<std::int64_t> Mixture::epoch(std::int64_t epoch) const {
  std::vector<std::int64_t> examples;
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    const auto& part = parts_[i];
    if (part.count == 0) continue;
    std::int64_t at = taken_before(part, epoch);
    const std::int64_t end = taken_before(part, epoch + 1);
    while (at < end) {
      const std::int64_t pass = at / part.count;
      const std::int64_t begin = at % part.count;
      const std::int64_t size = std::min(end - at, part.count - begin);
      if (shuffle_ && size < part.count) {
        const auto order = random_permutation(part.count, seed_, stream_of(i, pass));
        for (std::int64_t j = begin; j < begin + size; ++j)
          examples.push_back(part.first + order[static_cast<std::size_t>(j)]);
      } else {
        for (std::int64_t j = begin; j < begin + size; ++j) examples.push_back(part.first + j);
      }
      at += size;
    }
  }
  return examples;
}

}  // namespace hone::data
