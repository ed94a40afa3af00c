#include "kernels/cpu/fp8_experts.h"
#include "kernels/cpu/fp8_matmul.h"
#include "tests/kernels/emulated_amx/simd_emulated_amx.h"

namespace hone::kernels::cpu {

template struct Fp8Kernels<EmulatedAmx>;

}  // namespace hone::kernels::cpu
