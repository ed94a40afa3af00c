#include "kernels/cpu/rows_router.h"

#include "kernels/cpu/simd_avx512_bf16.h"

namespace hone::kernels::cpu {

template void RowKernels<Avx512Bf16>::router(const RouterArgs& a, Stream& stream);
template void RowKernels<Avx512Bf16>::router_grad(const RouterGradArgs& a, Stream& stream);

}  // namespace hone::kernels::cpu
