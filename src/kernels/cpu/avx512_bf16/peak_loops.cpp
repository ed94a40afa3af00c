#include "kernels/cpu/peak_loops_impl.h"
#include "kernels/cpu/simd_avx512_bf16.h"

namespace hone::kernels::cpu {

template PeakLoops peak_loops<Avx512Bf16>();

}  // namespace hone::kernels::cpu
