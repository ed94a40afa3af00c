#include "kernels/profile.h"

#include <algorithm>

#include "base/error.h"

namespace hone::kernels {

std::string_view name_of(Phase phase) {
  switch (phase) {
    case Phase::kForward:
      return "forward";
    case Phase::kBackward:
      return "backward";
    case Phase::kOptimizer:
      return "optimizer";
  }
  HONE_CHECK(false, "no phase {}", static_cast<int>(phase));
}

namespace {
/// Whether a slot is the optimizer's, which also updates while gradients are made.
bool is_of_updates(std::string_view slot) {
  return slot == slot_of<SumOfSquaresArgs>().name || slot == slot_of<FinishNormArgs>().name ||
         slot == slot_of<NextStepArgs>().name || slot == slot_of<AdamWArgs>().name ||
         slot == slot_of<SgdArgs>().name;
}
}  // namespace

std::vector<Profile::Slot> Profile::slots(const Ceilings& ceilings) const {
  std::vector<Slot> slots;
  for (const Call& call : calls_) {
    auto slot = std::find_if(slots.begin(), slots.end(), [&](const Slot& other) {
      return other.name == call.slot && other.path == call.path;
    });
    if (slot == slots.end()) slot = slots.insert(slots.end(), Slot{.name = call.slot, .path = call.path});
    const double seconds = call.end != nullptr ? call.end->seconds_since(*call.begin) : call.seconds;
    ++slot->calls;
    slot->seconds += seconds;
    const Phase phase = is_of_updates(call.slot) ? Phase::kOptimizer : call.phase;
    slot->seconds_in[static_cast<std::size_t>(phase)] += seconds;
    slot->model_in[static_cast<std::size_t>(phase)] += call.model;
    slot->least_seconds += kernels::least_seconds(call.cost, ceilings);
    slot->flops += call.cost.flops;
    slot->bytes += call.cost.bytes;
    slot->model += call.model;
  }
  std::stable_sort(slots.begin(), slots.end(),
                   [](const Slot& a, const Slot& b) { return a.seconds > b.seconds; });
  return slots;
}

}  // namespace hone::kernels
