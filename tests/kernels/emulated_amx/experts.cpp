#include "kernels/cpu/experts.h"
#include "kernels/cpu/experts_grad.h"
#include "kernels/cpu/head.h"
#include "tests/kernels/emulated_amx/simd_emulated_amx.h"

namespace hone::kernels::cpu {

template void MatrixKernels<EmulatedAmx>::experts(const ExpertsArgs& args, Stream& stream);
template void MatrixKernels<EmulatedAmx>::experts_grad(const ExpertsGradArgs& args, Stream& stream);
template void MatrixKernels<EmulatedAmx>::linear_cross_entropy(const LinearCrossEntropyArgs& args,
                                                               Stream& stream);
template void MatrixKernels<EmulatedAmx>::head_statistics(const HeadStatisticsArgs& args, Stream& stream);
template void MatrixKernels<EmulatedAmx>::head_grad(const HeadGradArgs& args, Stream& stream);

}  // namespace hone::kernels::cpu
