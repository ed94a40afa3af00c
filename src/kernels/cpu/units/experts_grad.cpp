#include "kernels/cpu/experts_grad.h"

#include HONE_ISA_HEADER

namespace hone::kernels::cpu {

template void MatrixKernels<HONE_ISA>::experts_grad(const ExpertsGradArgs& args, Stream& stream);

}  // namespace hone::kernels::cpu
