#include "kernels/cpu/rows_norm.h"

#include HONE_ISA_HEADER

namespace hone::kernels::cpu {

template void RowKernels<HONE_ISA>::rms_norm(const RmsNormArgs& a, Stream& stream);
template void RowKernels<HONE_ISA>::rms_norm_grad(const RmsNormGradArgs& a, Stream& stream);

}  // namespace hone::kernels::cpu
