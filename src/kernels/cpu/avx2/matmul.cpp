#include "kernels/cpu/matmul.h"

#include "kernels/cpu/simd_avx2.h"

namespace hone::kernels::cpu {

template void MatrixKernels<Avx2>::matmul(const MatmulArgs& args, Stream& stream);

}  // namespace hone::kernels::cpu
