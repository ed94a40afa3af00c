// The reference kernels: the whole table in plain C++, one loop a formula, sums in double. They are the
// oracle of every other table and run where no vector instruction set is available.
#pragma once

#include "kernels/kernels.h"

namespace hone::kernels::reference {

#define HONE_SLOT(name, Args) void name(const Args& a, Stream& stream);
HONE_KERNEL_SLOTS(HONE_SLOT)
#undef HONE_SLOT

/// Of experts_grad, where they are wanted: dgate_up_squares and ddown_squares, from gradients that are there.
/// All CPU kernels take it.
void sum_expert_squares(const ExpertsGradArgs& g, Stream& stream);

/// All slots.
const KernelTable& table();

}  // namespace hone::kernels::reference
