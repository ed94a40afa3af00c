#include "kernels/cpu/experts.h"

#include "kernels/cpu/simd_avx512_amx.h"

namespace hone::kernels::cpu {

template void MatrixKernels<Avx512Amx>::experts(const ExpertsArgs& args, Stream& stream);

}  // namespace hone::kernels::cpu
