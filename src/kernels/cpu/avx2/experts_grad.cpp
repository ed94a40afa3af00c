#include "kernels/cpu/experts_grad.h"

#include "kernels/cpu/simd_avx2.h"

namespace hone::kernels::cpu {

template void MatrixKernels<Avx2>::experts_grad(const ExpertsGradArgs& args, Stream& stream);

}  // namespace hone::kernels::cpu
