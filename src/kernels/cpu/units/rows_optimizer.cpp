#include "kernels/cpu/rows_optimizer.h"

#include HONE_ISA_HEADER

namespace hone::kernels::cpu {

template void RowKernels<HONE_ISA>::sum_of_squares(const SumOfSquaresArgs& a, Stream& stream);
template void RowKernels<HONE_ISA>::adamw(const AdamWArgs& a, Stream& stream);
template void RowKernels<HONE_ISA>::sgd(const SgdArgs& a, Stream& stream);

}  // namespace hone::kernels::cpu
