#include "kernels/cpu/linear_cross_entropy.h"

#include "kernels/cpu/simd_avx512_bf16.h"

namespace hone::kernels::cpu {

template void MatrixKernels<Avx512Bf16>::linear_cross_entropy(const LinearCrossEntropyArgs& args,
                                                              Stream& stream);

}  // namespace hone::kernels::cpu
