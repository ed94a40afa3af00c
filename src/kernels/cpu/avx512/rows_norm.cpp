#include "kernels/cpu/rows_norm.h"

#include "kernels/cpu/simd_avx512.h"

namespace hone::kernels::cpu {

template void RowKernels<Avx512>::rms_norm(const RmsNormArgs& a, Stream& stream);
template void RowKernels<Avx512>::rms_norm_grad(const RmsNormGradArgs& a, Stream& stream);

}  // namespace hone::kernels::cpu
