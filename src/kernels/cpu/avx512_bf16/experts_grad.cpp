#include "kernels/cpu/experts_grad.h"

#include "kernels/cpu/simd_avx512_bf16.h"

namespace hone::kernels::cpu {

template void MatrixKernels<Avx512Bf16>::experts_grad(const ExpertsGradArgs& args, Stream& stream);

}  // namespace hone::kernels::cpu
