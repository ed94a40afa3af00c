#include "kernels/cpu/rows_elementwise.h"

#include "kernels/cpu/simd_avx512.h"

namespace hone::kernels::cpu {

template void RowKernels<Avx512>::silu_mul(const SiluMulArgs& a, Stream& stream);
template void RowKernels<Avx512>::silu_mul_grad(const SiluMulGradArgs& a, Stream& stream);
template void RowKernels<Avx512>::row_gate(const RowGateArgs& a, Stream& stream);
template void RowKernels<Avx512>::row_gate_grad(const RowGateGradArgs& a, Stream& stream);
template void RowKernels<Avx512>::copy(const CopyArgs& a, Stream& stream);
template void RowKernels<Avx512>::clamp_grad(const ClampGradArgs& a, Stream& stream);
template void RowKernels<Avx512>::column_sum(const ColumnSumArgs& a, Stream& stream);

}  // namespace hone::kernels::cpu
