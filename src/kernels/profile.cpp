#include "kernels/profile.h"

#include <algorithm>

namespace hone::kernels {

std::vector<Profile::Slot> Profile::slots(const Ceilings& ceilings) const {
  std::vector<Slot> slots;
  for (const auto& [kernel, seconds] : calls_) {
    auto slot = std::find_if(slots.begin(), slots.end(),
                             [&](const Slot& other) { return other.name == kernel.slot; });
    if (slot == slots.end()) slot = slots.insert(slots.end(), Slot{.name = kernel.slot});
    ++slot->calls;
    slot->seconds += seconds;
    slot->least_seconds += kernels::least_seconds(kernel.cost, ceilings);
    slot->flops += kernel.cost.flops;
    slot->bytes += kernel.cost.bytes;
  }
  std::stable_sort(slots.begin(), slots.end(),
                   [](const Slot& a, const Slot& b) { return a.seconds > b.seconds; });
  return slots;
}

}  // namespace hone::kernels
