// The reference table.
#include "kernels/reference/reference.h"

namespace hone::kernels::reference {

const KernelTable& table() {
  static const KernelTable kTable{
#define HONE_SLOT(name, Args) .name = name,
      HONE_KERNEL_SLOTS(HONE_SLOT)
#undef HONE_SLOT
  };
  return kTable;
}

}  // namespace hone::kernels::reference
