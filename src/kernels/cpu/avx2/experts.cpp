#include "kernels/cpu/experts.h"

#include "kernels/cpu/simd_avx2.h"

namespace hone::kernels::cpu {

template void MatrixKernels<Avx2>::experts(const ExpertsArgs& args, Stream& stream);

}  // namespace hone::kernels::cpu
