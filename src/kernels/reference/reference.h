// The reference kernels: the whole table in plain C++, one loop a formula, sums in double. They are the
// oracle of every other table and run where no vector instruction set is available.
#pragma once

#include "kernels/kernels.h"

namespace hone::kernels::reference {

#define HONE_SLOT(name, Args) void name(const Args& a, Stream& stream);
HONE_KERNEL_SLOTS(HONE_SLOT)
#undef HONE_SLOT

/// All of the above.
const KernelTable& table();

}  // namespace hone::kernels::reference
