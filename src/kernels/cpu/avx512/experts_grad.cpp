#include "kernels/cpu/experts_grad.h"

#include "kernels/cpu/simd_avx512.h"

namespace hone::kernels::cpu {

template void MatrixKernels<Avx512>::experts_grad(const ExpertsGradArgs& args, Stream& stream);

}  // namespace hone::kernels::cpu
