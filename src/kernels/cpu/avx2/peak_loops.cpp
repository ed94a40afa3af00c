#include "kernels/cpu/peak_loops_impl.h"
#include "kernels/cpu/simd_avx2.h"

namespace hone::kernels::cpu {

template PeakLoops peak_loops<Avx2>();

}  // namespace hone::kernels::cpu
