#include "kernels/cpu/rows_router.h"

#include "kernels/cpu/simd_avx2.h"

namespace hone::kernels::cpu {

template void RowKernels<Avx2>::router(const RouterArgs& a, Stream& stream);
template void RowKernels<Avx2>::router_grad(const RouterGradArgs& a, Stream& stream);

}  // namespace hone::kernels::cpu
