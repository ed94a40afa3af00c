#include "kernels/cpu/linear_cross_entropy.h"

#include HONE_ISA_HEADER

namespace hone::kernels::cpu {

template void MatrixKernels<HONE_ISA>::linear_cross_entropy(const LinearCrossEntropyArgs& args,
                                                            Stream& stream);

}  // namespace hone::kernels::cpu
