#include "kernels/cpu/peak_loops_impl.h"
#include HONE_ISA_HEADER

namespace hone::kernels::cpu {

template PeakLoops peak_loops<HONE_ISA>();

}  // namespace hone::kernels::cpu
