#include "kernels/cpu/rows_rope.h"

#include "kernels/cpu/simd_avx512_bf16.h"

namespace hone::kernels::cpu {

template void RowKernels<Avx512Bf16>::head_norm_rope(const HeadNormRopeArgs& a, Stream& stream);
template void RowKernels<Avx512Bf16>::head_norm_rope_grad(const HeadNormRopeGradArgs& a, Stream& stream);

}  // namespace hone::kernels::cpu
