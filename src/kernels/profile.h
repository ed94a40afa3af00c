// Where the time of a program's kernels goes: each call's seconds, summed by slot.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/stopwatch.h"
#include "kernels/peak.h"

namespace hone::kernels {

/// Times every kernel that a Context calls while it is given to it (Context::set_profile).
class Profile {
 public:
  /// All calls of one slot.
  struct Slot {
    std::string_view name;
    std::int64_t calls = 0;
    double seconds = 0;
    double least_seconds = 0;     // the sum of each call's (peak.h)
    double flops = 0, bytes = 0;  // device::Cost
  };

  /// Runs `kernel()`, which puts a kernel of this slot and cost into the stream, and adds the seconds until
  /// it is done. Waits for the stream before and after: what runs beside each other otherwise runs in turn
  /// here.
  template <typename F>
  void time(std::string_view slot, const Cost& cost, Stream& stream, F kernel) {
    stream.synchronize();
    const Stopwatch watch;
    kernel();
    stream.synchronize();
    calls_.push_back({{slot, cost}, watch.seconds()});
  }

  /// The slots that were called, those that took longest first.
  std::vector<Slot> slots(const Ceilings& ceilings) const;

 private:
  struct Call {
    device::KernelCost kernel;
    double seconds;
  };
  std::vector<Call> calls_;
};

}  // namespace hone::kernels
