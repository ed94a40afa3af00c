// The table of the kernels for NVIDIA cards: every slot.
#include "kernels/cuda/register.h"

namespace hone::kernels {

// A slot that has no kernel does not link.
const KernelTable& cuda_kernels() {
  static constexpr KernelTable kTable = [] {
    KernelTable table;
#define HONE_SLOT(name, ArgsOf) table.name = cuda::name;
    HONE_KERNEL_SLOTS(HONE_SLOT)
#undef HONE_SLOT
    return table;
  }();
  return kTable;
}

#define HONE_SLOT(name, ArgsOf)                      \
  std::int64_t cuda_scratch_bytes(const ArgsOf& a) { \
    return cuda::scratch_bytes_of(a);                \
  }
HONE_KERNEL_SLOTS(HONE_SLOT)
#undef HONE_SLOT

}  // namespace hone::kernels
