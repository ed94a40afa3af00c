// The table of the kernels for NVIDIA cards: every slot but the holes.
#include <algorithm>
#include <array>
#include <string_view>

#include "kernels/cuda/register.h"

namespace hone::kernels {

namespace {

/// Slots whose kernel is still to come.
constexpr auto kHoles = std::to_array<std::string_view>({"experts_grad"});

constexpr bool is_hole(std::string_view name) {
  return std::ranges::find(kHoles, name) != kHoles.end();
}

constexpr bool are_slots() {
  std::size_t found = 0;
  for_each_slot([&](auto slot) { found += is_hole(slot.name) ? 1 : 0; });
  return found == kHoles.size();
}
static_assert(are_slots(), "a hole that is no slot of the table");

}  // namespace

// A slot that is no hole and has no kernel does not link.
const KernelTable& cuda_kernels() {
  static constexpr KernelTable kTable = [] {
    KernelTable table;
#define HONE_SLOT(name, ArgsOf) \
  if constexpr (!is_hole(#name)) table.name = cuda::name;
    HONE_KERNEL_SLOTS(HONE_SLOT)
#undef HONE_SLOT
    return table;
  }();
  return kTable;
}

#define HONE_SLOT(name, ArgsOf)                                      \
  std::int64_t cuda_scratch_bytes(const ArgsOf& a) {                 \
    if constexpr (!is_hole(#name)) return cuda::scratch_bytes_of(a); \
    return 0;                                                        \
  }
HONE_KERNEL_SLOTS(HONE_SLOT)
#undef HONE_SLOT

}  // namespace hone::kernels
