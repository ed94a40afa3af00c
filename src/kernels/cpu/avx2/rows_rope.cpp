#include "kernels/cpu/rows_rope.h"

#include "kernels/cpu/simd_avx2.h"

namespace hone::kernels::cpu {

template void RowKernels<Avx2>::head_norm_rope(const HeadNormRopeArgs& a, Stream& stream);
template void RowKernels<Avx2>::head_norm_rope_grad(const HeadNormRopeGradArgs& a, Stream& stream);

}  // namespace hone::kernels::cpu
