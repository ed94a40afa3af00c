#include "kernels/cpu/rows_router.h"

#include HONE_ISA_HEADER

namespace hone::kernels::cpu {

template void RowKernels<HONE_ISA>::router(const RouterArgs& a, Stream& stream);
template void RowKernels<HONE_ISA>::router_grad(const RouterGradArgs& a, Stream& stream);

}  // namespace hone::kernels::cpu
