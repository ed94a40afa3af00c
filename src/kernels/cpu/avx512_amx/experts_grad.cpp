#include "kernels/cpu/experts_grad.h"

#include "kernels/cpu/simd_avx512_amx.h"

namespace hone::kernels::cpu {

template void MatrixKernels<Avx512Amx>::experts_grad(const ExpertsGradArgs& args, Stream& stream);

}  // namespace hone::kernels::cpu
