#include "kernels/cpu/matmul.h"

#include "kernels/cpu/simd_avx512_amx.h"

namespace hone::kernels::cpu {

template void MatrixKernels<Avx512Amx>::matmul(const MatmulArgs& args, Stream& stream);

}  // namespace hone::kernels::cpu
