#include "kernels/cpu/rows_elementwise.h"

#include "kernels/cpu/simd_avx2.h"

namespace hone::kernels::cpu {

template void RowKernels<Avx2>::silu_mul(const SiluMulArgs& a, Stream& stream);
template void RowKernels<Avx2>::silu_mul_grad(const SiluMulGradArgs& a, Stream& stream);
template void RowKernels<Avx2>::row_gate(const RowGateArgs& a, Stream& stream);
template void RowKernels<Avx2>::row_gate_grad(const RowGateGradArgs& a, Stream& stream);
template void RowKernels<Avx2>::copy(const CopyArgs& a, Stream& stream);
template void RowKernels<Avx2>::clamp_grad(const ClampGradArgs& a, Stream& stream);
template void RowKernels<Avx2>::column_sum(const ColumnSumArgs& a, Stream& stream);

}  // namespace hone::kernels::cpu
