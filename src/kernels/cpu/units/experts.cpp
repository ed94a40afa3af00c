#include "kernels/cpu/experts.h"

#include HONE_ISA_HEADER

namespace hone::kernels::cpu {

template void MatrixKernels<HONE_ISA>::experts(const ExpertsArgs& args, Stream& stream);

}  // namespace hone::kernels::cpu
