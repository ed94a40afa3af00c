#include "kernels/cpu/rows_elementwise.h"

#include HONE_ISA_HEADER

namespace hone::kernels::cpu {

template void RowKernels<HONE_ISA>::activation(const ActivationArgs& a, Stream& stream);
template void RowKernels<HONE_ISA>::activation_grad(const ActivationGradArgs& a, Stream& stream);
template void RowKernels<HONE_ISA>::row_gate(const RowGateArgs& a, Stream& stream);
template void RowKernels<HONE_ISA>::row_gate_grad(const RowGateGradArgs& a, Stream& stream);
template void RowKernels<HONE_ISA>::copy(const CopyArgs& a, Stream& stream);
template void RowKernels<HONE_ISA>::clamp(const ClampArgs& a, Stream& stream);
template void RowKernels<HONE_ISA>::clamp_grad(const ClampGradArgs& a, Stream& stream);
template void RowKernels<HONE_ISA>::column_sum(const ColumnSumArgs& a, Stream& stream);

}  // namespace hone::kernels::cpu
