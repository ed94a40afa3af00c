#include "kernels/cpu/fp8_experts.h"
#include "kernels/cpu/fp8_matmul.h"

#include HONE_ISA_HEADER

namespace hone::kernels::cpu {

template struct Fp8Kernels<HONE_ISA>;

}  // namespace hone::kernels::cpu
