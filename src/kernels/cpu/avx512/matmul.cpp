#include "kernels/cpu/matmul.h"

#include "kernels/cpu/simd_avx512.h"

namespace hone::kernels::cpu {

template void MatrixKernels<Avx512>::matmul(const MatmulArgs& args, Stream& stream);

}  // namespace hone::kernels::cpu
