#include "kernels/cpu/matmul.h"

#include "kernels/cpu/simd_avx512_bf16.h"

namespace hone::kernels::cpu {

template void MatrixKernels<Avx512Bf16>::matmul(const MatmulArgs& args, Stream& stream);

}  // namespace hone::kernels::cpu
