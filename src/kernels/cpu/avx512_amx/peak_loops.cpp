#include "kernels/cpu/peak_loops_impl.h"
#include "kernels/cpu/simd_avx512_amx.h"

namespace hone::kernels::cpu {

template PeakLoops peak_loops<Avx512Amx>();

}  // namespace hone::kernels::cpu
