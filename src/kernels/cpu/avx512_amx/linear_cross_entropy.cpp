#include "kernels/cpu/linear_cross_entropy.h"

#include "kernels/cpu/simd_avx512_amx.h"

namespace hone::kernels::cpu {

template void MatrixKernels<Avx512Amx>::linear_cross_entropy(const LinearCrossEntropyArgs& args,
                                                             Stream& stream);

}  // namespace hone::kernels::cpu
