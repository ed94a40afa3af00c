#include "kernels/cpu/rows_optimizer.h"

#include "kernels/cpu/simd_avx512_bf16.h"

namespace hone::kernels::cpu {

template void RowKernels<Avx512Bf16>::sum_of_squares(const SumOfSquaresArgs& a, Stream& stream);
template void RowKernels<Avx512Bf16>::adamw(const AdamWArgs& a, Stream& stream);
template void RowKernels<Avx512Bf16>::sgd(const SgdArgs& a, Stream& stream);

}  // namespace hone::kernels::cpu
