// Counter-based random numbers: a draw is a pure function of its key and index, so it does not depend on
// ranks, threads, recompute or resume. Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1,
// 2, 3", SC 2011).
#pragma once

#include <array>
#include <cstdint>

namespace hone {

/// What a stream of random numbers is for; part of its key, so that two purposes never share numbers.
enum class RngPurpose : std::uint32_t {
  kInit = 1,
  kShuffle = 2,
  kSampling = 3,
  kDropout = 4,
  kRounding = 5,
  kBench = 6
};

/// Four 32-bit words for one (key, counter).
std::array<std::uint32_t, 4> philox(std::uint64_t key, std::uint64_t counter_low, std::uint64_t counter_high);

/// A stream of random numbers keyed by (seed, purpose, stream). Every draw names its index; nothing is
/// remembered.
class CounterRng {
 public:
  CounterRng(std::uint64_t seed, RngPurpose purpose, std::uint64_t stream = 0)
      : key_(seed ^ (static_cast<std::uint64_t>(purpose) << 56)), stream_(stream) {}

  /// 64 uniform bits.
  std::uint64_t bits(std::uint64_t index) const;
  /// Uniform in [0, 1), 53 bits.
  double uniform(std::uint64_t index) const;
  /// Standard normal (Box-Muller).
  double normal(std::uint64_t index) const;
  /// Uniform integer in [0, n); n > 0. Unbiased to 2^-64.
  std::uint64_t below(std::uint64_t index, std::uint64_t n) const;

 private:
  std::uint64_t key_;
  std::uint64_t stream_;
};

}  // namespace hone
