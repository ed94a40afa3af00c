#include "kernels/cpu/matmul.h"

#include HONE_ISA_HEADER

namespace hone::kernels::cpu {

template void MatrixKernels<HONE_ISA>::matmul(const MatmulArgs& args, Stream& stream);

}  // namespace hone::kernels::cpu
