#include "kernels/cpu/head.h"

#include HONE_ISA_HEADER

namespace hone::kernels::cpu {

template void MatrixKernels<HONE_ISA>::linear_cross_entropy(const LinearCrossEntropyArgs& args,
                                                            Stream& stream);
template void MatrixKernels<HONE_ISA>::head_statistics(const HeadStatisticsArgs& args, Stream& stream);
template void MatrixKernels<HONE_ISA>::head_grad(const HeadGradArgs& args, Stream& stream);

}  // namespace hone::kernels::cpu
