#include "kernels/cpu/rows_optimizer.h"

#include "kernels/cpu/simd_avx2.h"

namespace hone::kernels::cpu {

template void RowKernels<Avx2>::sum_of_squares(const SumOfSquaresArgs& a, Stream& stream);
template void RowKernels<Avx2>::adamw(const AdamWArgs& a, Stream& stream);
template void RowKernels<Avx2>::sgd(const SgdArgs& a, Stream& stream);

}  // namespace hone::kernels::cpu
