#include "kernels/cpu/rows_rope.h"

#include HONE_ISA_HEADER

namespace hone::kernels::cpu {

template void RowKernels<HONE_ISA>::head_norm_rope(const HeadNormRopeArgs& a, Stream& stream);
template void RowKernels<HONE_ISA>::head_norm_rope_grad(const HeadNormRopeGradArgs& a, Stream& stream);

}  // namespace hone::kernels::cpu
