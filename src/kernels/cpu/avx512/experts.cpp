#include "kernels/cpu/experts.h"

#include "kernels/cpu/simd_avx512.h"

namespace hone::kernels::cpu {

template void MatrixKernels<Avx512>::experts(const ExpertsArgs& args, Stream& stream);

}  // namespace hone::kernels::cpu
