#include "kernels/cpu/rows_router.h"

#include "kernels/cpu/simd_avx512.h"

namespace hone::kernels::cpu {

template void RowKernels<Avx512>::router(const RouterArgs& a, Stream& stream);
template void RowKernels<Avx512>::router_grad(const RouterGradArgs& a, Stream& stream);

}  // namespace hone::kernels::cpu
