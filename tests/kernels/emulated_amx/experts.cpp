#include "kernels/cpu/experts.h"
#include "kernels/cpu/experts_grad.h"
#include "kernels/cpu/linear_cross_entropy.h"
#include "tests/kernels/emulated_amx/simd_emulated_amx.h"

namespace hone::kernels::cpu {

template void MatrixKernels<EmulatedAmx>::experts(const ExpertsArgs& args, Stream& stream);
template void MatrixKernels<EmulatedAmx>::experts_grad(const ExpertsGradArgs& args, Stream& stream);
template void MatrixKernels<EmulatedAmx>::linear_cross_entropy(const LinearCrossEntropyArgs& args,
                                                               Stream& stream);

}  // namespace hone::kernels::cpu
